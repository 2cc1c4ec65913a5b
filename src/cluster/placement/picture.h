// What a decision is made from: nodes as this one knows them, and the processes that run here as
// they were measured. Plain values, filled by the caller (tessd, the simulator). Names are borrowed
// and must outlive the call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/load.h"
#include "cluster/placement/policy.h"
#include "cluster/placement/random.h"
#include "cluster/time.h"

namespace tess::placement {

using cluster::Duration;
using cluster::LoadRecord;
using cluster::NodeId;
using cluster::Time;

inline double seconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}
inline Duration from_seconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

// A process everywhere in the cluster: its home and its pid there.
struct ProcessKey {
  NodeId home;
  int64_t pid = 0;

  auto operator<=>(const ProcessKey&) const = default;
};

// What the person who started the job asked for.
struct Wishes {
  std::vector<NodeId> on;     // --on: only there; empty: anywhere
  std::vector<NodeId> avoid;  // --avoid: not there
  bool home = false;          // --home: at home
  bool stay = false;          // --stay: where it is
  bool cpu_bound = false;     // --cpu-bound: its system calls do not count
  uint64_t memory_bytes = 0;  // --memory: what it will need
};

// A node that a process was moved away from.
struct Left {
  NodeId node;
  Duration ago{0};
};

// A process that runs on this node. `demand` counts threads that run or want to: the time on a CPU
// plus the time waiting for one, per second.
struct ProcessPicture {
  ProcessKey key;
  std::string_view name;
  double demand = 1;
  uint64_t memory_bytes = 0;  // what would travel
  double memory_growth = 0;   // bytes per second
  double cpu_used = 0;        // reference seconds of work done since it started
  double wanted = 0;          // thread-seconds that it ran or wanted to, since it started
  double home_calls =
      0;  // system calls that are (or would be) carried home, per reference second of work
  uint64_t cpu_features = 0;        // hash that a node must have; 0: any
  int priority = 0;                 // higher is more important
  Duration here_for{0};             // since it arrived here, or started here
  uint32_t moves = 0;               // that it has made for balance
  std::vector<Left> recently_left;  // for balance; the last few
  bool moving = false;              // a move is under way
  bool movable = true;
  std::string_view immovable_because;  // a sentence, if not movable
  Wishes wishes;
};

// Work done in each second that it wanted to work, over its whole life: 1 is a core of the
// reference machine for itself.
double life_speed(const ProcessPicture& process);

// A node. `self` is pictured in the same way, with age 0.
struct NodePicture {
  NodeId id;
  std::string_view name;
  bool alive = true;  // false also for a suspect: nothing is sent there
  LoadRecord load;
  Duration age{0};
  Duration round_trip{0};  // to it from here; 0: not measured
  double bandwidth = 0;    // to it from here, bytes per second, as measured; 0: as the links say
};

// This node, measured now.
struct Local {
  NodePicture node;
  double unmanaged_runnable = 0;  // threads that run or want to and belong to no process below
  double memory_growth = 0;       // bytes per second by which free memory shrinks; at least 0
  std::span<const ProcessPicture> residents;  // bodies here and processes that are at home here

  // All that runs here now, without those on their way out.
  double runnable() const;
};

NodePicture picture_of(const cluster::MemberView& member);

// The nodes that one round of decisions looks at: all, if there are at most `count`; else half of
// them the least loaded as far as known, chosen at random among twice as many (so that not all
// nodes choose the same), and half of them any. Homes of the guests (`always`) are included if
// known. The view's own node is not.
std::vector<NodePicture> sample_candidates(const cluster::ClusterView& view,
                                           const std::vector<NodeId>& always, size_t count,
                                           const Policy& policy, Random& random);

}  // namespace tess::placement

template <>
struct std::hash<tess::placement::ProcessKey> {
  size_t operator()(const tess::placement::ProcessKey& key) const noexcept {
    return key.home.key() * 0x9e3779b97f4a7c15U ^ static_cast<size_t>(key.pid);
  }
};
