#include "cluster/placement/round_work.h"

#include <algorithm>
#include <cmath>

namespace tess::placement {
namespace {
// Residents weighed in one round for balance; of more, a random part.
constexpr size_t kMostConsidered = 64;
// Nodes that are as good as each other within this share are chosen from at random.
constexpr double kTie = 0.01;

double priority_weight(const ProcessPicture& process) {
  return std::exp2(std::clamp(process.priority, -20, 20) / 4.0);
}
}  // namespace

RoundWork::RoundWork(Balancer& balancer, const Round& round)
    : balancer_(balancer),
      policy_(balancer.policy_),
      round_(round),
      here_(place_of(round.local.node.load, policy_, true)),
      memory_growth_(std::max(0.0, round.local.memory_growth)) {
  policy_.move_fixed = balancer_.fixed_price(round.now);
  here_.runnable = round.local.runnable();
  for (const auto& [key, outgoing] : balancer_.outgoing_) {
    queued_transfer_ += outgoing.transfer;
  }
  for (const ProcessPicture& process : round.local.residents) {
    const bool unnoticed = !process.moving && balancer_.outgoing_.count(process.key) != 0;
    if (unnoticed) {
      here_.runnable = std::max(0.0, here_.runnable - process.demand);
    }
    if (unnoticed || process.moving) {
      leaving_memory_ += static_cast<double>(process.memory_bytes);
    }
  }
  double slowest = slowness(here_, here_.runnable);
  nodes_.reserve(round.candidates.size());
  for (const NodePicture& picture : round.candidates) {
    if (picture.id != round.local.node.id) {
      add_node(picture);
      slowest = std::max(slowest, slowness(nodes_.back().guest, nodes_.back().guest.runnable));
    }
  }
  scale_ = make_scale(round.cluster_size, slowest);
}

void RoundWork::add_node(const NodePicture& picture) {
  Node node;
  node.picture = picture;
  double demand = 0;
  if (const auto it = balancer_.corrections_.find(picture.id); it != balancer_.corrections_.end()) {
    const Balancer::Correction& correction = it->second;
    if (round_.now - picture.age < correction.since) {
      if (correction.has_load) {
        node.picture.load = correction.load;
        node.picture.age = round_.now - correction.since;
      }
      demand = correction.demand;
      uint64_t& free = node.picture.load.memory_free_bytes;
      free -= std::min(free, correction.memory_bytes);
    }
  }
  node.guest = place_of(node.picture.load, policy_, true);
  node.guest.bandwidth = bandwidth_to(round_.local.node, node.picture, policy_);
  node.guest.runnable += demand;
  const auto refusal = balancer_.refusals_.find(picture.id);
  node.paused = refusal != balancer_.refusals_.end() && refusal->second.until > round_.now;
  nodes_.push_back(node);
}

Place RoundWork::place_for(const ProcessPicture& process, const Node& node) const {
  if (process.key.home != node.picture.id) {
    return node.guest;
  }
  Place place = place_of(node.picture.load, policy_, false);
  place.bandwidth = node.guest.bandwidth;
  place.runnable = node.guest.runnable;
  place.memory_free = node.guest.memory_free;
  return place;
}

Place RoundWork::here_for(const ProcessPicture& process) const {
  if (process.key.home != round_.local.node.id) {
    return here_;
  }
  Place place = place_of(round_.local.node.load, policy_, false);
  place.runnable = here_.runnable;
  place.memory_free = here_.memory_free;
  return place;
}

// Round trips between two other nodes are not known here: they are taken to be as far from each
// other as the farther one is from this node.
double RoundWork::delay_at(const ProcessPicture& process, const NodePicture& node) const {
  if (process.key.home == node.id) {
    return 0;
  }
  Duration home_trip{0};
  for (const Node& other : nodes_) {
    if (other.picture.id == process.key.home) {
      home_trip = other.picture.round_trip;
    }
  }
  Duration trip = std::max(node.round_trip, home_trip);
  if (trip <= Duration::zero()) {
    trip = policy_.default_round_trip;
  }
  return call_delay(process, trip, policy_);
}

Estimate RoundWork::estimate_for(const ProcessPicture& process, const Node& node) const {
  return estimate_move(process, here_for(process), delay_at(process, round_.local.node),
                       place_for(process, node), delay_at(process, node.picture), scale_, policy_);
}

Estimate RoundWork::estimate(const ProcessPicture& process, const NodePicture& node) const {
  for (const Node& known : nodes_) {
    if (known.picture.id == node.id) {
      return estimate_for(process, known);
    }
  }
  Node other;
  other.picture = node;
  other.guest = place_of(node.load, policy_, true);
  other.guest.bandwidth = bandwidth_to(round_.local.node, node, policy_);
  return estimate_for(process, other);
}

bool RoundWork::is_busy(const ProcessPicture& process) const {
  return process.moving || balancer_.outgoing_.count(process.key) != 0 ||
         std::find(planned_.begin(), planned_.end(), process.key) != planned_.end();
}

bool RoundWork::may_move_freely(const ProcessPicture& process) const {
  return process.movable && !process.wishes.stay && !is_busy(process) &&
         process.here_for >= balancer_.residency(process);
}

bool RoundWork::just_left(const ProcessPicture& process, const NodeId& node) const {
  return std::any_of(
      process.recently_left.begin(), process.recently_left.end(),
      [&](const Left& left) { return left.node == node && left.ago < policy_.no_return; });
}

std::optional<Cause> RoundWork::must_leave(const ProcessPicture& process) const {
  const NodePicture& here = round_.local.node;
  if (process.key.home != here.id) {
    if (here.load.owner_active) {
      return Cause::kOwner;
    }
    if (here.load.draining) {
      return Cause::kDrain;
    }
  }
  if (wishes_elsewhere(process, here.id)) {
    return Cause::kWish;
  }
  return std::nullopt;
}

bool RoundWork::may_begin() const {
  const size_t under_way = balancer_.outgoing_.size() + balance_moves_;
  return under_way == 0 || (under_way < policy_.max_outgoing &&
                            queued_transfer_ < seconds(policy_.max_queued_transfer));
}

RoundWork::Choice RoundWork::cheapest(const ProcessPicture& process, Need need) {
  Choice best;
  Node* home = nullptr;
  const Duration outlook = need == Need::kNice   ? policy_.memory_outlook
                           : need == Need::kFirm ? policy_.memory_horizon
                                                 : Duration::zero();
  const size_t start = nodes_.empty() ? 0 : balancer_.random_.below(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    Node& node = nodes_[(start + i) % nodes_.size()];
    if (node.picture.id == process.key.home && node.picture.alive) {
      home = &node;
    }
    if (node.paused || find_obstacle(process, node.picture, policy_, outlook)) {
      continue;
    }
    const Estimate estimate = estimate_for(process, node);
    if (need == Need::kNice && just_left(process, node.picture.id) &&
        estimate.cost_there > policy_.return_share * estimate.cost_here) {
      continue;
    }
    if (best.node == nullptr || estimate.cost_there + estimate.way() <
                                    best.estimate.cost_there * (1 - kTie) + best.estimate.way()) {
      best = {&process, &node, estimate, 0, 0, 0};
    }
  }
  // Whoever has to go always has a home, even one that the wishes exclude.
  if (best.node == nullptr && need == Need::kMust && home != nullptr) {
    best = {&process, home, estimate_for(process, *home), 0, 0, 0};
  }
  return best;
}

void RoundWork::move_those_who_must() {
  std::vector<std::pair<const ProcessPicture*, Cause>> leaving;
  for (const ProcessPicture& process : round_.local.residents) {
    if (!process.movable || is_busy(process)) {
      continue;
    }
    if (const auto cause = must_leave(process)) {
      leaving.emplace_back(&process, *cause);
    }
  }
  // The important first; of equals the small ones, so that most are out soonest.
  std::stable_sort(leaving.begin(), leaving.end(), [](const auto& a, const auto& b) {
    return a.first->priority != b.first->priority ? a.first->priority > b.first->priority
                                                  : a.first->memory_bytes < b.first->memory_bytes;
  });
  for (const auto& [process, cause] : leaving) {
    const Choice choice = cheapest(*process, cause == Cause::kWish ? Need::kFirm : Need::kMust);
    if (choice.node != nullptr) {
      plan(choice, cause);
    }
  }
}

// What will be free by the time that this process is gone: what has to wait for the link is still
// here.
double RoundWork::memory_ahead(const ProcessPicture& process) const {
  const LoadRecord& here = round_.local.node.load;
  const double own_link = link_between(here, here, policy_).prior;
  const double ahead =
      seconds(policy_.memory_horizon) +
      std::min(120.0, queued_transfer_ + move_price(process.memory_bytes, own_link, policy_));
  return static_cast<double>(round_.local.node.load.memory_free_bytes) + leaving_memory_ -
         memory_growth_ * ahead;
}

// The smallest that frees enough, else the largest; the less important first.
RoundWork::Choice RoundWork::best_to_usher() {
  const double total = static_cast<double>(round_.local.node.load.memory_bytes);
  Choice best;
  bool best_is_enough = false;
  for (const ProcessPicture& process : round_.local.residents) {
    if (!process.movable || process.wishes.stay || is_busy(process) || process.memory_bytes == 0) {
      continue;
    }
    const double memory = static_cast<double>(process.memory_bytes);
    // However short it is, not in crumbs.
    const double missing = std::max(policy_.memory_high * total - memory_ahead(process),
                                    (policy_.memory_high - policy_.memory_low) * total);
    const bool enough = memory >= missing;
    if (best.process != nullptr) {
      const double best_memory = static_cast<double>(best.process->memory_bytes);
      const bool lighter =
          memory * priority_weight(process) < best_memory * priority_weight(*best.process);
      if (enough != best_is_enough ? !enough : enough ? !lighter : memory <= best_memory) {
        continue;
      }
    }
    Choice choice = cheapest(process, Need::kFirm);
    if (choice.node != nullptr) {
      best = choice;
      best.missing = missing;
      best_is_enough = enough;
    }
  }
  return best;
}

void RoundWork::usher() {
  const double total = static_cast<double>(round_.local.node.load.memory_bytes);
  const ProcessPicture* largest = nullptr;
  for (const ProcessPicture& process : round_.local.residents) {
    if (largest == nullptr || process.memory_bytes > largest->memory_bytes) {
      largest = &process;
    }
  }
  while (largest != nullptr && may_begin() && memory_ahead(*largest) < policy_.memory_low * total) {
    const Choice choice = best_to_usher();
    if (choice.node == nullptr) {
      return;
    }
    const double free =
        static_cast<double>(round_.local.node.load.memory_free_bytes) + leaving_memory_;
    leaving_memory_ += static_cast<double>(choice.process->memory_bytes);
    memory_growth_ = std::max(0.0, memory_growth_ - std::max(0.0, choice.process->memory_growth));
    ++balance_moves_;
    Decision& decision = plan(choice, Cause::kMemory).decision;
    decision.memory_free = free;
    decision.memory_missing = choice.missing;
  }
}

std::vector<const ProcessPicture*> RoundWork::considered() {
  std::vector<const ProcessPicture*> processes;
  for (const ProcessPicture& process : round_.local.residents) {
    if (may_move_freely(process)) {
      processes.push_back(&process);
    }
  }
  if (processes.size() > kMostConsidered) {
    for (size_t i = 0; i < kMostConsidered; ++i) {
      std::swap(processes[i], processes[i + balancer_.random_.below(processes.size() - i)]);
    }
    processes.resize(kMostConsidered);
  }
  return processes;
}

RoundWork::Choice RoundWork::best_for_balance(const std::vector<const ProcessPicture*>& processes) {
  Choice best;
  for (const ProcessPicture* process : processes) {
    if (is_busy(*process)) {
      continue;
    }
    Choice choice = cheapest(*process, Need::kNice);
    if (choice.node == nullptr || !choice.estimate.cheaper(policy_) ||
        !choice.estimate.worth(policy_)) {
      continue;
    }
    choice.benefit = (choice.estimate.saved - choice.estimate.price * policy_.price_margin) *
                     priority_weight(*process);
    if (best.node == nullptr || choice.benefit > best.benefit) {
      best = choice;
    }
  }
  return best;
}

void RoundWork::balance() {
  if (!may_begin() || nodes_.empty()) {
    return;
  }
  const std::vector<const ProcessPicture*> processes = considered();
  while (may_begin()) {
    const Choice choice = best_for_balance(processes);
    if (choice.node == nullptr) {
      return;
    }
    ++balance_moves_;
    plan(choice, Cause::kBalance);
  }
}

PlannedMove& RoundWork::plan(const Choice& choice, Cause cause) {
  const ProcessPicture& process = *choice.process;
  plan_.push_back(plan_move(round_.now, cause, round_.local.node, choice.node->picture, process,
                            choice.estimate, scale_));
  const Ask& ask = plan_.back().ask;
  here_.runnable = std::max(0.0, here_.runnable - process.demand);
  here_.memory_free += static_cast<double>(process.memory_bytes);
  choice.node->guest.runnable += ask.demand;
  choice.node->guest.memory_free -= static_cast<double>(ask.memory_bytes);
  uint64_t& free = choice.node->picture.load.memory_free_bytes;
  free -= std::min(free, ask.memory_bytes);
  queued_transfer_ += ask.transfer;
  planned_.push_back(process.key);
  return plan_.back();
}

}  // namespace tess::placement
