// Job ids: 64 bits, the upper half random (so that ids of different nodes do not meet), the lower
// half counting up on a node from a random start. People see 16 hex digits.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <random>
#include <string>

namespace tess::node {

class JobIds {
 public:
  uint64_t next() {
    const uint64_t upper = random_() & 0xffffffff;
    return (upper == 0 ? 1 : upper) << 32 | ++lower_;
  }

 private:
  std::random_device random_;
  uint32_t lower_ = random_();
};

inline std::string job_text(uint64_t job) {
  return fmt::format("{:016x}", job);
}

}  // namespace tess::node
