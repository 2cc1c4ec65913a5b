#include "cluster/load_board.h"

#include <algorithm>

namespace tess::cluster {

bool LoadBoard::put(Slot slot, const LoadNews& news, Time now) {
  const auto [at, fresh] = items_.try_emplace(slot);
  Item& item = at->second;
  if (!fresh) {
    const auto ahead = static_cast<int16_t>(news.version - item.news.version);
    // After minutes the version may have gone round; then only the time counts.
    const bool newer =
        now - item.measured > std::chrono::minutes(5) ? now - news.age > item.measured : ahead > 0;
    if (!newer) {
      return false;
    }
  }
  item = {news, now - news.age, 0};
  insert_fresh(slot, item.measured);
  if (items_.size() > most_ + most_ / 8) {
    drop_oldest();
  }
  return true;
}

void LoadBoard::insert_fresh(Slot slot, Time measured) {
  std::erase(fresh_, slot);
  auto at = fresh_.begin();
  while (at != fresh_.end() && items_.at(*at).measured > measured) {
    ++at;
  }
  if (static_cast<size_t>(at - fresh_.begin()) < kFresh) {
    fresh_.insert(at, slot);
    if (fresh_.size() > kFresh) {
      fresh_.pop_back();
    }
  }
}

void LoadBoard::drop_oldest() {
  std::vector<std::pair<Time, Slot>> all;
  all.reserve(items_.size());
  for (const auto& [slot, item] : items_) {
    all.emplace_back(item.measured, slot);
  }
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i + most_ < all.size(); ++i) {
    forget(all[i].second);
  }
}

void LoadBoard::forget(Slot slot) {
  if (items_.erase(slot) > 0) {
    std::erase(fresh_, slot);
  }
}

const LoadBoard::Item* LoadBoard::find(Slot slot) const {
  const auto at = items_.find(slot);
  return at == items_.end() ? nullptr : &at->second;
}

}  // namespace tess::cluster
