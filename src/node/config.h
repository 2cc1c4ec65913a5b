// tessera.toml (docs/man/tessera.toml.5): this node's name and address, and others that it can
// ask who is there. A file that has a mistake is refused as a whole, with the line; unknown keys
// are mistakes.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/tcp.h"
#include "node/owner_watch.h"

namespace tess::node {

inline constexpr uint16_t kDefaultPort = 7117;
inline constexpr uint16_t kMetricsPort = 9717;

struct NodeEntry {
  std::string name;
  net::Endpoint endpoint;
  bool operator==(const NodeEntry&) const = default;
};

struct Config {
  std::string name;
  net::Endpoint listen{"0.0.0.0", kDefaultPort};
  bool trusted_network = false;          // syscall channels need no encryption
  bool beacons = true;                   // looks for others on its own network by multicast
  bool balance = true;                   // moves processes by itself
  std::optional<net::Endpoint> metrics;  // where Prometheus may ask; without: nowhere
  OwnerKind owner = OwnerKind::kOff;     // whose use of the machine sends guests away
  OwnerRule::Options owner_rule;
  double reserve = 0;            // share of the CPUs that guests never get
  std::vector<NodeEntry> nodes;  // never this node itself
};

// `path` is for messages only.
Result<Config> parse_config(std::string_view text, const std::string& path);
Result<Config> load_config(const std::string& path);

}  // namespace tess::node
