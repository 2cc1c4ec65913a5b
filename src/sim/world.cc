#include <algorithm>
#include <cmath>

#include "sim/world_parts.h"

namespace tess::sim {

using cluster::Duration;
using cluster::EventKind;
using cluster::KnockAnswer;
using cluster::MemberState;
using cluster::NodeId;
using cluster::Time;

namespace {

constexpr double kTickCost = 20;
constexpr SimTime kAfterPartition =
    30 * kSecond;  // suspicions from before may still end in a verdict
constexpr SimTime kLoadInterval = kSecond;
constexpr SimTime kLoadStamp = 16 * kMillisecond;  // unit of the time hidden in a load
constexpr size_t kLogMost = 20;

}  // namespace

World::World(const WorldOptions& options) : options_(options), random_(options.seed) {
  for (uint8_t& byte : key_) {
    byte = static_cast<uint8_t>(random_.next());
  }
  std::vector<cluster::AliveRecord> everyone;
  for (unsigned i = 0; i < options.nodes; ++i) {
    boot(make_node());
    everyone.push_back(nodes_[i]->member->self());
  }
  for (NodeIndex i = 0; i < size(); ++i) {
    Node& node = *nodes_[i];
    std::vector<cluster::Address> seeds;
    if (options.warm) {
      node.member->remember(clock(i), everyone);
    } else if (i != 0) {
      seeds.push_back(nodes_[0]->address);
    }
    node.member->start(clock(i), seeds, effects_);
    carry_out(i);
  }
}

World::~World() = default;

World::NodeIndex World::make_node() {
  const auto index = static_cast<NodeIndex>(nodes_.size());
  nodes_.push_back(std::make_unique<Node>());
  Node& node = *nodes_.back();
  for (uint8_t& byte : node.id.bytes) {
    byte = static_cast<uint8_t>(random_.next());
  }
  node.address = cluster::Address::v4(next_ip_++, 7117);
  // No two clocks agree, by up to hours, nor run alike, by up to 100 parts in a million.
  node.clock_offset = static_cast<SimTime>(random_.unit() * 3600e6 * 5) + kSecond;
  node.clock_rate = 1 + (random_.unit() - 0.5) * 2e-4;
  by_key_[node.id.key()] = index;
  return index;
}

World::NodeIndex World::add_node(const std::vector<NodeIndex>& seeds) {
  const NodeIndex index = make_node();
  restart(index, seeds);
  return index;
}

void World::boot(NodeIndex index) {
  Node& node = *nodes_[index];
  node.up = true;
  node.powered = true;
  node.wake_at = INT64_MAX;
  by_address_[node.address] = index;
  cluster::Identity identity;
  identity.id = node.id;
  identity.session = random_.next() | 1;
  identity.name = fmt::format("n{}", index);
  identity.address = node.address;
  identity.cluster = 0x7e55e7a;
  cluster::LoadRecord load;
  load.cores = 4;
  load.threads = 8;
  load.memory_bytes = uint64_t{16} << 30;
  load.memory_free_bytes = uint64_t{8} << 30;
  const uint64_t seed = random_.next();
  node.member = std::make_unique<cluster::Membership>(options_.config, identity, load,
                                                      cluster::KeyRing(key_), cipher_, directory_,
                                                      cluster::Random(seed), clock(index));
  std::erase_if(dead_incarnations_, [&](const auto& item) { return item.first >> 32 == index; });
  node.next_load = now_ + static_cast<SimTime>(random_.unit() * kLoadInterval);
}

void World::stop(NodeIndex index, bool power) {
  Node& node = *nodes_[index];
  node.up = false;
  node.powered = !power;
  node.member.reset();
  for (const auto& [at, flight] : node.socket) {
    free_flights_.push_back(flight);
  }
  node.socket.clear();
  node.words.clear();
  if (options_.connections && !power) {
    end_connections(index);
  }
}

void World::restart(NodeIndex index, const std::vector<NodeIndex>& seeds) {
  TESS_CHECK(!nodes_[index]->up, "node {} is up", index);
  boot(index);
  std::vector<cluster::Address> at;
  for (const NodeIndex seed : seeds) {
    at.push_back(nodes_[seed]->address);
  }
  nodes_[index]->member->start(clock(index), at, effects_);
  carry_out(index);
}

void World::leave(NodeIndex index) {
  nodes_[index]->member->leave(clock(index), effects_);
  carry_out(index);
}

void World::shut_out(NodeIndex by, NodeIndex node) {
  const NodeId whom = nodes_[node]->id;
  nodes_[by]->member->shut_out(clock(by), std::span(&whom, 1), effects_);
  carry_out(by);
}

bool World::up(NodeIndex node) const {
  return nodes_[node]->up;
}

unsigned World::up_count() const {
  return static_cast<unsigned>(
      std::count_if(nodes_.begin(), nodes_.end(), [](const auto& n) { return n->up; }));
}

NodeId World::id(NodeIndex node) const {
  return nodes_[node]->id;
}

World::NodeIndex World::find(const NodeId& id) const {
  const auto at = by_key_.find(id.key());
  return at == by_key_.end() ? kNoNode : at->second;
}

cluster::Membership& World::member(NodeIndex node) {
  return *nodes_[node]->member;
}

Time World::clock_of(const Node& node, SimTime at) const {
  return Time(
      Duration(node.clock_offset + std::llround(static_cast<double>(at) * node.clock_rate)));
}

Time World::clock(NodeIndex node) const {
  return clock_of(*nodes_[node], now_);
}

SimTime World::from_clock(const Node& node, Time at) const {
  if (at == Time::max()) {
    return INT64_MAX;
  }
  const double local = static_cast<double>(at.time_since_epoch().count() - node.clock_offset);
  auto guess = static_cast<SimTime>(std::ceil(local / node.clock_rate));
  while (clock_of(node, guess) < at) {
    ++guess;
  }
  return guess;
}

bool World::agreed() const {
  const unsigned count = up_count();
  uint32_t digest = 0;
  bool first = true;
  for (const auto& node : nodes_) {
    if (!node->up) {
      continue;
    }
    if (node->member->live_count() != count || (!first && node->member->digest() != digest)) {
      return false;
    }
    digest = node->member->digest();
    first = false;
  }
  return true;
}

unsigned World::believers(NodeIndex index) const {
  unsigned count = 0;
  for (const auto& node : nodes_) {
    MemberState state{};
    uint32_t incarnation = 0;
    if (node->up && node->member->knows(nodes_[index]->id, state, incarnation) &&
        (state == MemberState::kAlive || state == MemberState::kSuspect)) {
      ++count;
    }
  }
  return count;
}

SimTime World::true_age(const cluster::LoadRecord& load) const {
  const auto stamp = static_cast<uint16_t>(now_ / kLoadStamp);
  return static_cast<SimTime>(static_cast<uint16_t>(stamp - load.guests)) * kLoadStamp;
}

void World::run_until(SimTime end) {
  while (!queue_.empty() && queue_.top().at <= end) {
    const SimEvent event = queue_.take();
    now_ = std::max(now_, event.at);
    handle(event);
  }
  now_ = end;
}

bool World::run_while_not(const std::function<bool()>& done, SimTime most) {
  const SimTime end = now_ + most;
  while (!done()) {
    if (now_ >= end) {
      return false;
    }
    run_for(10 * kMillisecond);
  }
  return true;
}

void World::handle(const SimEvent& event) {
  Node& node = *nodes_[event.node];
  switch (event.type) {
    case SimEvent::Type::kPacket:
      deliver(event.node, event.index);
      return;
    case SimEvent::Type::kWake:
      if (node.up && event.at == node.wake_at) {
        node.wake_at = INT64_MAX;
        wake(event.node, event.at);
      }
      return;
    case SimEvent::Type::kService:
      service(event.index);
      return;
    case SimEvent::Type::kWord:
      if (node.up && node.pool != UINT32_MAX) {
        node.words.push_back(event.index);
        enlist(event.node);
      } else if (node.up) {
        hear(event.node, words_[event.index]);
      }
      return;
    case SimEvent::Type::kResume:
      if (node.up && now_ >= node.stalled_until) {
        enlist(event.node);
      }
      return;
    case SimEvent::Type::kAction:
      return;
  }
}

void World::wake(NodeIndex index, SimTime) {
  Node& node = *nodes_[index];
  if (node.pool != UINT32_MAX) {
    enlist(index);
  } else if (clock(index) < node.member->deadline() && now_ < node.next_load) {
    schedule(index);  // it moved
  } else {
    tick(index);
  }
}

void World::tick(NodeIndex index) {
  Node& node = *nodes_[index];
  node.cpu += kTickCost;
  node.member->tick(clock(index), effects_);
  if (now_ >= node.next_load) {
    measure_load(index);
  }
  carry_out(index);
  if (node.up && node.member->departed(clock(index))) {
    stop(index, false);
  }
}

void World::measure_load(NodeIndex index) {
  Node& node = *nodes_[index];
  // A driver that runs late also measures less often.
  const SimTime interval = kLoadInterval * (1 + node.member->health_score());
  node.next_load += interval * (1 + (now_ - node.next_load) / interval);
  if (!options_.load_changes) {
    return;
  }
  node.load = std::clamp(node.load + static_cast<float>(random_.unit() - 0.5) * 4, 0.0f, 32.0f);
  cluster::LoadRecord load;
  load.cores = 4;
  load.threads = 8;
  load.memory_bytes = uint64_t{16} << 30;
  load.memory_free_bytes = uint64_t{8} << 30;
  load.runnable = node.load;
  load.guests = static_cast<uint16_t>(now_ / kLoadStamp);  // when it was measured, for true_age()
  node.member->set_load(clock(index), load, effects_);
}

void World::schedule(NodeIndex index) {
  Node& node = *nodes_[index];
  if (!node.up) {
    return;
  }
  const SimTime at =
      std::max(now_, std::min(from_clock(node, node.member->deadline()), node.next_load));
  if (at < node.wake_at) {
    node.wake_at = at;
    queue_.put(at, SimEvent::Type::kWake, index, 0);
  }
}

void World::carry_out(NodeIndex index) {
  // Effects are taken out first: what follows may call members again.
  cluster::Effects work;
  std::swap(work, effects_);
  for (const auto& send_to : work.sends) {
    if (tap_) {
      tap_(index, send_to.to, work.datagram(send_to));
    }
    const auto at = by_address_.find(send_to.to);
    if (at != by_address_.end()) {
      send(index, at->second, work.datagram(send_to));
    }
  }
  if (options_.multicast) {
    for (const auto& beacon : work.beacons) {
      for (NodeIndex i = 0; i < size(); ++i) {
        if (i != index) {
          send(index, i, work.datagram(beacon));
        }
      }
    }
  }
  for (const auto& wanted : work.knocks) {
    knock(index, wanted);
  }
  for (const auto& event : work.events) {
    note(index, event);
  }
  work.clear();
  std::swap(work, effects_);
  schedule(index);
}

void World::note(NodeIndex observer, const cluster::Event& event) {
  ++findings_.events;
  const NodeIndex subject = find(event.node);
  const auto log = [&](const char* what) {
    if (findings_.log.size() < kLogMost) {
      findings_.log.push_back(fmt::format("{:.3f}s n{} {} n{} incarnation {}",
                                          static_cast<double>(now_) / 1e6, observer, what, subject,
                                          event.incarnation));
    }
  };
  if (event.kind == EventKind::kDied && subject != kNoNode && nodes_[subject]->up &&
      !partitioned_ && (partitioned_until_ == 0 || now_ > partitioned_until_ + kAfterPartition)) {
    ++findings_.false_death_reports;
    uint32_t& seen = false_seen_[event.node.key()];
    if (event.incarnation > seen) {
      seen = event.incarnation;
      ++findings_.false_deaths;
      log("falsely calls dead");
    }
  }
  if (options_.check_resurrection && subject != kNoNode) {
    uint32_t& dead = dead_incarnations_[uint64_t{observer} << 32 | subject];
    if (event.kind == EventKind::kDied || event.kind == EventKind::kLeft) {
      dead = std::max(dead, event.incarnation);
    } else if (event.kind == EventKind::kJoined && event.incarnation <= dead) {
      ++findings_.resurrections;
      log("takes back");
    }
  }
  if (observer_) {
    observer_(observer, event);
  }
}

}  // namespace tess::sim
