// The cluster's certificates. One CA per cluster (ca.crt, ca.key), one certificate per node
// (node.crt, node.key; CN and DNS SAN are the node's name), EC P-256, valid for ten years. Keys are
// written 0600, in one step (a temporary file, then rename). cluster.key, the same on all nodes,
// seals the datagrams between them.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace tess::node {

// 1–63 letters, digits, '-', '_' or '.', not starting with '-' or '.'.
Result<> check_node_name(const std::string& name);

// Makes dir/ca.crt, dir/ca.key and dir/cluster.key (and dir itself). Refuses to overwrite an
// existing CA.
Result<> make_cluster_ca(const std::string& dir);

// Signs a new key for `node_name` with the CA in ca_dir; writes
// out_dir/{ca.crt,node.crt,node.key,cluster.key}, replacing older ones.
Result<> issue_node_certificate(const std::string& ca_dir, const std::string& node_name,
                                const std::string& out_dir);

// Makes dir/cluster.key, unless it is there.
Result<> ensure_cluster_key(const std::string& dir);

// Who this node is in its cluster, from its files.
struct ClusterIdentity {
  std::array<uint8_t, 16> node{};  // of its certificate's key
  uint32_t cluster = 0;            // of the CA's key
  std::array<uint8_t, 32> key{};   // of the datagrams
};
// Are these the contents of a cluster.key?
Result<> check_cluster_key(const std::string& text);
Result<ClusterIdentity> load_cluster_identity(const std::string& dir);

}  // namespace tess::node
