// The pieces of World, for the files it is made in. Private.
#pragma once

#include "sim/world.h"

namespace tess::sim {

struct World::Node {
  cluster::NodeId id;
  cluster::Address address;
  std::unique_ptr<cluster::Membership> member;
  bool up = false;
  bool powered = false;
  unsigned group = 0;
  SimTime clock_offset = 0;
  double clock_rate = 1;
  SimTime wake_at = INT64_MAX;
  SimTime next_load = 0;
  double cpu = 0;  // microseconds of work since forget_cpu()
  float load = 0;

  // Starved nodes only.
  uint32_t pool = UINT32_MAX;
  SimTime stalled_until = 0;
  bool enlisted = false;
  bool tick_next = false;
  std::vector<std::pair<SimTime, uint32_t>> socket;
  std::deque<uint32_t> words;
  cluster::Inbox<Flight> inbox{64, std::chrono::milliseconds(100), std::chrono::seconds(2)};
};

// Nodes that share a CPU: one piece of work after the other, nodes in turns.
struct World::Pool {
  double speed = 1;  // of a whole CPU
  std::deque<NodeIndex> ready;
  bool busy = false;
};

}  // namespace tess::sim
