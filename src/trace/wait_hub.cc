#include "trace/wait_hub.h"

#include <poll.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <cerrno>

namespace tess::trace {
namespace {

constexpr int kSyscallBit = 0x80;  // PTRACE_O_TRACESYSGOOD

WaitEvent::Kind classify(int status) {
  if (!WIFSTOPPED(status)) {
    return WaitEvent::Kind::kExited;
  }
  const int event = status >> 16;
  const int signal = WSTOPSIG(status);
  if (event == PTRACE_EVENT_STOP) {
    return signal == SIGTRAP ? WaitEvent::Kind::kInterrupt : WaitEvent::Kind::kGroupStop;
  }
  if (event != 0) {
    return WaitEvent::Kind::kEvent;
  }
  return signal == (SIGTRAP | kSyscallBit) ? WaitEvent::Kind::kSyscall : WaitEvent::Kind::kSignal;
}

}  // namespace

WaitEvent::WaitEvent(pid_t tid, int status) : tid_(tid), status_(status), kind_(classify(status)) {}

Result<WaitHub> WaitHub::create() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    errno = error;
    return fail_errno("block SIGCHLD");
  }
  sys::Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) {
    return fail_errno("make a signalfd for SIGCHLD");
  }
  return WaitHub(std::move(fd));
}

void WaitHub::collect() {
  // SIGCHLD does not queue: first take the notification off, then look at everything there is, so
  // that nothing that happens in between is missed.
  signalfd_siginfo info;
  while (::read(signal_fd_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
  }
  while (true) {
    int status = 0;
    const pid_t tid = ::waitpid(-1, &status, __WALL | WNOHANG);
    if (tid < 0 && errno == EINTR) {
      continue;
    }
    if (tid <= 0) {
      return;
    }
    queue_.emplace_back(tid, status);
  }
}

std::optional<WaitEvent> WaitHub::next() {
  collect();
  if (queue_.empty()) {
    return std::nullopt;
  }
  WaitEvent event = queue_.front();
  queue_.pop_front();
  return event;
}

Result<WaitEvent> WaitHub::wait_for(pid_t tid, Deadline deadline) {
  return wait_for_any([tid](pid_t other) { return other == tid; }, deadline);
}

Result<> WaitHub::sleep_until(Deadline deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  if (left.count() <= 0) {
    return fail(ErrorKind::kRetry, "the time to wait for a thread is up");
  }
  pollfd poll_fd{.fd = signal_fd_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&poll_fd, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
    return fail_errno("wait for SIGCHLD");
  }
  return {};
}

}  // namespace tess::trace
