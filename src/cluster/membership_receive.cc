// What others say, and what becomes of it. Nothing in a packet is an assertion: it was sealed by a
// member, and a member may be wrong or out of date; it is dropped and counted, or overruled by
// incarnation.
#include <algorithm>

#include "cluster/membership_parts.h"

namespace tess::cluster {
namespace {
constexpr Duration kVoteLife = std::chrono::seconds(30);
constexpr size_t kVotesNeeded = 2;
constexpr unsigned kClashesNeeded = 3;
constexpr size_t kRecordsMost = 40;  // more do not fit a datagram
}  // namespace

void Membership::Parts::receive(Duration queued, const Address& from, Bytes datagram) {
  context.count(Count::kPacketsIn);
  if (queued > context.config.stale_packet) {
    // Nobody waits for its answer any more; reading it would only make this node later.
    context.drop(Drop::kStale);
    return;
  }
  const auto opened = context.envelope.open(datagram);
  if (!opened) {
    context.drop(opened.error());
    // Members still talk to the earlier start of this node, which alone knew them. What came is not
    // believed, nor could it be opened; whoever sent it is asked who it is.
    if (opened.error() == Drop::kOtherSession && context.table.live_count() <= 1) {
      discovery.introduce(from);
    }
    return;
  }
  if (!read_packet(opened->plaintext, packet) || packet.alive.size() > kRecordsMost) {
    context.drop(Drop::kMalformed);
    return;
  }
  if (packet.sender == context.self_key()) {  // another machine with our key; its records tell more
    context.drop(Drop::kOwn);
    return;
  }
  if (opened->bound) {
    on_bound(*opened, queued, from);
  } else if (packet.kind == Kind::kJoin || packet.kind == Kind::kBeacon) {
    discovery.on_open(packet, opened->session, from);
  } else {
    context.drop(Drop::kMalformed);
  }
}

void Membership::Parts::on_bound(const Envelope::Opened& opened, Duration queued,
                                 const Address& from) {
  if (packet.kind == Kind::kWelcome && !discovery.expected(packet.nonce)) {
    context.drop(Drop::kReplayed);
    return;
  }
  // A sender that shows itself is taken in first, so that the rest of its packet counts.
  for (const AliveRecord& record : packet.alive) {
    if (record.profile.id.key() == packet.sender && record.profile.session == opened.session) {
      take_alive(record);
    }
  }
  const Slot sender = context.table.find(packet.sender);
  if (sender == kNoSlot) {
    context.drop(Drop::kUnknownSender);
    discovery.introduce(from);
    return;
  }
  if (context.table.profile(sender).session != opened.session) {
    context.drop(Drop::kOldSession);
    discovery.settle_session(sender, opened.session, from);
    return;
  }
  if (!context.envelope.admit(opened.session, opened.counter)) {
    context.drop(Drop::kReplayed);
    return;
  }
  context.heard = context.now;
  context.note_health(sender, packet.health);
  if (packet.sender_link) {
    context.table.learn_link(sender, *packet.sender_link);
  }
  for (const AliveRecord& record : packet.alive) {
    take_alive(record);
  }
  bool doubted = false;
  for (const Verdict& verdict : packet.verdicts) {
    doubted = doubted || verdict.key == context.self_key();
    take_verdict(verdict, sender);
  }
  for (const RangeEntries& list : packet.entries) {
    for (const SyncEntry& entry : list.entries) {
      if (entry.key == context.self_key() && entry.state != MemberState::kAlive &&
          entry.incarnation >= context.table.incarnation(context.table.self())) {
        refute(entry.incarnation);
      }
    }
  }
  for (const LoadNews& news : packet.loads) {
    const Slot slot = context.table.find_short(news.short_key);
    if (slot != kNoSlot && slot != context.table.self() && context.table.live(slot)) {
      context.board.put(slot, news, context.now - queued);
    }
  }
  on_kind(sender, queued, from, doubted);
  if (context.attention.score() > 0 && !context.news.empty() && context.now >= next_gossip) {
    gossip();  // its next tick may be far
  }
}

void Membership::Parts::on_kind(Slot sender, Duration queued, const Address& from, bool doubted) {
  const bool live = context.table.live(sender);
  switch (packet.kind) {
    case Kind::kPing:
      context.send(Kind::kAck, packet.nonce, from, context.table.profile(sender).session,
                   [&](PacketWriter& answer) {
                     context.add_own_link(answer);
                     if (doubted) {
                       context.add_self(answer);
                     }
                     context.add_doubt(answer, sender);
                     context.add_recent(answer, sender);
                     if (live && packet.digest != context.table.digest()) {
                       context.add_missed(answer);
                     }
                     if (context.table.profile(sender).address != from) {
                       answer.add_observed(from);
                     }
                   });
      break;
    case Kind::kAck:
      prober.on_ack(packet, sender, queued);
      if (packet.observed) {
        on_observed(*packet.observed, packet.sender);
      }
      break;
    case Kind::kIndirect:
      prober.on_indirect(packet, sender, from);
      break;
    case Kind::kNack:
      prober.on_nack(packet, sender);
      break;
    case Kind::kWelcome:
      if (packet.observed) {
        on_observed(*packet.observed, packet.sender);
      }
      if (context.table.live_count() <= 2 && !sync.pulling()) {
        sync.pull(sender);
      } else if (!sync.pulling()) {
        context.send(Kind::kNews, 0, sender, [&](PacketWriter& answer) {
          context.add_self(answer);
          context.add_doubt(answer, sender);
        });
        sync.begin(sender);
      }
      break;
    case Kind::kNews:
    case Kind::kSync:
      sync.on_packet(packet, sender);
      break;
    case Kind::kJoin:
    case Kind::kBeacon:
      context.drop(Drop::kMalformed);
      return;
  }
  if (live) {
    sync.on_digest(packet.digest);
  } else if (packet.kind != Kind::kPing && packet.kind != Kind::kWelcome) {
    // We hold it for dead and it does not know.
    context.send(Kind::kNews, 0, sender,
                 [&](PacketWriter& out) { context.add_doubt(out, sender); });
  }
}

void Membership::Parts::take_alive(const AliveRecord& record) {
  MemberTable& table = context.table;
  const uint64_t key = record.profile.id.key();
  if (key == context.self_key()) {
    take_own_record(record);
    return;
  }
  if (shut_out.contains(record.profile.id)) {
    return;
  }
  Slot slot = table.find(key);
  const uint64_t session = slot == kNoSlot ? 0 : table.profile(slot).session;
  const uint32_t before = slot == kNoSlot ? 0 : table.incarnation(slot);
  const auto change = table.apply(record);
  slot = table.find(key);
  switch (change) {
    case MemberTable::Change::kNone:
      if (record.incarnation < before) {
        context.count(Count::kStaleTalk);
      } else if (record.profile.id == table.profile(slot).id &&
                 table.profile(slot).facts.link_mbit == 0) {
        // A node of the version before has told it without.
        table.learn_link(slot, record.profile.facts.link_mbit);
      }
      return;
    case MemberTable::Change::kJoined:
    case MemberTable::Change::kRevived:
      context.event(EventKind::kJoined, slot);
      break;
    case MemberTable::Change::kCleared:
      context.event(EventKind::kCleared, slot);
      break;
    default:
      context.event(EventKind::kChanged, slot);
      break;
  }
  if (table.profile(slot).session != session) {
    context.board.forget(slot);
  }
  context.gone.erase(slot);
  prober.on_settled(slot);
  if (!sync.pulling() || packet.kind != Kind::kSync) {
    context.tell(slot);
  }  // what a joining node pulls is no news to anybody
}

void Membership::Parts::take_own_record(const AliveRecord& record) {
  MemberTable& table = context.table;
  const uint32_t mine = table.incarnation(table.self());
  const Profile& profile = table.profile(table.self());
  Profile said = record.profile;
  said.facts.link_mbit = profile.facts.link_mbit;  // a node of the version before tells none
  if (record.incarnation < mine || (record.incarnation == mine && said == profile)) {
    return;
  }
  // An earlier start of this node, or somebody else with its key.
  if (record.profile.session != profile.session && record.incarnation > 1) {
    if (clashes == 0) {
      clashes_since = context.now;
    }
    if (++clashes == kClashesNeeded) {
      context.event(EventKind::kIdentityClash, table.self());
    }
  }
  refute(record.incarnation);
}

void Membership::Parts::refute(uint32_t incarnation) {
  if (incarnation >= kIncarnationMost) {  // only a lie gets so far, and nothing can outbid it
    context.drop(Drop::kMalformed);
    return;
  }
  const MemberTable& table = context.table;
  const Profile profile = table.profile(table.self());
  announce(incarnation + 1, profile);
  context.count(Count::kRefutations);
  context.event(EventKind::kRefuted, table.self());
}

void Membership::Parts::take_verdict(const Verdict& verdict, Slot sender) {
  MemberTable& table = context.table;
  if (verdict.key == context.self_key()) {
    if (verdict.incarnation >= table.incarnation(table.self())) {
      context.attention.charge(1);
      refute(verdict.incarnation);
    }
    return;
  }
  const Slot slot = table.find(verdict.key);
  if (packet.kind == Kind::kSync && verdict.state == MemberState::kDead) {
    sync.on_doubt(verdict);
    return;
  }
  const auto change = table.apply(verdict);
  switch (change) {
    case MemberTable::Change::kSuspected:
      context.event(EventKind::kSuspected, slot);
      prober.on_suspected(slot, verdict.from);
      return;
    case MemberTable::Change::kDied:
    case MemberTable::Change::kLeft:
      gone(change, slot);
      return;
    case MemberTable::Change::kAhead:
      if (slot != kNoSlot) {
        want(verdict.key, sender);
      }
      return;
    default:
      break;
  }
  if (verdict.incarnation < table.incarnation(slot)) {
    context.count(Count::kStaleTalk);
  } else if (verdict.state == MemberState::kSuspect && table.state(slot) == MemberState::kSuspect) {
    prober.on_suspected(slot, verdict.from);
  }
}

void Membership::Parts::gone(MemberTable::Change how, Slot slot) {
  prober.on_settled(slot);
  context.note_gone(slot);
  context.event(how == MemberTable::Change::kDied ? EventKind::kDied : EventKind::kLeft, slot);
  context.tell(slot);
}

void Membership::Parts::want(uint64_t key, Slot from) {
  context.send(Kind::kSync, 0, from, [&](PacketWriter& out) { out.add_wanted(key); });
}

// Others see this node at another address than it says. One may be behind a translator; two that
// agree are believed, and one is when there is no other, or no address yet.
void Membership::Parts::on_observed(const Address& seen, uint64_t from) {
  MemberTable& table = context.table;
  Profile profile = table.profile(table.self());
  if (seen.empty() || seen == profile.address) {
    return;
  }
  std::erase_if(address_votes, [&](const AddressVote& vote) {
    return vote.from == from || context.now - vote.at > kVoteLife;
  });
  address_votes.push_back({from, seen, context.now});
  const auto votes = static_cast<size_t>(
      std::count_if(address_votes.begin(), address_votes.end(),
                    [&](const AddressVote& vote) { return vote.seen == seen; }));
  const size_t voters = std::max(1u, context.table.live_count() - 1);
  if (!profile.address.empty() && votes < std::min(kVotesNeeded, voters)) {
    return;
  }
  address_votes.clear();
  profile.address = seen;
  announce(table.incarnation(table.self()) + 1, profile);
  context.event(EventKind::kAddressChanged, table.self());
}

}  // namespace tess::cluster
