// The load picture: what each node tells the others about itself (LoadRecord), and what one node
// knows of the whole cluster at one moment (ClusterView). Plain values: membership makes them,
// placement and the displays read them. A LoadRecord is measured by the node that it describes;
// `age` in a view is how long ago that was, by the receiver's own clock plus what the record spent
// on its way (never by comparing two machines' clocks).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/node_id.h"
#include "cluster/time.h"

namespace tess::cluster {

// Speed of the machine that the yardstick was calibrated on: a node with speed 2000 runs the same
// work in half the time.
inline constexpr uint32_t kReferenceSpeed = 1000;

struct LoadRecord {
  // What the machine is; changes rarely.
  uint32_t speed = kReferenceSpeed;  // of one core that has its siblings idle; never 0
  uint16_t cores = 1;         // physical cores that tessd may use, by quota and online; never 0
  uint16_t threads = 1;       // hardware threads on them: more than `cores` means SMT
  uint64_t memory_bytes = 0;  // of the machine, or of the cgroup that limits it
  uint64_t swap_bytes = 0;
  uint64_t cpu_features = 0;       // hash of what its processor offers; equal means interchangeable
  uint16_t reserved_permille = 0;  // of its CPU, kept for its owner
  uint32_t link_mbit = 0;          // nominal, of its link to the others; 0: not known

  // How it is; changes all the time.
  float runnable = 0;         // threads that run or want to, averaged over seconds (own and guests)
  float cpu_pressure = 0;     // PSI "some" of CPU, 0 to 1
  float memory_pressure = 0;  // PSI "some" of memory, 0 to 1
  uint64_t memory_free_bytes = 0;  // what could be used without swapping
  uint64_t swap_used_bytes = 0;
  uint16_t guests = 0;        // processes of other homes that run here
  uint16_t incoming = 0;      // guests promised a place here that have not arrived yet
  bool owner_active = false;  // its owner is at the machine: guests are to leave
  bool draining = false;      // takes no guests, sends away those it has
  bool accepting =
      true;  // false: refuses guests for a reason of its own (full disk, configuration)

  bool operator==(const LoadRecord&) const = default;
};

enum class MemberState : uint8_t {
  kAlive,
  kSuspect,  // does not answer, and has not yet had its time to object
  kDead,     // did not object
  kLeft,     // said good-bye
};

const char* to_text(MemberState state);

// One node as another knows it.
struct MemberView {
  NodeId id;
  std::string name;     // what people call it; two nodes may claim the same
  std::string address;  // "10.0.0.7:7117", "[fe80::1]:7117": where its tessd can be reached
  MemberState state = MemberState::kAlive;
  bool has_load = false;  // false: `load` and `age` mean nothing yet
  LoadRecord load;
  Duration age{0};  // since the node measured `load`; never less than the truth by more than a
                    // packet's flight
  Duration round_trip{0};  // smoothed, to this node; 0 while unmeasured
};

// What `self` knows at one moment, itself included (its own load with age 0 or nearly).
struct ClusterView {
  NodeId self;
  std::vector<MemberView> members;  // by id

  // nullptr if unknown.
  const MemberView* find(const NodeId& id) const;
};

}  // namespace tess::cluster
