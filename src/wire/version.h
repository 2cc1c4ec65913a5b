// The protocol version: of cluster.proto, agent.proto and node.proto together. Each side says its
// own first (ClusterHello, AgentHello, HostPrepared); neighbours work together, both speaking the
// older one's. So a cluster can be upgraded node by node. What a new version must keep to is in
// README.md here.
#pragma once

#include <optional>
#include <string>

namespace tess::wire {

inline constexpr unsigned kProtocolVersion = 1;

// kProtocolVersion; $TESS_PROTOCOL_VERSION in its place is for tests of mixed clusters.
unsigned protocol_version();
// What both speak; nullopt: nothing.
std::optional<unsigned> common_version(unsigned ours, unsigned theirs);
// For people, if there is no common one.
std::string version_mismatch(const std::string& here, unsigned ours, const std::string& there,
                             unsigned theirs);

}  // namespace tess::wire
