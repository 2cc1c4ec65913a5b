// The side of the machine that wants to join: makes its key, asks a server of the cluster, checks
// what comes and writes the files of a node. Blocking; for `tess join`. The key never leaves the
// machine, and stays the same over attempts (joining.key), so that an answer that was lost can be
// asked for again.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/config.h"
#include "node/join_token.h"

namespace tess::node {

struct JoinWish {
  std::string name;
  std::string state_dir;
  std::vector<net::Endpoint> servers;  // tried in this order
  std::optional<JoinToken> token;      // without: wait for a person's approval
  std::optional<net::KeyPrint> ca;     // of the cluster; always there with a token
  // Without `ca`: is this the right one? Nothing is sent before it says yes.
  std::function<bool(const net::Endpoint&, const net::KeyPrint&)> believes;
  // It waits for approval; the fingerprint is of this machine's key.
  std::function<void(const std::string& server, const net::KeyPrint&)> on_waiting;
};

struct Joined {
  std::string name;
  net::KeyPrint ca{};
  std::vector<NodeEntry> seeds;
};

// Writes state_dir/{ca.crt,node.crt,node.key,cluster.key}. kNotPossible: refused, the message is
// the server's; kRetry or kDisconnected: no server could be asked.
Result<Joined> join_cluster(const JoinWish& wish);

// All four files of a node are there.
bool is_node(const std::string& state_dir);

// tessera.toml for a node that joined.
std::string joined_config(const std::string& name, const std::string& listen,
                          const std::vector<NodeEntry>& seeds);

}  // namespace tess::node
