// EventQueue: what happens next in a simulated world. Events at the same time come in the order in
// which they were put, so a seed gives one history. Plain value; the payload is the world's
// business.
#pragma once

#include <cstdint>
#include <queue>
#include <vector>

namespace tess::sim {

using SimTime = int64_t;  // microseconds since the world began

struct SimEvent {
  enum class Type : uint8_t { kPacket, kWake, kService, kWord, kAction, kResume };

  SimTime at = 0;
  uint64_t order = 0;
  Type type = Type::kWake;
  uint32_t node = 0;
  uint32_t index = 0;  // of a packet, an answer, an action
};

class EventQueue {
 public:
  void put(SimTime at, SimEvent::Type type, uint32_t node, uint32_t index) {
    heap_.push({at, order_++, type, node, index});
  }
  bool empty() const { return heap_.empty(); }
  const SimEvent& top() const { return heap_.top(); }
  SimEvent take() {
    const SimEvent event = heap_.top();
    heap_.pop();
    return event;
  }
  uint64_t put_so_far() const { return order_; }

 private:
  struct Later {
    bool operator()(const SimEvent& a, const SimEvent& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };
  std::priority_queue<SimEvent, std::vector<SimEvent>, Later> heap_;
  uint64_t order_ = 0;
};

}  // namespace tess::sim
