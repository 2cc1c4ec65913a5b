// MemberTable: what one node believes about every other: state, incarnation and profile, eight
// bytes a member. It decides which of two statements wins, and nothing else: a higher incarnation
// wins; within one incarnation left beats dead beats suspect beats alive. So the same statements
// lead to the same table in any order, and nobody dead comes back under the incarnation that died.
// Suspects still count as live. The node itself is a member like others. One thread.
#pragma once

#include <functional>
#include <optional>

#include "cluster/directory.h"
#include "cluster/random.h"

namespace tess::cluster {

class MemberTable {
 public:
  // What became of a statement.
  enum class Change : uint8_t {
    kNone,     // known already, or older than what is known
    kJoined,   // a node that was not known, or had been forgotten
    kRevived,  // was dead or had left
    kCleared,  // was suspect
    kUpdated,  // a newer profile of a live node
    kSuspected,
    kDied,
    kLeft,
    kAhead,  // about an incarnation that is not known here: ask for its profile
  };

  MemberTable(Directory& directory, NodeId self);
  ~MemberTable();
  MemberTable(const MemberTable&) = delete;
  MemberTable& operator=(const MemberTable&) = delete;

  Change apply(const AliveRecord& record);
  Change apply(const Verdict& verdict);
  // What a known member's link is, which not every teller of its record says; no new statement.
  void learn_link(Slot slot, uint32_t mbit);
  // As if never heard of. The node itself cannot be forgotten.
  void forget(Slot slot);

  // kNoSlot if not a member in any state.
  Slot find(uint64_t key) const;
  Slot find_short(uint64_t short_key) const {
    const Slot slot = directory_.find_short(short_key);
    return slot != kNoSlot && known(slot) ? slot : kNoSlot;
  }
  bool known(Slot slot) const { return slot < entries_.size() && entries_[slot].state != kAbsent; }
  bool live(Slot slot) const {
    return slot < entries_.size() &&
           (entries_[slot].state == kStateAlive || entries_[slot].state == kStateSuspect);
  }
  // Of known slots only:
  MemberState state(Slot slot) const;
  uint32_t incarnation(Slot slot) const { return entries_[slot].incarnation; }
  const Profile& profile(Slot slot) const { return directory_.profile(entries_[slot].profile); }
  uint64_t key(Slot slot) const { return directory_.key(slot); }

  Slot self() const { return self_; }
  // Slots of this table are below it.
  Slot end() const { return static_cast<Slot>(entries_.size()); }
  // Live members, the node itself included.
  unsigned live_count() const { return live_; }
  // Of all live members with their incarnations; equal tables have equal digests.
  uint32_t digest() const { return static_cast<uint32_t>(digest_ ^ digest_ >> 32); }
  // The same of the live members in each child range.
  RangeHashes hashes(const Range& range) const;
  unsigned live_in(const Range& range) const;

  // A random live member other than the node itself and those in `avoid`; kNoSlot if there is none.
  Slot random_live(Random& random, std::span<const Slot> avoid) const;
  // Live members in an order that visits each once before any again, and differs from round to
  // round; never the node itself. kNoSlot if alone.
  Slot next_in_turn(Random& random);
  // The live member that follows this one in the circle of keys: the one it watches. kNoSlot if
  // alone.
  Slot successor();

 private:
  enum : uint8_t { kAbsent, kStateAlive, kStateSuspect, kStateDead, kStateLeft };
  struct Entry {
    uint32_t profile : 28 = kNoProfile;
    uint32_t state : 4 = kAbsent;
    uint32_t incarnation = 0;
  };

  static uint64_t mix(uint64_t key, uint32_t incarnation);
  void set_state(Slot slot, uint8_t state, uint32_t incarnation);
  void set_profile(Slot slot, const Profile& profile);

  Directory& directory_;
  std::vector<Entry> entries_;
  Slot self_ = kNoSlot;
  unsigned live_ = 0;
  uint64_t digest_ = 0;
  Slot successor_ = kNoSlot;
  // next_in_turn: slot (start_ + step_ * i) mod size_, for i below size_
  uint32_t turn_size_ = 0;
  uint32_t turn_start_ = 0;
  uint32_t turn_step_ = 1;
  uint32_t turn_at_ = 0;
};

}  // namespace tess::cluster
