// Clocks of the kernel as one number.
#pragma once

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

namespace tess::sys {

// Nanoseconds, clock_gettime(2). For clocks that every kernel has.
inline int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

// Before a process goes on whose clock was ahead of the one that it reads from now on: waits that
// out, so that its time does not jump back. At most two seconds: more is no error of measuring, and
// no reason to keep it.
inline void catch_up(int64_t behind_ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t end = clock_ns(CLOCK_MONOTONIC) + std::clamp<int64_t>(behind_ns, 0, 2 * kSecond);
  const timespec until{end / kSecond, end % kSecond};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
  }
}

}  // namespace tess::sys
