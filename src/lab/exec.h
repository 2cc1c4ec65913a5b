// tess lab exec: runs a command in a node, as if the node were this machine: same terminal, same
// session, job control, signals and exit status.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "lab/state.h"

namespace tess::lab {

struct ExecOptions {
  std::vector<std::string> command;
  bool host_files =
      false;  // keep the machine's files; only network, pid, uts and ipc are the node's
};

// Returns the exit status for this process. A command that died of a signal takes this process with
// it, by the same signal.
Result<int> exec_in_node(const NodeState& node, const ExecOptions& options);

}  // namespace tess::lab
