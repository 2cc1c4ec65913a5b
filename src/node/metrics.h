// What a node tells Prometheus: from a snapshot of plain figures to the text format 0.0.4. Names
// and units are those of Prometheus' conventions: base units (bytes, seconds, ratios), `_total`
// for what only grows. The list is in docs/metrics.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "cluster/load.h"

namespace tess::node {

struct MetricsSnapshot {
  std::string node;
  std::string version;
  cluster::LoadRecord load;  // of this node
  unsigned health_score = 0;
  uint64_t peers_connected = 0;
  std::map<std::string, uint64_t> members;    // by state
  std::map<std::string, uint64_t> agents;     // by role
  std::map<std::string, uint64_t> processes;  // by state: native, deputy, moving, guest
  std::map<std::pair<std::string, std::string>, uint64_t> moves;  // by reason and result
  // Of memory between nodes: bytes and seconds, by direction.
  std::map<std::string, std::pair<uint64_t, double>> transfers;
  std::map<std::string, uint64_t> peer_rates;         // bytes per second measured, by node
  std::map<std::string, uint64_t> datagrams_sent;     // by kind
  std::map<std::string, uint64_t> datagrams_dropped;  // by cause
  std::map<std::string, uint64_t> membership;         // events, by name
  uint64_t datagrams_received = 0;
  uint64_t datagram_bytes_sent = 0;
  // Of tessd itself.
  double cpu_seconds = 0;
  double start_time = 0;  // Unix time
  uint64_t resident_bytes = 0;
  uint64_t open_fds = 0;
};

// Fills in the figures about tessd itself.
void measure_self(MetricsSnapshot& snapshot);
std::string metrics_text(const MetricsSnapshot& snapshot);
inline constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace tess::node
