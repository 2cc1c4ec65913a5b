// News: which members' states this node still has to tell, and how often it has told each. What is
// told is always the state at that moment, so an item is only a slot. Least often told first,
// newest first among those. Plain value.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <utility>

#include "cluster/directory.h"

namespace tess::cluster {

class News {
 public:
  // The state of `slot` is new: tell it from now on, `times` times.
  void add(Slot slot, unsigned times);
  // There is a detail more to tell about it: `times` more, unless it is still told that often
  // anyway.
  void add_detail(Slot slot, unsigned times);
  void drop(Slot slot);

  bool empty() const { return order_.empty(); }
  size_t size() const { return order_.size(); }

  // Offers slots in order until `offer` returns false; those it took count as told once more.
  template <typename Offer>
  void tell(Offer offer) {
    chosen_.clear();
    for (const auto& [rank, slot] : order_) {
      if (!offer(slot)) {
        break;
      }
      chosen_.push_back(slot);
    }
    for (const Slot slot : chosen_) {
      told(slot);
    }
  }

 private:
  // How often told, then the newest first.
  using Rank = std::pair<unsigned, uint64_t>;
  struct Item {
    Rank rank;
    unsigned left;
  };

  void told(Slot slot);

  std::map<Rank, Slot> order_;
  std::unordered_map<Slot, Item> items_;
  std::vector<Slot> chosen_;
  uint64_t next_ = UINT64_MAX;
};

}  // namespace tess::cluster
