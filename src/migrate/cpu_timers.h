// POSIX timers on CPU time (timer_create(2)): they run where the process runs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <istream>
#include <vector>

namespace tess::migrate {

inline constexpr size_t kMostCpuTimers = 32;  // of a process that moves
inline constexpr int kCpuClockThreadBit = 4;  // of a clock id (linux/posix-timers.h)

struct CpuTimer {
  int32_t id = 0;
  // 0 in place of the process or thread: of the process itself, or of the thread that made it.
  int32_t clock = 0;
  int32_t signal = 0;         // 0: it tells nobody
  pid_t notified_thread = 0;  // as the reader sees it; 0: the process

  bool of_thread() const { return (clock & kCpuClockThreadBit) != 0; }
  // The process or thread, as the process itself sees it.
  int32_t owner() const { return ~(clock >> 3); }
};

// From the text of /proc/PID/timers (proc(5); Linux 3.10, with CONFIG_CHECKPOINT_RESTORE). What is
// not understood is left out.
std::vector<CpuTimer> parse_cpu_timers(std::istream& text);
// None if there is no such file.
std::vector<CpuTimer> cpu_timers_of(pid_t pid);

}  // namespace tess::migrate
