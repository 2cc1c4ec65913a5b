// What becomes of a system call in which a thread was stopped: its context is written as if the
// call had not started yet (or had returned EINTR, where that is all that is true everywhere), so
// that it can go on on another machine. Pure: no system calls.
#pragma once

#include <cstdint>
#include <optional>

#include "stub/abi.h"
#include "trace/tracee.h"

namespace tess::home {

struct InterruptedCall {
  bool repeated = false;  // registers now stand before the call
  int64_t number = -1;
  bool may_end = false;  // a handler may end it: not with ERESTARTNOINTR
  bool ends = false;     // a handler ends it, whatever SA_RESTART says
  // The call sleeps for a relative time; where its argument lies and how it is written.
  enum class Timeout { kNone, kMilliseconds, kTimespec, kTimeval } timeout = Timeout::kNone;
  uint64_t timeout_value = 0;  // milliseconds, or the address of the timespec
  uint64_t remainder =
      0;  // address at which the kernel has put what is left, written as the argument; 0: nowhere
};

// Calls that return EINTR when their thread is only stopped and continued (signal(7)), so an EINTR
// found in them at a stop of ours was made by it, or belongs to a signal that is still pending and
// will interrupt the repeated call again.
bool returns_eintr_when_stopped(int64_t number);
// Of these, those that do so only if their socket has a timeout of its own.
bool ends_by_timeout_of_socket(int64_t number);
// Its arguments say how long it waits at the most (of the calls that are repeated with the rest).
bool has_time_limit(const trace::Registers& registers);
// The thread has been stopped in a call that the kernel would restart, or that ended only because
// of our stop.
bool stopped_in_call(const trace::Registers& registers);

// Changes `registers` in place. `restarted`: what restart_syscall went on with, if it is that
// (SleepClock::restarted). `cut`: the call's result is what it had transferred by then
// (transferred_when_cut).
InterruptedCall undo_interrupted_call(trace::Registers& registers, int64_t restarted = 0,
                                      bool cut = false);

// General registers in the order of a signal frame.
void set_gregs(stub::ThreadContext& context, const trace::Registers& registers);

}  // namespace tess::home
