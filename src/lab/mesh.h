// Do the nodes of a lab know each other already? A tessd answers its socket before it has reached
// the others, and what one types right after `up` should not fail for that.
#pragma once

#include "base/result.h"
#include "lab/state.h"

namespace tess::lab {

// Only a real tessd can be asked (with `tess nodes`, inside the node); with another program in its
// place, or no tess beside us, there is nothing to wait for.
bool can_ask_nodes(const State& state);

// True if this node's tessd sees all nodes up.
Result<bool> sees_all(const State& state, size_t index);

}  // namespace tess::lab
