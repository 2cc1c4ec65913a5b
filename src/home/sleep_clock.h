// When did each sleeping thread of a process go to sleep? The kernel does not tell what is left of
// an interrupted poll or of a nanosleep without a remainder, but its scheduler notes when a thread
// last left the processor (/proc/PID/task/TID/sched). Used to give a repeated call the rest of its
// time instead of all of it. Best effort: a thread of which nothing certain is known is simply not
// in the answer. Accuracy: well below a millisecond; never later than the truth by more than that,
// so a sleep does not end early.
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

 private:
  struct Entry {
    uint64_t started_ns;
    uint64_t voluntary_switches;
  };
  std::map<pid_t, Entry> entries_;
};

}  // namespace tess::home
