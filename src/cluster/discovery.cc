#include "cluster/discovery.h"

#include <algorithm>

namespace tess::cluster {
namespace {
constexpr Duration kNonceLife = std::chrono::seconds(10);
constexpr Duration kIntroductionGap = std::chrono::milliseconds(50);
constexpr Duration kNever = std::chrono::hours(24 * 365);
}  // namespace

Discovery::Discovery(Context& context)
    : context_(context),
      next_seed_(context.now + kNever),
      next_beacon_(context.now + kNever),
      next_reconnect_(context.now + kNever),
      next_introduction_(context.now) {
  nonces_ = {context.fresh_nonce(), context.fresh_nonce()};
  renew_nonce_ = context.now + kNonceLife;
}

void Discovery::start(std::vector<Address> seeds) {
  seeds_ = std::move(seeds);
  started_ = true;
  const Time now = context_.now;
  next_seed_ = now;
  next_beacon_ = now;
  next_reconnect_ = now + std::chrono::duration_cast<Duration>(context_.config.reconnect_interval *
                                                               context_.random.unit());
  if (context_.table.live_count() > 1) {  // remembers a cluster
    next_seed_ = now + context_.config.seed_interval;
    next_beacon_ = now + std::chrono::duration_cast<Duration>(context_.config.beacon_interval *
                                                              context_.table.live_count() *
                                                              (2 * context_.random.unit()));
  }
}

Time Discovery::deadline() const {
  return std::min({next_seed_, next_beacon_, next_reconnect_});
}

void Discovery::tick() {
  const Config& config = context_.config;
  const Time now = context_.now;
  if (now >= renew_nonce_) {
    nonces_ = {context_.fresh_nonce(), nonces_[0]};
    renew_nonce_ = now + kNonceLife;
  }
  if (now >= next_seed_) {
    const bool alone = context_.table.live_count() <= 1;
    for (const Address& seed : seeds_) {
      if (!is_member(seed)) {
        ask(seed);
      }
    }
    next_seed_ = now + (alone ? config.alone_interval : config.seed_interval);
  }
  if (now >= next_beacon_) {
    if (config.beacons) {
      beacon();
    }
    // All nodes of a network together send one in each interval, however many they are.
    next_beacon_ = now + std::chrono::duration_cast<Duration>(config.beacon_interval *
                                                              context_.table.live_count() *
                                                              (0.5 + context_.random.unit()));
  }
  if (now >= next_reconnect_) {
    reconnect();
    next_reconnect_ = now + std::chrono::duration_cast<Duration>(config.reconnect_interval *
                                                                 (0.5 + context_.random.unit()));
  }
}

bool Discovery::is_member(const Address& address) const {
  const MemberTable& table = context_.table;
  for (Slot slot = 0; slot < table.end(); ++slot) {
    if (table.live(slot) && table.profile(slot).address == address) {
      return true;
    }
  }
  return false;
}

void Discovery::ask(const Address& to) {
  context_.send(Kind::kJoin, nonces_[0], to, 0,
                [&](PacketWriter& packet) { context_.add_self(packet); });
}

void Discovery::introduce(const Address& to) {
  if (context_.now < next_introduction_) {
    return;
  }
  next_introduction_ = context_.now + kIntroductionGap;
  context_.count(Count::kIntroductions);
  ask(to);
}

void Discovery::settle_session(Slot slot, uint64_t session, const Address& at) {
  if (context_.now >= next_introduction_) {
    context_.send(Kind::kNews, 0, at, session,
                  [&](PacketWriter& packet) { context_.add_record(packet, slot); });
    introduce(at);
  }
}

void Discovery::beacon() {
  context_.count(Count::kBeacons);
  PacketWriter packet = context_.begin(Kind::kBeacon, 0);
  context_.add_self(packet);
  context_.finish_beacon(packet);
}

void Discovery::reconnect() {
  // The dead in the order of their keys, so that a seed replays the same choice.
  std::vector<std::pair<uint64_t, Slot>> dead;
  for (const auto& [slot, since] : context_.gone) {
    if (context_.table.state(slot) == MemberState::kDead) {
      dead.emplace_back(context_.table.key(slot), slot);
    }
  }
  if (dead.empty()) {
    return;
  }
  context_.count(Count::kReconnects);
  const size_t pick = context_.random.below(static_cast<uint32_t>(dead.size()));
  std::nth_element(dead.begin(), dead.begin() + static_cast<ptrdiff_t>(pick), dead.end());
  ask(context_.table.profile(dead[pick].second).address);
}

void Discovery::on_open(const Packet& packet, uint64_t session, const Address& from) {
  if (packet.alive.size() != 1 || packet.alive[0].profile.id.key() != packet.sender ||
      packet.alive[0].profile.session != session) {
    context_.drop(Drop::kMalformed);
    return;
  }
  const Slot slot = context_.table.find(packet.sender);
  const bool current = slot != kNoSlot && context_.table.profile(slot).session == session;
  if (packet.kind == Kind::kBeacon) {
    if (!current || !context_.table.live(slot)) {
      introduce(from);
    }
    return;
  }
  context_.send(Kind::kWelcome, packet.nonce, from, session, [&](PacketWriter& answer) {
    context_.add_self(answer);
    answer.add_observed(from);
    // What is known of the asker, so that it can outbid it: an earlier start, or its own death.
    if (slot != kNoSlot && (!current || !context_.table.live(slot))) {
      context_.add_record(answer, slot);
    }
  });
}

bool Discovery::expected(uint32_t nonce) const {
  return nonce == nonces_[0] || nonce == nonces_[1];
}

}  // namespace tess::cluster
