// The target's side of a move: nobody comes unasked. A node that just became free is seen free by
// many others in load that is seconds old; it answers each with the load of this moment, counts
// those it has promised a place as if they were here, and so takes in only as many as make it as
// loaded as those they come from.
#pragma once

#include <unordered_map>

#include "cluster/placement/decision.h"

namespace tess::placement {

// What the source asks. Small enough for one datagram.
struct Ask {
  ProcessKey process;
  NodeId from;
  Cause cause = Cause::kBalance;
  double demand = 1;          // that it is expected to have at the target
  uint64_t memory_bytes = 0;  // or what it was said to need, if that is more
  double memory_growth = 0;   // bytes per second
  uint64_t cpu_features = 0;
  double delay = 0;          // waiting for home there, per reference second
  double cost_here = 0;      // what it costs where it is
  double slow_believed = 1;  // how slow it would be there, as far as the source knows
  double slow_limit = 1;     // of cause kTurn: the slowest that it may become there
  double lagging_speed = 0;  // of cause kTurn: life speed of the one that is relieved
  Scale scale;
  double transfer = 0;  // seconds that it takes the link
};

struct Answer {
  bool granted = false;
  ObstacleKind obstacle = ObstacleKind::kCostlier;  // if not granted
  LoadRecord load;                                  // of this moment, promises included
};

class Admission {
 public:
  explicit Admission(const Policy& policy) : policy_(policy) {}
  void set_policy(const Policy& policy) { policy_ = policy; }

  // Grants or refuses; a grant is a promise until the process arrives, is called off, or the
  // promise expires. Asking again for the same process replaces its promise.
  Answer ask(Time now, const Ask& ask, const Local& local);
  void arrived(const ProcessKey& process) { promises_.erase(process); }
  void called_off(const ProcessKey& process) { promises_.erase(process); }

  // What is promised and has not arrived.
  size_t incoming(Time now);
  double promised_demand(Time now);
  uint64_t promised_memory(Time now);

  // The record to publish: `local` as measured, promises included. Memory promised counts as used.
  LoadRecord record(Time now, const Local& local);

 private:
  struct Promise {
    double demand = 0;
    uint64_t memory_bytes = 0;
    double transfer = 0;
    Time until{};
  };
  void expire(Time now);
  std::optional<ObstacleKind> refuse(const Ask& ask, const Local& local, const LoadRecord& load,
                                     double promised) const;

  Policy policy_;
  std::unordered_map<ProcessKey, Promise> promises_;
};

}  // namespace tess::placement
