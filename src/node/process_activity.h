// ProcessActivity: which processes of this machine have wanted much CPU lately, from what all of
// them have wanted in all (ran, or waited to run), as LoadMeter reads it anyway. Pure: the numbers
// come in.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "cluster/time.h"

namespace tess::node {

class ProcessActivity {
 public:
  static constexpr double kEnough = 3;       // seconds lately, to be busy
  static constexpr double kTooLittle = 0.5;  // below it, no more
  static constexpr double kHalfLife = 30;    // seconds

  // `wanted_ns`: of every process there is, so far. To be called about once a second; what was used
  // before the first call does not count.
  void update(cluster::Time now, const std::unordered_map<pid_t, uint64_t>& wanted_ns);
  // Seconds; older ones count less.
  double lately(pid_t pid) const;
  // As if it had wanted enough just now: somebody else knows that it is busy elsewhere.
  void keep(pid_t pid);
  // Most first.
  std::vector<pid_t> busy() const;

 private:
  struct Entry {
    uint64_t wanted_ns = 0;
    double lately = 0;
    bool busy = false;
  };
  std::unordered_map<pid_t, Entry> entries_;
  cluster::Time updated_{};
};

}  // namespace tess::node
