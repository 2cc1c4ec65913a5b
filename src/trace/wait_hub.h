// The only place that waits for processes: it empties waitpid(-1, __WALL) into queues, one event at
// a time, and everyone else asks it. Its constructor blocks SIGCHLD in the calling thread, so make
// it before any other thread exists. Owned and used by the tracing thread only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <deque>
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
    kExited,     // the thread (or process) ended: status() is its wait status
    kSignal,     // about to receive signal()
    kSyscall,    // entry or exit of a system call
    kInterrupt,  // PTRACE_EVENT_STOP, no group-stop: PTRACE_INTERRUPT, a new thread, or the end of
                 // a group-stop
    kGroupStop,  // PTRACE_EVENT_STOP with signal() one of the stopping ones
    kEvent,      // PTRACE_EVENT_FORK and others: event()
  };

  WaitEvent(pid_t tid, int status);

  pid_t tid() const { return tid_; }
  int status() const { return status_; }
  Kind kind() const { return kind_; }
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

  // Becomes readable when something may have happened; next() takes the notification off.
  int fd() const { return signal_fd_.get(); }
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
  // Puts an event back for next().
  void put_back(const WaitEvent& event) { queue_.push_back(event); }
  bool queued() const { return !queue_.empty(); }

 private:
  explicit WaitHub(sys::Fd signal_fd) : signal_fd_(std::move(signal_fd)) {}
  void collect();
  Result<> sleep_until(Deadline deadline);

  sys::Fd signal_fd_;
  std::deque<WaitEvent> queue_;
};

}  // namespace tess::trace
