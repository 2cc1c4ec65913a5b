// Where a program runs that is just being executed: its image is a few file-backed pages, so this
// is the cheapest moment to place it, and for short programs (compilers) the only one. The caller
// asks a few nodes, chosen by exec_candidates, for their load of this moment; among so few, fresh
// knowledge beats a full but aged picture, and random choice keeps many nodes from choosing the
// same.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "cluster/placement/balancer.h"

namespace tess::placement {

// What is known about a program before it runs: from its last runs, or nothing.
struct ProgramHint {
  std::optional<double> work;        // reference seconds
  std::optional<double> home_calls;  // per reference second of work
  double demand = 1;
  uint64_t memory_bytes = 0;  // that it is expected to grow to
};

// Nodes to ask, policy.exec_choices of them: by power of k choices, each the better of two random
// ones as far as known.
std::vector<NodeId> exec_candidates(std::span<const NodePicture> known,
                                    const ProcessPicture& process, const Policy& policy,
                                    Random& random);

// `fresh`: answers of the nodes asked, age nearly 0. `local` contains the process (it executes
// here). Nothing: it stays.
std::optional<PlannedMove> choose_at_exec(Time now, const Local& local,
                                          std::span<const NodePicture> fresh,
                                          const ProcessPicture& process, const ProgramHint& hint,
                                          size_t cluster_size, const Policy& policy);

}  // namespace tess::placement
