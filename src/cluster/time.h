// Time as the cluster code sees it: microseconds of this node's own monotonic clock, handed in with
// every call. There is no now(): whoever drives the code (tessd's loop, the simulator) reads a
// clock once and passes it on. Times of two nodes are never compared; what travels is an age.
#pragma once

#include <chrono>
#include <cstdint>

namespace tess::cluster {

using Duration = std::chrono::microseconds;

struct NodeClock {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<NodeClock>;
  static constexpr bool is_steady = true;
};

using Time = NodeClock::time_point;

}  // namespace tess::cluster
