#include "trace/wait_hub.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

bool at_its_end(int status) {
  return WIFSTOPPED(status) && status >> 16 == PTRACE_EVENT_EXIT;
}

bool watch(const sys::Fd& epoll, const sys::Fd& fd) {
  epoll_event wanted{.events = EPOLLIN, .data = {}};
  return ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &wanted) == 0;
}

bool readable(const sys::Fd& fd) {
  pollfd one{.fd = fd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&one, 1, 0) == 1;
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
  sys::Fd ready(::epoll_create1(EPOLL_CLOEXEC));
  if (!ready.valid() || !watch(ready, fd)) {
    return fail_errno("make an epoll for SIGCHLD");
  }
  return WaitHub(std::move(ready), std::move(fd));
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
      break;
    }
    ending_.erase(tid);  // another thread of it has executed a program, and is the leader now
    if (!at_its_end(status) || !let_end(tid)) {
      queue_.emplace_back(tid, status);
    }
  }
  collect_ended();
}

// A traced process that has ended is shown to its tracer first and to its parent later
// (wait_consider_task), but its pidfd is readable at once: the parent would look and find nothing.
// So no process ends traced: its leader is let go at the stop before its end. False if that does
// not work, and the thread stands in the stop still or has been killed: waitpid tells of its end.
bool WaitHub::let_end(pid_t tid) {
  unsigned long status = 0;  // of do_exit, in the form of wait(2)
  (void)::ptrace(PTRACE_GETEVENTMSG, tid, nullptr, &status);
  if (!watch_end(tid, static_cast<int>(status))) {
    return false;
  }
  if (ending_soon_) {
    ending_soon_(tid, static_cast<int>(status));
  }
  if (::ptrace(PTRACE_DETACH, tid, nullptr, nullptr) != 0) {
    ending_.erase(tid);
    return false;
  }
  queue_.emplace_back(tid, static_cast<int>(status), WaitEvent::Kind::kEnding);
  return true;
}

Result<> WaitHub::watch_end(pid_t pid, int status) {
  sys::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid() || !watch(ready_, pidfd)) {
    return fail_errno("watch for the end of process {}", pid);
  }
  ending_[pid] = Ending{std::move(pidfd), status};
  return {};
}

void WaitHub::collect_ended() {
  for (auto it = ending_.begin(); it != ending_.end();) {
    if (readable(it->second.pidfd)) {
      queue_.emplace_back(it->first, it->second.status, WaitEvent::Kind::kExited);
      it = ending_.erase(it);
    } else {
      ++it;
    }
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
  pollfd poll_fd{.fd = ready_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&poll_fd, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
    return fail_errno("wait for what threads do");
  }
  return {};
}

}  // namespace tess::trace
