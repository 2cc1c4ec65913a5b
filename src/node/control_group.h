// What the control groups above this process leave it: the least of memory and CPU that any level
// from its own group up to the top of the mount allows, of version 1 and 2. A path that is not
// there (a container that sees only its own part of the tree) counts as the top. Reads a few small
// files; `membership` is the text of /proc/self/cgroup, `root` is /sys/fs/cgroup.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tess::node {

struct CgroupMemory {
  uint64_t limit = 0;  // the smallest memory.max or memory.high
  // The least that may still be had at any level: what is used there does not count as far as it is
  // pages of files that nobody has looked at lately, which the kernel gives up first.
  uint64_t free = 0;
};
// nullopt without a limit.
std::optional<CgroupMemory> cgroup_memory(const std::string& membership, const std::string& root);

// CPUs by the smallest quota; nullopt without a limit. A cpuset is told by sched_getaffinity.
std::optional<double> cgroup_cpus(const std::string& membership, const std::string& root);

}  // namespace tess::node
