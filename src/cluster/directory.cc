#include "cluster/directory.h"

#include <algorithm>

namespace tess::cluster {

Slot Directory::find(uint64_t key) const {
  const auto at = by_key_.find(key);
  return at == by_key_.end() ? kNoSlot : at->second;
}

Slot Directory::find_short(uint64_t short_key) const {
  const auto [from, to] = by_short_key_.equal_range(short_key);
  return from != to && std::next(from) == to ? from->second : kNoSlot;
}

Slot Directory::hold(uint64_t key) {
  const auto [at, fresh] = by_key_.try_emplace(key, kNoSlot);
  if (fresh) {
    if (free_slots_.empty()) {
      at->second = static_cast<Slot>(slots_.size());
      slots_.emplace_back();
    } else {
      at->second = free_slots_.back();
      free_slots_.pop_back();
    }
    slots_[at->second].key = key;
    by_short_key_.emplace(NodeId::shorten(key), at->second);
  }
  ++slots_[at->second].users;
  return at->second;
}

void Directory::release(Slot slot) {
  SlotInfo& info = slots_[slot];
  TESS_CHECK(info.users > 0, "slot {} released too often", slot);
  if (--info.users == 0) {
    TESS_CHECK(info.profiles.empty(), "slot {} released before its profiles", slot);
    by_key_.erase(info.key);
    const auto [from, to] = by_short_key_.equal_range(NodeId::shorten(info.key));
    by_short_key_.erase(
        std::find_if(from, to, [&](const auto& item) { return item.second == slot; }));
    free_slots_.push_back(slot);
  }
}

ProfileRef Directory::hold(const Profile& profile) {
  const Slot slot = find(profile.id.key());
  TESS_CHECK(slot != kNoSlot, "a profile of a node without a slot");
  SlotInfo& info = slots_[slot];
  for (auto at = info.profiles.rbegin(); at != info.profiles.rend(); ++at) {
    if (profiles_[*at].profile == profile) {
      ++profiles_[*at].users;
      return *at;
    }
  }
  ProfileRef ref = 0;
  if (free_profiles_.empty()) {
    ref = static_cast<ProfileRef>(profiles_.size());
    TESS_CHECK(ref < kNoProfile, "too many profiles");
    profiles_.emplace_back();
  } else {
    ref = free_profiles_.back();
    free_profiles_.pop_back();
  }
  profiles_[ref] = {profile, 1};
  info.profiles.push_back(ref);
  return ref;
}

void Directory::release(ProfileRef ref, Slot slot) {
  ProfileInfo& info = profiles_[ref];
  TESS_CHECK(info.users > 0, "profile {} released too often", ref);
  if (--info.users == 0) {
    std::erase(slots_[slot].profiles, ref);
    info.profile = Profile{};
    free_profiles_.push_back(ref);
  }
}

}  // namespace tess::cluster
