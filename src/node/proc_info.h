// What tessd asks /proc: facts about this machine, and about a process before anything is done to
// it.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"

namespace tess::node {

struct ProcessFacts {
  std::string name;
  char state = '?';  // as in /proc/PID/status: R, S, D, T, t, Z, X…
  pid_t parent = 0;
  pid_t tracer = 0;
  pid_t thread_group = 0;
  int threads = 0;              // a zombie with more than one: only its first thread has ended
  std::array<uid_t, 4> uids{};  // real, effective, saved, file system
};

// nullopt: there is no such process.
Result<std::optional<ProcessFacts>> process_facts(pid_t pid);
Result<ProcessFacts> parse_process_status(const std::string& text);

// Root may do everything; others only what they could also ptrace by uid: all of the process's uids
// are theirs.
bool may_control(uid_t caller, const ProcessFacts& process);

// What this node has to give. A memory limit of tessd's own control group (a virtual node, a
// container) counts as the machine's.
struct MachineFacts {
  uint32_t cores = 0;
  uint64_t memory_bytes = 0;
  uint64_t memory_free_bytes = 0;  // MemAvailable
  double load = 0;                 // 1 minute
  std::string kernel;
};
Result<MachineFacts> machine_facts();

}  // namespace tess::node
