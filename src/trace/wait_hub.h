// The only place that waits for processes: it empties waitpid(-1, __WALL) into queues, one event at
// a time, and everyone else asks it. Its constructor blocks SIGCHLD in the calling thread, so make
// it before any other thread exists. Owned and used by the tracing thread only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::trace {

using Deadline = std::chrono::steady_clock::time_point;

inline Deadline after(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// What waitpid said of one thread. Death is one of the values, not an error.
class WaitEvent {
 public:
  enum class Kind {
    kEnding,     // a leader is past its last instruction and is no longer traced; the end of its
                 // process is told by kExited, when all its threads have ended
    kExited,     // the thread (or process) ended: status() is its wait status
    kSignal,     // about to receive signal()
    kSyscall,    // entry or exit of a system call
    kInterrupt,  // PTRACE_EVENT_STOP, no group-stop: PTRACE_INTERRUPT, a new thread, or the end of
                 // a group-stop
    kGroupStop,  // PTRACE_EVENT_STOP with signal() one of the stopping ones
    kEvent,      // PTRACE_EVENT_FORK and others: event()
  };

  WaitEvent(pid_t tid, int status);
  WaitEvent(pid_t tid, int status, Kind kind) : tid_(tid), status_(status), kind_(kind) {}

  pid_t tid() const { return tid_; }
  int status() const { return status_; }
  Kind kind() const { return kind_; }
  // It makes no more system calls and answers no ptrace request.
  bool is_end() const { return kind_ == Kind::kEnding || kind_ == Kind::kExited; }
  int signal() const { return (status_ >> 8) & 0x7f; }
  int event() const { return status_ >> 16; }

 private:
  pid_t tid_;
  int status_;
  Kind kind_;
};

class WaitHub {
 public:
  static Result<WaitHub> create();

  // Called for a process that has come to its last stop, with its wait status: nobody can have
  // waited for it yet.
  void on_end(std::function<void(pid_t, int)> ending) { ending_soon_ = std::move(ending); }

  // Becomes readable when something may have happened; next() takes the notification off.
  int fd() const { return ready_.get(); }
  // The oldest event of any thread, nullopt when there is none now.
  std::optional<WaitEvent> next();
  // The oldest event of this thread; events of others stay queued for next(). kRetry when the time
  // is up.
  Result<WaitEvent> wait_for(pid_t tid, Deadline deadline);
  // The oldest event of any of the threads that `wanted` accepts. kRetry when the time is up.
  template <typename Wanted>
  Result<WaitEvent> wait_for_any(Wanted wanted, Deadline deadline) {
    while (true) {
      collect();
      for (auto it = queue_.begin(); it != queue_.end(); ++it) {
        if (wanted(it->tid())) {
          WaitEvent event = *it;
          queue_.erase(it);
          return event;
        }
      }
      TESS_TRY(sleep_until(deadline));
    }
  }
  // Puts the event back that has just been taken: what came after it stays behind it.
  void put_back(const WaitEvent& event) { queue_.push_front(event); }
  // Tells of the end of a process whose leader is not traced (any more), as kExited with `status`.
  // That of a leader which ends before other threads is its own, whatever these do after it.
  Result<> watch_end(pid_t pid, int status);
  // It has been let go at its end, which has not been told yet.
  bool ending(pid_t pid) const { return ending_.contains(pid); }
  bool queued() const { return !queue_.empty(); }

 private:
  // A process whose leader has been let go at its end.
  struct Ending {
    sys::Fd pidfd;
    int status = 0;
  };

  WaitHub(sys::Fd ready, sys::Fd signal_fd)
      : ready_(std::move(ready)), signal_fd_(std::move(signal_fd)) {}
  void collect();
  bool let_end(pid_t tid);
  void collect_ended();
  Result<> sleep_until(Deadline deadline);

  sys::Fd ready_;  // epoll of all others
  sys::Fd signal_fd_;
  std::map<pid_t, Ending> ending_;
  std::function<void(pid_t, int)> ending_soon_;
  std::deque<WaitEvent> queue_;
};

}  // namespace tess::trace
