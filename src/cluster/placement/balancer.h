// The source's side: which of the processes that run on this node should be elsewhere, and where.
// Called every second or so, and at once when an owner returns or a drain begins. Deterministic:
// the same calls and the same seed give the same decisions. Owns what must be remembered between
// rounds: moves under way, refusals, and corrections to load records older than what this node
// knows better by itself.
//
// Each decision is to be put to the target first (Admission); report the answer, and later the
// outcome.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "cluster/placement/admission.h"
#include "cluster/placement/decision.h"

namespace tess::placement {

struct Round {
  Time now{};
  Local local;
  std::span<const NodePicture> candidates;  // see sample_candidates
  size_t cluster_size = 1;
};

struct PlannedMove {
  Decision decision;
  Ask ask;
};

// The decision to move `process` and the question to its target, from an estimate.
PlannedMove plan_move(Time now, Cause cause, const NodePicture& from, const NodePicture& to,
                      const ProcessPicture& process, const Estimate& estimate, const Scale& scale);

enum class MoveEnd : uint8_t {
  kMoved,
  kFailed,  // the target is left alone for a while
  kVoid,    // the process is gone, or somebody else moved it: nothing is wrong with the target
};

class Balancer {
 public:
  Balancer(const Policy& policy, uint64_t seed) : policy_(policy), random_(seed) {}
  void set_policy(const Policy& policy) { policy_ = policy; }
  const Policy& policy() const { return policy_; }

  // At most policy.max_outgoing moves are under way for balance at any time. Processes that must
  // leave (owner, drain, wish) are all in the answer, urgent ones first.
  std::vector<PlannedMove> decide(const Round& round);

  // The target's answer to a planned move. A refusal ends it.
  void answered(Time now, const ProcessKey& process, const NodeId& target, const Answer& answer);
  // The memory of one that moves has flowed, in so many seconds.
  void transferred(const ProcessKey& process, double seconds);
  // A granted move has ended, or one was given up before an answer came.
  void ended(Time now, const ProcessKey& process, MoveEnd end);

  size_t under_way() const { return outgoing_.size(); }
  // What a move takes besides its transfer: policy.move_fixed, or what the last moves took if that
  // is more (a node with little CPU captures and answers slowly). Forgotten by half each minute.
  // How long memory flows is not in it: that is in the bandwidth (LinkRates).
  Duration fixed_price(Time now) const;

  // What this node would say of moving `process` to `node` now; for explanations.
  Estimate estimate(const Round& round, const ProcessPicture& process,
                    const NodePicture& node) const;
  // How long `process` must have been where it is before it may move for balance.
  Duration residency(const ProcessPicture& process) const;

 private:
  friend class RoundWork;
  struct Outgoing {
    NodeId to;
    double transfer = 0;  // seconds of the link
    Time forget_at{};
    Time granted{};                // Time() before the answer
    double queued = 0;             // seconds of the link by then, itself included
    std::optional<double> flowed;  // seconds that its memory took, as measured
  };
  // This node knows more than the record says, as long as the record is older than `since`.
  struct Correction {
    Time since{};
    bool has_load = false;
    LoadRecord load;
    double demand = 0;
    uint64_t memory_bytes = 0;
  };
  struct Refusal {
    Time until{};
    Duration pause{0};
  };

  void forget_old(Time now);
  void note_duration(Time now, const Outgoing& move);

  Policy policy_;
  Random random_;
  std::unordered_map<ProcessKey, Outgoing> outgoing_;
  std::unordered_map<NodeId, Correction> corrections_;
  std::unordered_map<NodeId, Refusal> refusals_;
  Time next_turn_{};
  double slow_moves_ = 0;  // seconds above policy.move_fixed, smoothed, as of slow_moves_at_
  Time slow_moves_at_{};
};

}  // namespace tess::placement
