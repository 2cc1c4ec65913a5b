// What an agent tells its own tessd of a transfer of memory (wire/node.proto): how fast it was is
// what placement goes by. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "memory/image_stream.h"
#include "wire/node.pb.h"

namespace tess::memory {

// `inner_pid`: as the application sees it. `sent`: to that node; else it came from there.
wire::AgentUp transfer_note(int32_t inner_pid, const std::string& node, bool sent,
                            const Flow& flow);

}  // namespace tess::memory
