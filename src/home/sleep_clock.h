// When did each sleeping thread of a process go to sleep? The kernel does not tell what is left of
// an interrupted poll or of a nanosleep without a remainder, but its scheduler notes when a thread
// last left the processor (/proc/PID/task/TID/sched). Used to give a repeated call the rest of its
// time instead of all of it. And in which call? One that goes on after a stop is restart_syscall to
// everybody (restart_syscall(2)), which means nothing on another machine. Best effort: a thread of
// which nothing certain is known is simply not in the answer. Accuracy: well below a millisecond;
// never later than the truth by more than that, so a sleep does not end early.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>

namespace tess::home {

class SleepClock {
 public:
  // While the process still runs undisturbed.
  static SleepClock look_before_hold(pid_t pid);
  // Once all threads are held: forgets those that have run in between.
  void confirm_after_hold(pid_t pid);
  // CLOCK_MONOTONIC in ns; 0: not known.
  uint64_t started(pid_t tid) const;
  // The call that the thread's restart_syscall goes on with; 0: it is not in that.
  int64_t restarted(pid_t tid) const;

 private:
  struct Entry {
    uint64_t started_ns;
    uint64_t voluntary_switches;
  };
  std::map<pid_t, Entry> entries_;
  std::map<pid_t, int64_t> restarted_;
};

}  // namespace tess::home
