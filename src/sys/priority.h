// Scheduling of processes that many others wait for.
#pragma once

#include <thread>
#include <utility>

#include "base/result.h"

namespace tess::sys {

// From now on the calling thread goes before ordinary ones (nice -10), and where the kernel shares
// CPUs among sessions first, its session does, too. What the thread starts, threads included, does
// not inherit it (sched(7), SCHED_RESET_ON_FORK).
Result<> take_priority();
// The same, async-signal-safe. False with errno.
bool try_priority();

// A thread of such a process that others wait for as well. Without the privilege it is like any.
template <typename Work>
std::thread priority_thread(Work work) {
  return std::thread([work = std::move(work)]() mutable {
    (void)try_priority();
    work();
  });
}

}  // namespace tess::sys
