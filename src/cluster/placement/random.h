// A small random source (SplitMix64) that gives the same numbers everywhere from the same seed. A
// value: eight bytes, one per node, so that ten thousand simulated nodes each have their own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tess::placement {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  // From 0 to below `bound`, which must not be 0.
  size_t below(size_t bound) { return static_cast<size_t>(next() % bound); }
  // From 0 to below 1.
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  uint64_t state_;
};

}  // namespace tess::placement
