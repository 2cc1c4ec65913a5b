// What a node sees as its files. Called in the node's init, in fresh mount, pid and net namespaces.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace tess::lab {

// Paths in the supervisor's private tmpfs, which the init has inherited.
struct NodeFiles {
  std::string image;     // the /usr of nodes
  std::string identity;  // ca.crt, node.crt, node.key, cluster.key; perhaps ca.key
  std::string mount_on;  // an empty directory
  std::string host_name;
  std::string hosts;   // content of /etc/hosts
  std::string config;  // content of tessera.toml
};

// The directories that are a node's own, in every node. On the server they must exist.
std::vector<std::string> private_directories();

// The server: the machine's files, with a /proc of its own and private_directories() empty but for
// configuration and identity.
Result<> make_server_root(const NodeFiles& files);
// Any other node: a tmpfs with the image, devices, and nothing of the machine. The machine's root
// is gone afterwards.
Result<> make_bare_root(const NodeFiles& files);

}  // namespace tess::lab
