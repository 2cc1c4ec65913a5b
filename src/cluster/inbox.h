// Inbox: datagrams between the socket and Membership::receive. The driver empties its socket into
// it (cheap) and takes them out one by one (dear). In good times first come, first served; a node
// that is behind takes the newest first, because only the newest still have somebody waiting for
// their answer, and drops what is too old. Holds at most `most`.
#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "cluster/time.h"

namespace tess::cluster {

template <typename Item>
class Inbox {
 public:
  Inbox(size_t most, Duration behind, Duration stale)
      : most_(most), behind_(behind), stale_(stale) {}

  void put(Time arrived, Item item) {
    items_.emplace_back(arrived, std::move(item));
    if (items_.size() > most_) {
      items_.pop_front();
      ++dropped_;
    }
  }
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }
  // Datagrams that nobody will read: too old, or too many.
  uint64_t dropped() const { return dropped_; }

  // The next to read and when it arrived.
  std::optional<std::pair<Time, Item>> take(Time now) {
    while (!items_.empty() && now - items_.front().first > stale_) {
      items_.pop_front();
      ++dropped_;
    }
    if (items_.empty()) {
      return std::nullopt;
    }
    const bool late = now - items_.front().first > behind_;
    auto out = std::move(late ? items_.back() : items_.front());
    if (late) {
      items_.pop_back();
    } else {
      items_.pop_front();
    }
    return out;
  }

 private:
  size_t most_;
  Duration behind_;
  Duration stale_;
  uint64_t dropped_ = 0;
  std::deque<std::pair<Time, Item>> items_;
};

}  // namespace tess::cluster
