#include "cluster/member_table.h"

#include <algorithm>
#include <numeric>

namespace tess::cluster {

MemberTable::MemberTable(Directory& directory, NodeId self) : directory_(directory) {
  // Its slot is held twice: as long as the table lives, and while it is a member.
  self_ = directory_.hold(self.key());
}

MemberTable::~MemberTable() {
  for (Slot slot = 0; slot < end(); ++slot) {
    if (known(slot)) {
      directory_.release(entries_[slot].profile, slot);
      directory_.release(slot);
    }
  }
  directory_.release(self_);
}

uint64_t MemberTable::mix(uint64_t key, uint32_t incarnation) {
  return Random(key ^ uint64_t{incarnation} * 0xd6e8feb86659fd93ull).next();
}

Slot MemberTable::find(uint64_t key) const {
  const Slot slot = directory_.find(key);
  return slot != kNoSlot && known(slot) ? slot : kNoSlot;
}

MemberState MemberTable::state(Slot slot) const {
  TESS_CHECK(known(slot), "slot {} is not a member", slot);
  return static_cast<MemberState>(entries_[slot].state - kStateAlive);
}

void MemberTable::set_profile(Slot slot, const Profile& profile) {
  const ProfileRef fresh = directory_.hold(profile);
  if (entries_[slot].profile != kNoProfile) {
    directory_.release(entries_[slot].profile, slot);
  }
  entries_[slot].profile = fresh;
}

void MemberTable::set_state(Slot slot, uint8_t state, uint32_t incarnation) {
  Entry& entry = entries_[slot];
  const bool was_live = live(slot);
  if (was_live) {
    digest_ ^= mix(key(slot), entry.incarnation);
    --live_;
  }
  entry.state = state;
  entry.incarnation = incarnation;
  const bool is_live = live(slot);
  if (is_live) {
    digest_ ^= mix(key(slot), incarnation);
    ++live_;
  }
  if (was_live == is_live || slot == self_) {
    return;
  }
  if (!is_live) {
    if (slot == successor_) {
      successor_ = kNoSlot;
    }
  } else if (successor_ != kNoSlot &&
             key(slot) - key(self_) < key(successor_) - key(self_)) {  // modulo 2^64: the circle
    successor_ = slot;
  } else if (live_ == 2) {
    successor_ = kNoSlot;
  }
}

MemberTable::Change MemberTable::apply(const AliveRecord& record) {
  const uint64_t key = record.profile.id.key();
  Slot slot = find(key);
  if (slot == kNoSlot) {
    slot = directory_.hold(key);
    if (slot >= entries_.size()) {
      entries_.resize(slot + 1);
    }
    set_profile(slot, record.profile);
    set_state(slot, kStateAlive, record.incarnation);
    return Change::kJoined;
  }
  if (record.incarnation <= entries_[slot].incarnation ||
      !(profile(slot).id == record.profile.id)) {  // another node with the same key: first come
    return Change::kNone;
  }
  const uint8_t before = entries_[slot].state;
  set_profile(slot, record.profile);
  set_state(slot, kStateAlive, record.incarnation);
  return before == kStateAlive     ? Change::kUpdated
         : before == kStateSuspect ? Change::kCleared
                                   : Change::kRevived;
}

MemberTable::Change MemberTable::apply(const Verdict& verdict) {
  const Slot slot = find(verdict.key);
  if (slot == kNoSlot) {
    return Change::kAhead;
  }
  const Entry entry = entries_[slot];
  const auto state = static_cast<uint8_t>(kStateAlive + static_cast<uint8_t>(verdict.state));
  if (verdict.incarnation < entry.incarnation ||
      (verdict.incarnation == entry.incarnation && state <= entry.state)) {
    return Change::kNone;
  }
  if (verdict.state == MemberState::kSuspect) {
    if (verdict.incarnation > entry.incarnation) {
      return Change::kAhead;  // its newest profile is missing here, and that it is suspected does
                              // not help
    }
    set_state(slot, state, verdict.incarnation);
    return Change::kSuspected;
  }
  const bool was_live = live(slot);
  set_state(slot, state, verdict.incarnation);
  if (!was_live) {
    return Change::kNone;  // gone before; only the incarnation or the manner is new
  }
  return verdict.state == MemberState::kDead ? Change::kDied : Change::kLeft;
}

void MemberTable::learn_link(Slot slot, uint32_t mbit) {
  TESS_CHECK(known(slot), "slot {} is not a member", slot);
  if (profile(slot).facts.link_mbit != mbit) {
    Profile changed = profile(slot);
    changed.facts.link_mbit = mbit;
    set_profile(slot, changed);
  }
}

void MemberTable::forget(Slot slot) {
  TESS_CHECK(slot != self_ && known(slot), "slot {} cannot be forgotten", slot);
  set_state(slot, kAbsent, 0);
  directory_.release(entries_[slot].profile, slot);
  entries_[slot].profile = kNoProfile;
  directory_.release(slot);
}

RangeHashes MemberTable::hashes(const Range& range) const {
  RangeHashes out{range, std::vector<uint32_t>(kRangeChildren, 0)};
  const unsigned shift = 64 - (range.depth + 1u) * kRangeBits;
  for (Slot slot = 0; slot < end(); ++slot) {
    if (!live(slot) || !range.contains(key(slot))) {
      continue;
    }
    const uint64_t hash = mix(key(slot), entries_[slot].incarnation);
    out.children[key(slot) >> shift & (kRangeChildren - 1)] ^=
        static_cast<uint32_t>(hash ^ hash >> 32);
  }
  return out;
}

unsigned MemberTable::live_in(const Range& range) const {
  unsigned count = 0;
  for (Slot slot = 0; slot < end(); ++slot) {
    count += live(slot) && range.contains(key(slot)) ? 1 : 0;
  }
  return count;
}

Slot MemberTable::random_live(Random& random, std::span<const Slot> avoid) const {
  if (entries_.empty()) {
    return kNoSlot;
  }
  const auto good = [&](Slot slot) {
    return slot != self_ && live(slot) &&
           std::find(avoid.begin(), avoid.end(), slot) == avoid.end();
  };
  for (int i = 0; i < 24; ++i) {
    const Slot slot = random.below(end());
    if (good(slot)) {
      return slot;
    }
  }
  // Few are left: take the next one round the table.
  const Slot from = random.below(end());
  for (Slot i = 0; i < end(); ++i) {
    const Slot slot = (from + i) % end();
    if (good(slot)) {
      return slot;
    }
  }
  return kNoSlot;
}

Slot MemberTable::next_in_turn(Random& random) {
  if (end() > turn_size_ + turn_size_ / 8) {
    turn_at_ = turn_size_;  // many are new: they do not wait for the next round
  }
  for (int rounds = 0; rounds < 2; ++rounds) {
    for (; turn_at_ < turn_size_; ++turn_at_) {
      const auto slot =
          static_cast<Slot>((turn_start_ + uint64_t{turn_step_} * turn_at_) % turn_size_);
      if (slot != self_ && live(slot)) {
        ++turn_at_;
        return slot;
      }
    }
    turn_size_ = end();
    turn_at_ = 0;
    if (turn_size_ == 0) {
      return kNoSlot;
    }
    turn_start_ = random.below(turn_size_);
    do {
      turn_step_ = 1 + random.below(turn_size_);
    } while (std::gcd(turn_step_, turn_size_) != 1);
  }
  return kNoSlot;
}

Slot MemberTable::successor() {
  if (successor_ != kNoSlot) {
    return successor_;
  }
  uint64_t nearest = 0;
  for (Slot slot = 0; slot < end(); ++slot) {
    const uint64_t distance = key(slot) - key(self_);
    if (slot != self_ && live(slot) && (successor_ == kNoSlot || distance < nearest)) {
      successor_ = slot;
      nearest = distance;
    }
  }
  return successor_;
}

}  // namespace tess::cluster
