#include "cluster/context.h"

namespace tess::cluster {

namespace {
constexpr size_t kIpAndUdp = 28;
constexpr Duration kRecent = std::chrono::seconds(60);
constexpr Duration kOnItsWay = std::chrono::milliseconds(300);
constexpr Duration kUnwellFor = std::chrono::minutes(1);
constexpr size_t kPacketOverhead = kHeaderSize + kTagSize + kIpAndUdp;
}  // namespace

const char* to_text(EventKind kind) {
  static constexpr const char* kText[] = {
      "joined", "changed", "suspected",      "cleared",         "died",
      "left",   "refuted", "identity_clash", "address_changed", "ready"};
  return kText[static_cast<size_t>(kind)];
}

const char* to_text(Count count) {
  static constexpr const char* kText[kCountCount] = {
      "packets_in", "packets_out", "bytes_out",     "probes",         "probes_relayed",
      "suspicions", "deaths_said", "refutations",   "verdicts_held",  "refused_knocks",
      "nacks",      "syncs",       "sync_pushes",   "sync_inquiries", "pulls",
      "reconnects", "beacons",     "introductions", "stale_talk"};
  return kText[static_cast<size_t>(count)];
}

PacketWriter Context::begin(Kind kind, uint32_t nonce) {
  return PacketWriter(envelope.plaintext_room(), kind, static_cast<uint8_t>(attention.score()),
                      self_key(), nonce, table.digest());
}

void Context::finish(PacketWriter& packet, const Address& to, uint64_t session, bool piggyback) {
  if (piggyback) {
    add_news(packet);
    add_loads(packet);
  }
  put_out(out->sends, to, envelope.seal(packet.size(), session));
}

void Context::finish_beacon(PacketWriter& packet) {
  put_out(out->beacons, Address{}, envelope.seal(packet.size(), 0));
}

void Context::put_out(std::vector<Effects::Send>& into, const Address& to, Bytes datagram) {
  into.push_back(
      {to, static_cast<uint32_t>(out->bytes.size()), static_cast<uint32_t>(datagram.size())});
  out->bytes.insert(out->bytes.end(), datagram.begin(), datagram.end());
  total_budget.spend(datagram.size() + kIpAndUdp);
  total_budget.limit_debt(config.total_burst);
  count(Count::kPacketsOut);
  counts[static_cast<size_t>(Count::kBytesOut)] += datagram.size();
}

unsigned Context::distress(Slot slot) const {
  const LoadBoard::Item* item = board.find(slot);
  unsigned worst = item == nullptr ? 0 : item->news.distress;
  if (const auto at = unwell.find(slot);
      at != unwell.end() && now - at->second.second < kUnwellFor) {
    worst = std::max(worst, at->second.first);
  }
  return std::min(worst, Attention::kMost);
}

void Context::note_health(Slot slot, unsigned score) {
  if (score > 0) {
    unwell[slot] = {score, now};
  } else if (const auto at = unwell.find(slot);
             at != unwell.end() && now - at->second.second >= kUnwellFor) {
    unwell.erase(at);
  }
}

bool Context::add_record(PacketWriter& packet, Slot slot) {
  const MemberState state = table.state(slot);
  if (state == MemberState::kAlive) {
    return packet.add_alive(table.incarnation(slot), table.profile(slot));
  }
  uint64_t from = self_key();
  if (const auto at = suspicions.find(slot); at != suspicions.end() && !at->second.from.empty()) {
    from = at->second.from[random.below(static_cast<uint32_t>(at->second.from.size()))];
  }
  return packet.add_verdict({table.key(slot), table.incarnation(slot), state, from});
}

bool Context::add_whole(PacketWriter& packet, Slot slot) {
  if (!table.live(slot)) {
    return add_record(packet, slot);
  }
  constexpr size_t kSuspectWire = 2 + 21;
  if (packet.room() < kSuspectWire ||
      !packet.add_alive(table.incarnation(slot), table.profile(slot))) {
    return false;
  }
  return table.state(slot) == MemberState::kAlive || packet.room() < kSuspectWire ||
         add_record(packet, slot);
}

void Context::add_doubt(PacketWriter& packet, Slot slot) {
  if (table.state(slot) != MemberState::kAlive) {
    add_record(packet, slot);
  }
}

void Context::add_recent(PacketWriter& packet, Slot peer) {
  if (recently_gone.empty() || (attention.distress(now) == 0 && distress(peer) == 0)) {
    return;
  }
  for (const auto& [slot, since] : recently_gone) {
    if (now - since <= kRecent && table.known(slot) && !table.live(slot)) {
      add_record(packet, slot);
    }
  }
}

void Context::add_missed(PacketWriter& packet) {
  const size_t before = packet.size();
  double left = gossip_budget.available(now);
  for (auto at = recently_changed.rbegin(); at != recently_changed.rend() && left > 0; ++at) {
    const auto& [slot, since] = *at;
    const size_t size = packet.size();
    // What is newer is on its way anyhow.
    if (now - since >= kOnItsWay && now - since <= kRecent && table.known(slot)) {
      add_record(packet, slot);
    }
    left -= static_cast<double>(packet.size() - size);
  }
  gossip_budget.spend(packet.size() - before);
}

void Context::add_news(PacketWriter& packet) {
  double left = gossip_budget.available(now);
  const double before = left;
  news.tell([&](Slot slot) {
    const size_t size = packet.size();
    if (left <= 0 || !add_record(packet, slot)) {
      return false;
    }
    left -= static_cast<double>(packet.size() - size);
    return true;
  });
  gossip_budget.spend(static_cast<size_t>(before - left));
}

void Context::add_loads(PacketWriter& packet) {
  const auto times = static_cast<unsigned>(std::ceil(log_members())) + config.load_extra;
  double left = total_budget.available(now) - static_cast<double>(packet.size() + kPacketOverhead);
  size_t added = 0;
  board.tell(now, times, [&](Slot, const LoadNews& load) {
    if (added == config.loads_each || left < static_cast<double>(kLoadWire) ||
        !packet.add_load(load)) {
      return false;
    }
    left -= static_cast<double>(kLoadWire);
    ++added;
    return true;
  });
}

}  // namespace tess::cluster
