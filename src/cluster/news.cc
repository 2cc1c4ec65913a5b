#include "cluster/news.h"

namespace tess::cluster {

void News::add(Slot slot, unsigned times) {
  drop(slot);
  const Rank rank{0, next_--};
  items_[slot] = {rank, times};
  order_[rank] = slot;
}

void News::drop(Slot slot) {
  const auto at = items_.find(slot);
  if (at != items_.end()) {
    order_.erase(at->second.rank);
    items_.erase(at);
  }
}

void News::add_detail(Slot slot, unsigned times) {
  const auto at = items_.find(slot);
  if (at == items_.end() || at->second.left < times) {
    add(slot, times);
  }
}

void News::told(Slot slot) {
  Item& item = items_.at(slot);
  order_.erase(item.rank);
  if (item.left <= 1) {
    items_.erase(slot);
    return;
  }
  --item.left;
  ++item.rank.first;
  order_[item.rank] = slot;
}

}  // namespace tess::cluster
