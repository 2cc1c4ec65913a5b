// Foreground: stands between a shell and a child that is a process group of its own, so that the
// child is what the terminal sees: it gets the keys, stops and goes on, while the shell believes
// all of that of this process.
//
// The child has its own group because ours is unknown in its pid namespace (getpgrp() would be 0
// there, and job control impossible).
#pragma once

#include <optional>

#include "base/result.h"
#include "sys/process.h"
#include "sys/signals.h"

namespace tess::lab {

class Foreground {
 public:
  // Before the fork: opens the terminal, blocks the signals that will be passed on.
  static Result<Foreground> prepare();

  // In the child, before exec: its own group, the terminal if we have it, the signal mask as it
  // was.
  void enter_child() const;
  // In the parent: until the child ends.
  Result<sys::ExitStatus> attend(sys::Process child);

 private:
  Foreground(sys::Fd terminal, bool hand_over, sys::SignalFd signals, const sigset_t& old_mask)
      : terminal_(std::move(terminal)),
        hand_over_(hand_over),
        signals_(std::move(signals)),
        old_mask_(old_mask) {}

  bool we_have_terminal() const;
  void give_terminal(pid_t group) const;
  void take_terminal_back();
  void pass_on(const sys::Process& child, const sys::ReceivedSignal& signal) const;
  void on_stop(const sys::Process& child, int signal);

  sys::Fd terminal_;  // invalid: no controlling terminal
  bool hand_over_;    // the child's group is (to be) in the foreground
  sys::SignalFd signals_;
  sigset_t old_mask_;
};

}  // namespace tess::lab
