// Pictures for tests: nodes and processes with everything ordinary unless said otherwise.
#pragma once

#include <string>
#include <vector>

#include "cluster/placement/balancer.h"

namespace tess::placement {

inline constexpr uint64_t kGiga = 1000000000;
inline constexpr uint64_t kMega = 1000000;

inline NodeId test_id(int number) {
  NodeId id;
  id.bytes[7] = static_cast<uint8_t>(number);
  return id;
}

inline const char* test_name(int number) {
  static const char* const kNames[] = {"n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9"};
  return kNames[number];
}

inline NodePicture test_node(int number, double runnable = 0) {
  NodePicture node;
  node.id = test_id(number);
  node.name = test_name(number);
  node.load.memory_bytes = 8 * kGiga;
  node.load.memory_free_bytes = 6 * kGiga;
  node.load.runnable = static_cast<float>(runnable);
  node.round_trip = std::chrono::microseconds(250);
  return node;
}

// At home on `home`, old enough to move.
inline ProcessPicture test_process(int pid, int home = 1) {
  ProcessPicture process;
  process.key = {test_id(home), pid};
  process.name = "job";
  process.memory_bytes = 20 * kMega;
  process.cpu_used = 60;
  process.wanted = 60;
  process.here_for = std::chrono::minutes(5);
  return process;
}

// Keeps what a Round borrows.
struct TestRound {
  NodePicture self = test_node(1);
  std::vector<ProcessPicture> residents;
  std::vector<NodePicture> others;
  double unmanaged = 0;
  double memory_growth = 0;
  Time now = Time(std::chrono::hours(1));

  Local local() const { return {self, unmanaged, memory_growth, residents}; }
  Round round() const { return {now, local(), others, others.size() + 1}; }
};

}  // namespace tess::placement
