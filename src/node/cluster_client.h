// Inside of Cluster: a node, or a machine that wants to be one, that has connected to us.
#pragma once

#include "node/cluster.h"

namespace tess::node {

struct Cluster::Client {
  std::shared_ptr<net::Connection> connection;
  wire::FrameReader reader{1 << 20};
  bool greeted = false;
  std::string local_address;
  std::string remote_address;
  // Of machines that want to join:
  std::shared_ptr<void> joiner;  // gives back its place when it goes
  std::unique_ptr<net::Timer> patience;
};

}  // namespace tess::node
