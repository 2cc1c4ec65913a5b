#include "memory/transfer_note.h"

namespace tess::memory {

wire::AgentUp transfer_note(int32_t inner_pid, const std::string& node, bool sent,
                            const Flow& flow) {
  wire::AgentUp message;
  wire::Transfer& transfer = *message.mutable_transfer();
  transfer.set_inner_pid(inner_pid);
  transfer.set_node(node);
  transfer.set_sent(sent);
  transfer.set_flow_bytes(flow.bytes);
  transfer.set_flow_ns(static_cast<uint64_t>(flow.time.count()));
  return message;
}

}  // namespace tess::memory
