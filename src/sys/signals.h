// SignalFd: signals as something to read. While it lives the signals are blocked in the thread that
// made it; the destructor puts the old mask back (and what is
// pending but unread then strikes). Make it before other threads start, as they
// inherit the mask. Children made by Process::spawn start with an empty mask.
#pragma once

#include <signal.h>

#include <initializer_list>
#include <optional>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

struct ReceivedSignal {
  int number = 0;
  pid_t sender = 0;  // 0 if from outside this pid namespace or from the kernel
  int code = 0;      // SI_USER, SI_KERNEL, …
};

class SignalFd {
 public:
  static Result<SignalFd> block(std::initializer_list<int> signals);
  ~SignalFd();
  SignalFd(SignalFd&& other) noexcept;
  SignalFd& operator=(SignalFd&&) = delete;

  const Fd& fd() const { return fd_; }
  // The next pending signal; nullopt if there is none now. Never blocks.
  Result<std::optional<ReceivedSignal>> next();

 private:
  SignalFd(Fd fd, const sigset_t& old_mask) : fd_(std::move(fd)), old_mask_(old_mask) {}

  Fd fd_;
  sigset_t old_mask_;
};

}  // namespace tess::sys
