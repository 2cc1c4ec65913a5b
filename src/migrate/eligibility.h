// Whether a process can move, in words. Reads /proc only: the process is not touched. What can be
// seen only by ptrace (32-bit code in a 64-bit program, AMX state) is found when it is captured,
// and refused there.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace tess::migrate {

struct EligibilityOptions {
  pid_t own_tracer = 0;               // a tracer that is no obstacle: the agent itself
  bool ignore_clone_sharers = false;  // the caller looks for a moment without them
  // True for a process that moves along, or will: what is shared with it is no obstacle.
  std::function<bool(pid_t)> moves_along{};
};

// Reasons against, each a sentence that says what and what to do. Empty: nothing forbids a move.
// `pid` in the caller's pid namespace.
std::vector<std::string> check_eligibility(pid_t pid, const EligibilityOptions& options = {});

}  // namespace tess::migrate
