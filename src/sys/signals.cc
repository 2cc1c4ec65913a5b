#include "sys/signals.h"

#include <sys/signalfd.h>
#include <unistd.h>

namespace tess::sys {

Result<SignalFd> SignalFd::block(std::initializer_list<int> signals) {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  for (const int number : signals) {
    ::sigaddset(&wanted, number);
  }
  Fd fd(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return fail_errno("make a signalfd");
  }
  sigset_t old_mask;
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &wanted, &old_mask); error != 0) {
    errno = error;
    return fail_errno("block signals");
  }
  return SignalFd(std::move(fd), old_mask);
}

SignalFd::SignalFd(SignalFd&& other) noexcept
    : fd_(std::move(other.fd_)), old_mask_(other.old_mask_) {}

SignalFd::~SignalFd() {
  if (fd_.valid()) {
    ::pthread_sigmask(SIG_SETMASK, &old_mask_, nullptr);
  }
}

Result<std::optional<ReceivedSignal>> SignalFd::next() {
  signalfd_siginfo info{};
  ssize_t n = 0;
  while ((n = ::read(fd_.get(), &info, sizeof(info))) < 0 && errno == EINTR) {
  }
  if (n < 0 && errno == EAGAIN) {
    return std::nullopt;
  }
  if (n != sizeof(info)) {
    return fail_errno("read a signal");
  }
  return ReceivedSignal{static_cast<int>(info.ssi_signo), static_cast<pid_t>(info.ssi_pid),
                        info.ssi_code};
}

}  // namespace tess::sys
