// What one process has used so far, from /proc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

namespace tess::node {

struct ProcessUse {
  uint64_t ran_ns = 0;     // of its threads that live
  uint64_t waited_ns = 0;  // for a CPU
  uint64_t memory_bytes = 0;
  uint64_t calls = 0;     // reads and writes
  uint64_t switches = 0;  // times that it gave up a CPU of itself
};

// Ran and waited, in nanoseconds, of all threads; nullopt: it is gone.
std::optional<uint64_t> process_demand_ns(pid_t pid);
std::optional<ProcessUse> process_use(pid_t pid);

}  // namespace tess::node
