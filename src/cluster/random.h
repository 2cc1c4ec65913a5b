// Random: a small seeded generator (SplitMix64). Injected everywhere that something is drawn, so
// that a seed replays a whole cluster. Not for secrets: keys and session numbers come from whoever
// drives the code. A value; copying it copies the sequence.
#pragma once

#include <cstdint>

namespace tess::cluster {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // 0 to bound - 1; bound is not 0. (Multiply-shift; its bias is below 2^-32 for any bound used
  // here.)
  uint32_t below(uint32_t bound) {
    return static_cast<uint32_t>(((next() >> 32) * uint64_t{bound}) >> 32);
  }
  // 0 up to, not including, 1.
  double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
  bool chance(double probability) { return unit() < probability; }

 private:
  uint64_t state_;
};

}  // namespace tess::cluster
