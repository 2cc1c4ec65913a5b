// Placement's values as messages (wire/cluster.proto) and back. What comes from the wire is bounded
// where it is used (Admission refuses nonsense); sizes are bounded here.
#pragma once

#include <optional>
#include <string>

#include "cluster/placement/admission.h"
#include "cluster/placement/decision.h"
#include "wire/cluster.pb.h"

namespace tess::node {

// A process everywhere: its home, and a number made of its job and its pid as the application sees
// it, both of which its host knows, too.
placement::ProcessKey process_key(const cluster::NodeId& home, uint64_t job, int32_t inner_pid);

std::string to_wire(const cluster::NodeId& id);
// Empty id if it is not one.
cluster::NodeId id_from_wire(const std::string& bytes);
wire::Load to_wire(const cluster::LoadRecord& load);
cluster::LoadRecord from_wire(const wire::Load& load);
void to_wire(const placement::Ask& ask, wire::PlaceAsk& out);
placement::Ask from_wire(const wire::PlaceAsk& ask);
wire::MoveReason to_wire(const placement::Decision& decision);
placement::Decision from_wire(const wire::MoveReason& reason, placement::Time now);

// What a process takes along from node to node.
struct Carried {
  struct LeftAt {
    cluster::NodeId node;
    placement::Time at;
  };
  double cpu_used = 0;
  double wanted = 0;
  uint32_t moves = 0;
  std::vector<LeftAt> left;  // the last few

  void note_left(const cluster::NodeId& node, placement::Time at);
};
wire::Carried to_wire(const Carried& carried, placement::Time now);
Carried from_wire(const wire::Carried& carried, placement::Time now);

}  // namespace tess::node
