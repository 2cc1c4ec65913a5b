#include "cluster/sync.h"

#include <algorithm>
#include <unordered_set>

namespace tess::cluster {
namespace {
constexpr size_t kEntriesMost = 60;  // in one packet, so of a range that is not split further
constexpr unsigned kAnswersMost = 8;
constexpr unsigned kPullFailures = 20;
}  // namespace

void Sync::tick() {
  if (pull_ && context_.now >= pull_->due) {
    ++pull_->failures;
    if (pull_->failures > kPullFailures) {
      pull_.reset();  // anti-entropy brings the rest
    } else {
      pull_->peer = context_.table.random_live(context_.random, std::span(&pull_->peer, 1));
      if (pull_->peer == kNoSlot) {
        pull_->peer = context_.table.random_live(context_.random, {});
      }
      ask_pull();
    }
  }
  if (!differ_since_ || pull_ || context_.now - *differ_since_ < context_.config.sync_after ||
      context_.now < next_) {
    return;
  }
  const Slot slot = context_.table.random_live(context_.random, {});
  if (slot == kNoSlot) {
    differ_since_.reset();  // nobody is left to differ from
  } else {
    begin(slot);
  }
}

Time Sync::deadline() const {
  if (pull_) {
    return pull_->due;
  }
  return differ_since_ ? std::max(next_, *differ_since_ + context_.config.sync_after) : Time::max();
}

void Sync::on_digest(uint32_t digest) {
  if (digest == context_.table.digest()) {
    differ_since_.reset();
  } else if (!differ_since_) {
    differ_since_ = context_.now;
  }
}

void Sync::begin(Slot slot) {
  context_.count(Count::kSyncs);
  const double jitter = 0.75 + 0.5 * context_.random.unit();
  next_ = context_.now + std::chrono::duration_cast<Duration>(
                             context_.attention.stretched(context_.config.sync_interval) * jitter);
  context_.send(Kind::kSync, 0, slot,
                [&](PacketWriter& packet) { packet.add_hashes(context_.table.hashes(Range{})); });
}

bool Sync::afford(size_t bytes) {
  if (context_.sync_budget.available(context_.now) < static_cast<double>(bytes)) {
    return false;
  }
  context_.sync_budget.spend(bytes);
  return true;
}

void Sync::on_packet(const Packet& packet, Slot from) {
  unsigned packets = 0;
  for (const RangeHashes& hashes : packet.hashes) {
    answer_hashes(hashes, from, packets);
  }
  for (const RangeEntries& entries : packet.entries) {
    answer_entries(entries, from);
  }
  if (!packet.wanted.empty()) {
    answer_wanted(packet.wanted, from);
  }
  if (packet.pull_from) {
    answer_pull(*packet.pull_from, from);
  }
  if (packet.pulled_to) {
    on_pulled(*packet.pulled_to, from);
  }
}

RangeEntries Sync::entries_in(const Range& range) const {
  RangeEntries out{range, true, {}};
  const MemberTable& table = context_.table;
  for (Slot slot = 0; slot < table.end(); ++slot) {
    if (table.known(slot) && range.contains(table.key(slot))) {
      const MemberState state = table.state(slot);
      out.entries.push_back({table.key(slot), table.incarnation(slot),
                             state == MemberState::kSuspect ? MemberState::kAlive : state});
    }
  }
  return out;
}

void Sync::answer_hashes(const RangeHashes& theirs, Slot from, unsigned& packets) {
  const RangeHashes mine = context_.table.hashes(theirs.range);
  const uint32_t first = context_.random.below(kRangeChildren);  // all get their turn
  for (uint32_t i = 0; i < kRangeChildren && packets < kAnswersMost; ++i) {
    const uint32_t child = (first + i) % kRangeChildren;
    if (mine.children[child] == theirs.children[child]) {
      continue;
    }
    const Range range{static_cast<uint8_t>(theirs.range.depth + 1),
                      theirs.range.prefix << kRangeBits | child};
    RangeEntries entries = entries_in(range);
    const bool split = entries.entries.size() > kEntriesMost && range.depth < kRangeDepthMax;
    if (entries.entries.size() > kEntriesMost) {
      entries.entries.resize(kEntriesMost);
      entries.complete = false;
    }
    if (!afford(split ? 200 : 60 + 13 * entries.entries.size())) {
      return;
    }
    ++packets;
    context_.send(Kind::kSync, 0, from, [&](PacketWriter& packet) {
      if (split) {
        packet.add_hashes(context_.table.hashes(range));
      } else {
        packet.add_entries(entries);
      }
    });
  }
}

void Sync::answer_entries(const RangeEntries& theirs, Slot from) {
  MemberTable& table = context_.table;
  std::vector<uint64_t> want;
  std::vector<Slot> push;
  std::unordered_set<Slot> listed;
  for (const SyncEntry& entry : theirs.entries) {
    const Slot slot = table.find(entry.key);
    const bool they_live = entry.state == MemberState::kAlive;
    if (slot == kNoSlot) {
      if (they_live) {
        want.push_back(entry.key);
      }
      continue;
    }
    listed.insert(slot);
    const uint32_t mine = table.incarnation(slot);
    if (they_live) {
      if (entry.incarnation > mine) {
        want.push_back(entry.key);
      } else if (entry.incarnation < mine || !table.live(slot)) {
        push.push_back(slot);
      }
    } else if (table.live(slot)) {
      if (entry.incarnation < mine) {
        push.push_back(slot);
      } else if (entry.state == MemberState::kLeft) {
        // Only the node itself says so.
        if (slot != table.self() &&
            table.apply(Verdict{entry.key, entry.incarnation, MemberState::kLeft, entry.key}) ==
                MemberTable::Change::kLeft) {
          prober_.on_settled(slot);
          context_.note_gone(slot);
          context_.event(EventKind::kLeft, slot);
          context_.tell(slot);
        }
      } else {
        on_doubt({entry.key, entry.incarnation, MemberState::kDead, table.key(from)});
      }
    }
  }
  if (theirs.complete) {
    for (Slot slot = 0; slot < table.end(); ++slot) {
      if (table.live(slot) && theirs.range.contains(table.key(slot)) && !listed.contains(slot)) {
        push.push_back(slot);
      }
    }
  }
  for (size_t i = 0; i < want.size(); i += kEntriesMost) {
    context_.send(Kind::kSync, 0, from, [&](PacketWriter& packet) {
      for (size_t j = i; j < std::min(want.size(), i + kEntriesMost); ++j) {
        packet.add_wanted(want[j]);
      }
    });
  }
  send_records(push, from);
}

void Sync::on_doubt(const Verdict& verdict) {
  const Slot slot = context_.table.find(verdict.key);
  if (slot == kNoSlot || slot == context_.table.self() || !context_.table.live(slot) ||
      verdict.incarnation < context_.table.incarnation(slot) ||
      prober_.inquiries() >= context_.config.sync_inquiries) {
    return;
  }
  context_.count(Count::kSyncInquiries);
  context_.send(Kind::kNews, 0, slot, [&](PacketWriter& packet) { packet.add_verdict(verdict); });
  prober_.inquire(slot);
}

void Sync::send_records(std::span<const Slot> slots, Slot to) {
  unsigned packets = 0;
  for (size_t i = 0; i < slots.size() && packets < 2 * kAnswersMost; ++packets) {
    if (!afford(kDatagramMax)) {
      return;
    }
    context_.count(Count::kSyncPushes);
    const size_t before = i;
    context_.send(Kind::kSync, 0, to, [&](PacketWriter& packet) {
      while (i < slots.size() && context_.add_whole(packet, slots[i])) {
        ++i;
      }
    });
    TESS_CHECK(i > before, "a record does not fit an empty packet");
  }
}

void Sync::answer_wanted(const std::vector<uint64_t>& keys, Slot to) {
  std::vector<Slot> slots;
  for (const uint64_t key : keys) {
    if (const Slot slot = context_.table.find(key); slot != kNoSlot) {
      slots.push_back(slot);
    }
  }
  send_records(slots, to);
}

void Sync::pull(Slot slot) {
  pull_ = Pull{0, slot, context_.now, 0};
  ask_pull();
}

void Sync::ask_pull() {
  const Duration wait = std::min(context_.config.pull_timeout * (1 + pull_->failures),
                                 context_.config.pull_timeout_most);
  pull_->due = context_.now + context_.attention.stretched(wait);
  if (pull_->peer == kNoSlot) {
    return;
  }
  context_.count(Count::kPulls);
  context_.send(Kind::kSync, 0, pull_->peer, [&](PacketWriter& packet) {
    context_.add_self(packet);
    packet.add_pull(pull_->from_key);
  });
}

void Sync::answer_pull(uint64_t from_key, Slot to) {
  const MemberTable& table = context_.table;
  std::vector<std::pair<uint64_t, Slot>> members;
  for (Slot slot = 0; slot < table.end(); ++slot) {
    if (table.live(slot) && table.key(slot) >= from_key) {
      members.emplace_back(table.key(slot), slot);
    }
  }
  // More than fit into the packets of one answer are not needed.
  const size_t enough = std::min(members.size(), context_.config.pull_packets * 30);
  const size_t sorted = std::min(members.size(), enough + 1);
  std::partial_sort(members.begin(), members.begin() + static_cast<ptrdiff_t>(sorted),
                    members.end());
  size_t i = 0;
  for (size_t packets = 0; packets < context_.config.pull_packets; ++packets) {
    if (!afford(kDatagramMax)) {
      return;  // it asks another one
    }
    const bool last_packet = packets + 1 == context_.config.pull_packets;
    bool end = false;
    context_.send(Kind::kSync, 0, to, [&](PacketWriter& packet) {
      constexpr size_t kPulledWire = 10;
      while (i < enough && packet.room() > kPulledWire + 2 + 255 &&
             packet.add_alive(table.incarnation(members[i].second),
                              table.profile(members[i].second))) {
        ++i;
      }
      end = i == members.size();
      if (end || last_packet || i == enough) {
        packet.add_pulled(end ? 0 : members[i].first);
        end = true;
      }
    });
    if (end) {
      return;
    }
  }
}

void Sync::on_pulled(uint64_t to_key, Slot from) {
  // An answer that comes when another node has been asked is as good: it goes on from the same key,
  // or from one before it.
  if (!pull_ || (to_key != 0 && to_key <= pull_->from_key)) {
    return;
  }
  if (to_key == 0) {
    pull_.reset();
    differ_since_.reset();
    context_.event(EventKind::kReady, context_.table.self());
    return;
  }
  pull_->from_key = to_key;
  pull_->failures = 0;
  const Slot next = context_.table.random_live(context_.random, {});
  pull_->peer = next == kNoSlot ? from : next;
  ask_pull();
}

}  // namespace tess::cluster
