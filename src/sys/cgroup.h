// Cgroup: a named group of processes with limits, over version 1 (one directory for each
// controller), version 2 or a mix of both, whatever the machine has. The caller need not know
// which.
//
// A group is a name on the machine, not a resource of this process: it outlives it, and is removed
// by remove(). Version 2 groups are made at the top of the hierarchy (a group with processes of its
// own cannot have limited children), version 1 groups below the caller's own.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace tess::sys {

struct CgroupLimits {
  std::optional<double> cpus;  // 0.5: half of one CPU
  std::optional<uint64_t> memory_bytes;
};

class Cgroup {
 public:
  // Makes the group `name` (one path component) with the limits, in every controller that a limit
  // needs. kNotPossible, with the reason, where the machine cannot; nothing is left then.
  static Result<Cgroup> make(const std::string& name, const CgroupLimits& limits);
  // Where make() would put it: to be noted down before, so that even a kill in between leaves
  // nothing unknown behind.
  static Result<std::vector<std::string>> plan(const std::string& name, const CgroupLimits& limits);
  // A group made earlier, by the paths() it had.
  explicit Cgroup(std::vector<std::string> paths) : paths_(std::move(paths)) {}

  const std::vector<std::string>& paths() const { return paths_; }
  // The calling process and all children to come.
  Result<> join() const;
  // Waits until no process is left in it, then removes it. Success if it is gone already.
  Result<> remove(std::chrono::milliseconds timeout) const;

 private:
  std::vector<std::string> paths_;
};

}  // namespace tess::sys
