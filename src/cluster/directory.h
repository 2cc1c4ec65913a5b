// Directory: small numbers ("slots") for nodes, and one copy of each profile. A member table then
// needs eight bytes a member, and lookups go by index. tessd has one for its one table; the
// simulator shares one among thousands of tables. Slots and profiles are counted by their users and
// reused when nobody holds them. One thread.
#pragma once

#include <cstdint>
#include <limits>
#include <unordered_map>
#include <vector>

#include "cluster/packet.h"

namespace tess::cluster {

using Slot = uint32_t;
inline constexpr Slot kNoSlot = std::numeric_limits<uint32_t>::max();
using ProfileRef = uint32_t;
inline constexpr ProfileRef kNoProfile = 0x0fffffff;

class Directory {
 public:
  // kNoSlot if nobody holds a slot for this key.
  Slot find(uint64_t key) const;
  // The same by the first five bytes; kNoSlot also if two nodes share them.
  Slot find_short(uint64_t short_key) const;
  // Slot of a key, made if need be; one more user of it.
  Slot hold(uint64_t key);
  void release(Slot slot);
  uint64_t key(Slot slot) const { return slots_[slot].key; }
  // All slots are below it.
  Slot end() const { return static_cast<Slot>(slots_.size()); }

  // One more user of this profile.
  ProfileRef hold(const Profile& profile);
  void release(ProfileRef ref, Slot slot);
  const Profile& profile(ProfileRef ref) const { return profiles_[ref].profile; }

 private:
  struct SlotInfo {
    uint64_t key = 0;
    uint32_t users = 0;
    std::vector<ProfileRef> profiles;  // those in use, newest last
  };
  struct ProfileInfo {
    Profile profile;
    uint32_t users = 0;
  };

  std::unordered_map<uint64_t, Slot> by_key_;
  std::unordered_multimap<uint64_t, Slot> by_short_key_;
  std::vector<SlotInfo> slots_;
  std::vector<Slot> free_slots_;
  std::vector<ProfileInfo> profiles_;
  std::vector<ProfileRef> free_profiles_;
};

}  // namespace tess::cluster
