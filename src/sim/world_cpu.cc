// World: nodes that share too little CPU, one piece of work after the other.
#include <algorithm>
#include <cmath>

#include "sim/world_parts.h"

namespace tess::sim {

namespace {

constexpr double kDrainCost = 1;  // from the socket into the inbox, or dropped
constexpr double kWordCost = 10;

}  // namespace

void World::forget_cpu() {
  for (const auto& node : nodes_) {
    node->cpu = 0;
  }
  cpu_since_ = now_;
}

void World::starve(const std::vector<NodeIndex>& nodes, double share) {
  double used = 0;
  for (const NodeIndex i : nodes) {
    used += nodes_[i]->cpu;
  }
  TESS_CHECK(now_ > cpu_since_ && used > 0, "nothing was measured");
  const auto index = static_cast<uint32_t>(pools_.size());
  pools_.push_back(std::make_unique<Pool>());
  pools_.back()->speed = share * used / static_cast<double>(now_ - cpu_since_);
  for (const NodeIndex i : nodes) {
    nodes_[i]->pool = index;
  }
}

void World::feed() {
  for (NodeIndex i = 0; i < size(); ++i) {
    Node& node = *nodes_[i];
    if (node.pool == UINT32_MAX) {
      continue;
    }
    node.pool = UINT32_MAX;
    node.enlisted = false;
    if (node.up) {
      while (!node.words.empty()) {
        const uint32_t word = node.words.front();
        node.words.pop_front();
        hear(i, words_[word]);
      }
      drain(i);
      while (read_one(i)) {
      }
      tick(i);
    }
  }
}

void World::stall(NodeIndex index, SimTime duration) {
  Node& node = *nodes_[index];
  if (node.pool == UINT32_MAX) {
    node.pool = static_cast<uint32_t>(pools_.size());
    pools_.push_back(std::make_unique<Pool>());
    pools_.back()->speed = 1000;  // as good as a CPU of its own
  }
  node.stalled_until = now_ + duration;
  queue_.put(node.stalled_until, SimEvent::Type::kResume, index, 0);
}

void World::enlist(NodeIndex index) {
  Node& node = *nodes_[index];
  if (node.enlisted || now_ < node.stalled_until || node.pool == UINT32_MAX) {
    return;
  }
  Pool& pool = *pools_[node.pool];
  node.enlisted = true;
  pool.ready.push_back(index);
  if (!pool.busy) {
    pool.busy = true;
    queue_.put(now_, SimEvent::Type::kService, index, node.pool);
  }
}

void World::drain(NodeIndex index) {
  Node& node = *nodes_[index];
  for (const auto& [at, flight] : node.socket) {
    node.cpu += kDrainCost;
    node.inbox.put(clock_of(node, at), flights_[flight]);
    free_flights_.push_back(flight);
  }
  node.socket.clear();
}

bool World::read_one(NodeIndex index) {
  Node& node = *nodes_[index];
  const auto next = node.inbox.take(clock(index));
  if (!next) {
    return false;
  }
  receive(index, next->second, (clock(index) - next->first).count());
  return true;
}

// One piece of work of the pool's next node: a packet and a due tick by turns.
void World::service(uint32_t pool_index) {
  Pool& pool = *pools_[pool_index];
  while (!pool.ready.empty()) {
    const NodeIndex index = pool.ready.front();
    pool.ready.pop_front();
    Node& node = *nodes_[index];
    node.enlisted = false;
    if (!node.up || node.pool != pool_index || now_ < node.stalled_until) {
      continue;
    }
    const double before = node.cpu;
    while (!node.words.empty()) {  // the loop finds them beside the datagrams
      const uint32_t word = node.words.front();
      node.words.pop_front();
      node.cpu += kWordCost;
      hear(index, words_[word]);
    }
    const bool due = clock(index) >= node.member->deadline() || now_ >= node.next_load;
    drain(index);
    if (due && (node.tick_next || node.inbox.empty())) {
      node.tick_next = false;
      tick(index);
    } else if (read_one(index)) {
      node.tick_next = true;
    } else {
      schedule(index);
    }
    if (node.up && (!node.inbox.empty() || !node.socket.empty() ||
                    clock(index) >= node.member->deadline() || now_ >= node.next_load)) {
      enlist(index);
    }
    const double cost = node.cpu - before;
    if (cost > 0) {
      queue_.put(now_ + std::max<SimTime>(1, std::llround(cost / pool.speed)),
                 SimEvent::Type::kService, index, pool_index);
      return;
    }
  }
  pool.busy = false;
}

}  // namespace tess::sim
