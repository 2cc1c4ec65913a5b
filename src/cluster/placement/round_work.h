// One round of decisions of a Balancer: nodes as they would be after what was decided so far in
// this round. Internal to this folder.
#pragma once

#include <optional>
#include <vector>

#include "cluster/placement/balancer.h"

namespace tess::placement {

class RoundWork {
 public:
  RoundWork(Balancer& balancer, const Round& round);

  // In this order; each adds to the plan.
  void move_those_who_must();
  void usher();
  void balance();
  void take_turns();

  std::vector<PlannedMove> take_plan() { return std::move(plan_); }
  Estimate estimate(const ProcessPicture& process, const NodePicture& node) const;

 private:
  struct Node {
    NodePicture picture;
    Place guest;  // for processes of other homes
    bool paused = false;
  };
  struct Choice {
    const ProcessPicture* process = nullptr;
    Node* node = nullptr;
    Estimate estimate;
    double benefit = 0;
    double missing = 0;  // memory, of kMemory
    double lag = 0;      // of kTurn
  };

  void add_node(const NodePicture& picture);
  Place place_for(const ProcessPicture& process, const Node& node) const;
  Place here_for(const ProcessPicture& process) const;
  double delay_at(const ProcessPicture& process, const NodePicture& node) const;
  Estimate estimate_for(const ProcessPicture& process, const Node& node) const;
  bool is_busy(const ProcessPicture& process) const;
  bool may_move_freely(const ProcessPicture& process) const;
  bool just_left(const ProcessPicture& process, const NodeId& node) const;
  std::optional<Cause> must_leave(const ProcessPicture& process) const;
  // Whether one more move for balance may begin.
  bool may_begin() const;
  // The cheapest feasible node; for processes that must leave, home if there is nothing else.
  // For balance; for memory or a wish; for those who have to go.
  enum class Need : uint8_t { kNice, kFirm, kMust };
  Choice cheapest(const ProcessPicture& process, Need need);
  std::vector<const ProcessPicture*> considered();
  Choice best_for_balance(const std::vector<const ProcessPicture*>& processes);
  double memory_ahead(const ProcessPicture& process) const;
  Choice best_to_usher();
  const ProcessPicture* find_lagging() const;
  bool turn_is_due(const ProcessPicture& lagging, double slow_there, double price) const;
  Choice best_turn(const ProcessPicture& lagging);
  double slowest_for_turn(const Estimate& estimate) const;
  bool shares_here() const;
  PlannedMove& plan(const Choice& choice, Cause cause);

  Balancer& balancer_;
  Policy policy_;  // with what moves really take
  const Round& round_;
  Place here_;
  double memory_growth_;
  double leaving_memory_ = 0;
  size_t balance_moves_ = 0;
  double queued_transfer_ = 0;
  Scale scale_;
  std::vector<Node> nodes_;
  std::vector<PlannedMove> plan_;
  std::vector<ProcessKey> planned_;
};

}  // namespace tess::placement
