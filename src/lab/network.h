// The lab's own network: a bridge in the caller's network namespace (the supervisor's, made for
// this) and one link to each node. Done with ip and tc of iproute2, in batches.
#pragma once

#include "base/result.h"
#include "lab/state.h"

namespace tess::lab {

// Are the tools there? In words what to install if not.
Result<> check_network_tools();

// The calling process's network namespace becomes the switch.
Result<> make_switch();
// Links every node of the state (its init runs in a fresh network namespace) and gives it its
// address and rate.
Result<> connect_nodes(const State& state);

}  // namespace tess::lab
