// Clocks of the kernel as one number.
#pragma once

#include <time.h>

#include <cstdint>

namespace tess::sys {

// Nanoseconds, clock_gettime(2). For clocks that every kernel has.
inline int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace tess::sys
