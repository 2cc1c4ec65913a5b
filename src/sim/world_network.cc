// World: datagrams, knocks and connections, and what comes between nodes.
#include <algorithm>
#include <cmath>

#include "sim/world_parts.h"

namespace tess::sim {

using cluster::Duration;
using cluster::KnockAnswer;

namespace {

// What one piece of work costs on a simulated CPU, in microseconds. Only ratios matter: a starved
// pool gets a share of what it used before.
constexpr double kPacketCost = 40;
constexpr size_t kSocketQueue = 256;  // datagrams
constexpr SimTime kKnockSilence = 300 * kMillisecond;

}  // namespace

void World::partition(const std::function<unsigned(NodeIndex)>& group) {
  for (NodeIndex i = 0; i < size(); ++i) {
    nodes_[i]->group = group(i);
  }
  partitioned_ = true;
}

void World::heal() {
  for (const auto& node : nodes_) {
    node->group = 0;
  }
  partitioned_ = false;
  partitioned_until_ = now_;
}

void World::change_address(NodeIndex index) {
  Node& node = *nodes_[index];
  by_address_.erase(node.address);
  node.address = cluster::Address::v4(next_ip_++, 7117);
  by_address_[node.address] = index;
}

void World::inject(NodeIndex to, NodeIndex from, std::vector<uint8_t> datagram) {
  const uint32_t flight = new_flight();
  flights_[flight].from = nodes_[from]->address;
  flights_[flight].bytes = std::move(datagram);
  queue_.put(now_ + options_.latency, SimEvent::Type::kPacket, to, flight);
}

uint32_t World::new_flight() {
  if (free_flights_.empty()) {
    flights_.emplace_back();
    return static_cast<uint32_t>(flights_.size() - 1);
  }
  const uint32_t flight = free_flights_.back();
  free_flights_.pop_back();
  return flight;
}

void World::deliver(NodeIndex index, uint32_t flight) {
  Node& node = *nodes_[index];
  if (node.up && node.pool != UINT32_MAX && node.socket.size() < kSocketQueue) {
    node.socket.emplace_back(now_, flight);
    enlist(index);
    return;
  }
  if (node.up && node.pool == UINT32_MAX) {
    receive(index, flights_[flight], 0);
  }
  free_flights_.push_back(flight);
}

void World::receive(NodeIndex index, const Flight& flight, SimTime queued) {
  Node& node = *nodes_[index];
  node.cpu += kPacketCost;
  node.member->receive(clock(index), Duration(queued), flight.from, flight.bytes, effects_);
  carry_out(index);
}

void World::send(NodeIndex from, NodeIndex to, cluster::Bytes datagram) {
  Node& target = *nodes_[to];
  if (!target.powered || target.group != nodes_[from]->group) {
    return;
  }
  const unsigned copies = options_.duplicates > 0 && random_.chance(options_.duplicates) ? 2 : 1;
  for (unsigned i = 0; i < copies; ++i) {
    if (options_.loss > 0 && random_.chance(options_.loss)) {
      continue;
    }
    const uint32_t flight = new_flight();
    flights_[flight].from = nodes_[from]->address;
    flights_[flight].bytes.assign(datagram.begin(), datagram.end());
    const auto delay = options_.latency +
                       static_cast<SimTime>(random_.unit() * static_cast<double>(options_.jitter));
    queue_.put(now_ + delay, SimEvent::Type::kPacket, to, flight);
  }
}

void World::knock(NodeIndex from, const cluster::Effects::Knock& wanted) {
  Word word{wanted.node, KnockAnswer::kSilent};
  SimTime delay = kKnockSilence;
  const auto at = by_address_.find(wanted.at);
  const bool lost = random_.chance(1 - (1 - options_.loss) * (1 - options_.loss));
  if (at != by_address_.end() && !lost) {
    const Node& target = *nodes_[at->second];
    if (target.powered && target.group == nodes_[from]->group) {
      word.answer = target.up ? KnockAnswer::kHolds : KnockAnswer::kRefused;
      delay = 2 * options_.latency;
    }
  }
  words_.push_back(word);
  queue_.put(now_ + delay, SimEvent::Type::kWord, from, static_cast<uint32_t>(words_.size() - 1));
}

// A process has ended: its kernel says so to everyone it was connected with.
void World::end_connections(NodeIndex index) {
  words_.push_back({nodes_[index]->id, KnockAnswer::kSilent, true});
  const auto word = static_cast<uint32_t>(words_.size() - 1);
  for (NodeIndex i = 0; i < size(); ++i) {
    // One that was lost is sent again, with patience.
    if (i != index && nodes_[i]->up && nodes_[i]->group == nodes_[index]->group) {
      const SimTime delay = random_.chance(options_.loss) ? 300 * kMillisecond : 0;
      queue_.put(now_ + options_.latency + delay, SimEvent::Type::kWord, i, word);
    }
  }
}

void World::hear(NodeIndex index, Word word) {
  cluster::Membership& member = *nodes_[index]->member;
  if (word.lost) {
    member.lost_connection(clock(index), word.about, effects_);
  } else {
    member.knocked(clock(index), word.about, word.answer, effects_);
  }
  carry_out(index);
}

}  // namespace tess::sim
