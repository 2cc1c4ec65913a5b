// LoadBoard: the newest load that is known of each member, and which of these to tell next. Newest
// first: what was measured latest is told first, each record a few times, so that fresh information
// about some nodes is everywhere however large the cluster is, within a fixed number of bytes.
// Keeps at most `most` records, dropping the oldest. Versions decide what is newer; ages only grow
// on the way (each node adds what the record spent there). Plain value.
#pragma once

#include <unordered_map>
#include <vector>

#include "cluster/directory.h"
#include "cluster/packet.h"

namespace tess::cluster {

class LoadBoard {
 public:
  explicit LoadBoard(size_t most) : most_(most) {}

  struct Item {
    LoadNews news;  // its age is not used
    Time measured;  // by our clock
    uint8_t told = 0;
  };

  // False if we know as new a record.
  bool put(Slot slot, const LoadNews& news, Time now);
  void forget(Slot slot);
  // nullptr if unknown.
  const Item* find(Slot slot) const;
  size_t size() const { return items_.size(); }

  // Offers records to tell, newest first, each at most `times` times in all, until `offer` returns
  // false.
  template <typename Offer>
  void tell(Time now, unsigned times, Offer offer) {
    for (const Slot slot : fresh_) {
      Item& item = items_.at(slot);
      if (item.told >= times) {
        continue;
      }
      LoadNews news = item.news;
      news.age = now - item.measured;
      if (!offer(slot, news)) {
        break;
      }
      ++item.told;
    }
  }

 private:
  static constexpr size_t kFresh = 64;

  void insert_fresh(Slot slot, Time measured);
  void drop_oldest();

  size_t most_;
  std::unordered_map<Slot, Item> items_;
  std::vector<Slot> fresh_;  // the latest measured first
};

}  // namespace tess::cluster
