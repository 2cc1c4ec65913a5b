// Memory that this node can still give to a body.
#pragma once

#include <cstdint>

#include "base/result.h"

namespace tess::host {

// The least of what the machine has available and what the agent's memory cgroup leaves.
uint64_t free_memory();

// kNotPossible, in words, if `wanted` bytes are too many.
Result<> check_room(uint64_t wanted);

}  // namespace tess::host
