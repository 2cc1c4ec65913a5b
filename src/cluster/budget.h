// Budget: a token bucket of bytes. What is not there is not spent: callers ask first. Plain value.
#pragma once

#include <algorithm>

#include "cluster/time.h"

namespace tess::cluster {

class Budget {
 public:
  // Full at the beginning.
  Budget(Time now, double bytes_per_second, double most)
      : last_(now), rate_(bytes_per_second), most_(most), have_(most) {}

  double available(Time now) {
    if (now > last_) {
      have_ = std::min(most_, have_ + rate_ * std::chrono::duration<double>(now - last_).count());
      last_ = now;
    }
    return have_;
  }
  // May leave a debt, which is paid before anything else is available.
  void spend(size_t bytes) { have_ -= static_cast<double>(bytes); }
  void limit_debt(double most) { have_ = std::max(have_, -most); }
  // When `bytes` will be available.
  Time when(Time now, double bytes) {
    const double missing = bytes - available(now);
    return missing <= 0 ? now
                        : now +
                              std::chrono::duration_cast<Duration>(
                                  std::chrono::duration<double>(missing / rate_)) +
                              Duration(1);
  }

 private:
  Time last_;
  double rate_;
  double most_;
  double have_;
};

}  // namespace tess::cluster
