// LoadMeter: what this node is and how it is, as it tells the others (cluster::LoadRecord): speed
// by a yardstick, cores by affinity and quota, memory, pressure, and how many threads run or want
// to. A node that is a control group or a pid namespace of a machine (a container, a virtual node)
// measures itself, not the machine. Loop thread only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "cluster/load.h"
#include "cluster/time.h"

namespace tess::node {

// Runs a fixed piece of work several times; the speed of one core, kReferenceSpeed being that of
// the machine it was calibrated on. Takes about 60 ms of CPU.
uint32_t measure_speed();
// The same, remembered in `state_dir` for this processor model.
uint32_t cached_speed(const std::string& state_dir);

// Makes cores, threads and speed no more than what `quota` CPUs give; nullopt is no limit.
void keep_within(std::optional<double> quota, cluster::LoadRecord& load);
// "some avg10=1.53 …": 0.0153; 0 if there is no such line.
float pressure_of(const std::string& text);
// How many cores and threads a set of thread_siblings_list texts makes.
struct CoreCount {
  uint16_t cores = 1;
  uint16_t threads = 1;
};
CoreCount count_cores(const std::map<unsigned, std::string>& siblings);

class LoadMeter {
 public:
  explicit LoadMeter(const std::string& state_dir);

  // All but `runnable`, guests and the node's own wishes. Reads a few small files.
  cluster::LoadRecord measure();
  // Threads of all processes that this node sees that run or want to, but for those in `without`;
  // averaged over a second or two. To be called about once a second.
  double demand_of_others(cluster::Time now, const std::unordered_map<pid_t, bool>& without);
  // What a second on a CPU is worth. A quota makes the node slower (it is in measure().speed), but
  // what ran has run at this speed.
  uint32_t core_speed() const { return speed_; }
  // What each process has wanted so far, in nanoseconds, as seen by the last of these calls.
  const std::unordered_map<pid_t, uint64_t>& wanted_ns() const { return spent_; }
  // Bytes a second by which free memory shrinks, smoothed; at least 0.
  double memory_growth(cluster::Time now, uint64_t free_bytes);

 private:
  std::optional<double> quota();

  std::optional<double> quota_;
  std::chrono::steady_clock::time_point quota_at_{};
  uint32_t speed_ = cluster::kReferenceSpeed;
  std::vector<unsigned> cpus_;
  CoreCount cores_;
  uint64_t features_ = 0;
  std::string pressure_dir_;
  std::unordered_map<pid_t, uint64_t> spent_;  // by process: ran or wanted to
  cluster::Time scanned_{};
  double others_ = 0;
  cluster::Time memory_at_{};
  uint64_t memory_free_ = 0;
  double growth_ = 0;
};

}  // namespace tess::node
