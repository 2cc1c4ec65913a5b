#include "cluster/placement/balancer.h"

#include <algorithm>
#include <cmath>

#include "cluster/placement/round_work.h"

namespace tess::placement {
namespace {
// A record that a node made this long after it took in a process tells of it.
constexpr Duration kSettles = std::chrono::milliseconds(500);
// Corrections older than any record that is acted upon are of no use.
constexpr Duration kCorrectionLife = std::chrono::seconds(60);
// How much the last move says about the next, and how long it is remembered.
constexpr double kDurationShare = 0.3;
constexpr double kDurationHalfLife = 60;
constexpr double kLongestFixed = 30;
}  // namespace

PlannedMove plan_move(Time now, Cause cause, const NodePicture& from, const NodePicture& to,
                      const ProcessPicture& process, const Estimate& estimate, const Scale& scale) {
  PlannedMove move;
  Decision& decision = move.decision;
  decision.at = now;
  decision.process = process.key;
  decision.from = from.id;
  decision.to = to.id;
  decision.process_name = process.name;
  decision.from_name = from.name;
  decision.to_name = to.name;
  decision.cause = cause;
  decision.urgent = is_urgent(cause);
  decision.memory_bytes = process.memory_bytes;
  decision.estimate = estimate;
  decision.scale = scale;

  Ask& ask = move.ask;
  ask.process = process.key;
  ask.from = from.id;
  ask.cause = cause;
  ask.demand = estimate.demand_there;
  ask.memory_bytes = std::max(process.memory_bytes, process.wishes.memory_bytes);
  ask.memory_growth = process.memory_growth;
  ask.cpu_features = process.cpu_features;
  ask.delay = estimate.delay_there;
  ask.cost_here = estimate.cost_here;
  ask.slow_believed = estimate.slow_there;
  ask.slow_limit = estimate.slow_there;
  ask.scale = scale;
  ask.transfer = transfer_seconds(process.memory_bytes, estimate.bandwidth);
  return move;
}

void Balancer::forget_old(Time now) {
  std::erase_if(outgoing_, [now](const auto& entry) { return entry.second.forget_at <= now; });
  std::erase_if(corrections_,
                [now](const auto& entry) { return entry.second.since + kCorrectionLife <= now; });
  std::erase_if(refusals_, [this, now](const auto& entry) {
    return entry.second.until + policy_.max_refused_pause <= now;
  });
}

Duration Balancer::residency(const ProcessPicture& process) const {
  const double factor = std::pow(policy_.residency_growth, std::min<uint32_t>(process.moves, 32));
  return std::min(policy_.max_residency, from_seconds(seconds(policy_.residency) * factor));
}

std::vector<PlannedMove> Balancer::decide(const Round& round) {
  forget_old(round.now);
  RoundWork work(*this, round);
  work.move_those_who_must();
  work.usher();
  work.balance();
  work.take_turns();
  std::vector<PlannedMove> plan = work.take_plan();
  for (const PlannedMove& move : plan) {
    const Duration patience = policy_.promise + from_seconds(2 * move.decision.estimate.price);
    Outgoing& outgoing = outgoing_[move.decision.process];
    outgoing = Outgoing();
    outgoing.to = move.decision.to;
    outgoing.transfer = move.ask.transfer;
    outgoing.forget_at = round.now + patience;
    Correction& correction = corrections_[move.decision.to];
    correction.since = std::max(correction.since, round.now + kSettles);
    correction.demand += move.ask.demand;
    correction.memory_bytes += move.ask.memory_bytes;
  }
  return plan;
}

void Balancer::answered(Time now, const ProcessKey& process, const NodeId& target,
                        const Answer& answer) {
  // The answer's load has in it what was promised, so nothing is to be added to it.
  corrections_[target] = {now + kSettles, true, answer.load, 0, 0};
  if (answer.granted) {
    refusals_.erase(target);
    if (const auto it = outgoing_.find(process); it != outgoing_.end()) {
      it->second.granted = now;
      it->second.queued = 0;
      for (const auto& [key, outgoing] : outgoing_) {
        it->second.queued += outgoing.transfer;
      }
    }
    return;
  }
  outgoing_.erase(process);
  if (answer.obstacle != ObstacleKind::kCostlier) {
    Refusal& refusal = refusals_[target];
    refusal.pause = std::clamp(2 * refusal.pause, policy_.refused_pause, policy_.max_refused_pause);
    refusal.until = now + refusal.pause;
  }
}

void Balancer::transferred(const ProcessKey& process, double seconds) {
  if (const auto it = outgoing_.find(process); it != outgoing_.end()) {
    it->second.flowed = it->second.flowed.value_or(0) + std::max(0.0, seconds);
  }
}

void Balancer::ended(Time now, const ProcessKey& process, MoveEnd end) {
  const auto it = outgoing_.find(process);
  if (it == outgoing_.end()) {
    return;
  }
  const NodeId to = it->second.to;
  if (end == MoveEnd::kMoved) {
    note_duration(now, it->second);
  }
  outgoing_.erase(it);
  if (end != MoveEnd::kMoved) {
    corrections_.erase(to);
  }
  if (end == MoveEnd::kFailed) {
    Refusal& refusal = refusals_[to];
    refusal.pause = std::clamp(2 * refusal.pause, policy_.refused_pause, policy_.max_refused_pause);
    refusal.until = now + refusal.pause;
  }
}

Duration Balancer::fixed_price(Time now) const {
  const double halves = std::max(0.0, seconds(now - slow_moves_at_)) / kDurationHalfLife;
  return policy_.move_fixed + from_seconds(slow_moves_ * std::exp2(-halves));
}

void Balancer::note_duration(Time now, const Outgoing& move) {
  if (move.granted == Time()) {
    return;
  }
  // The flow of its memory has a price of its own. Where nobody has measured it: what it should
  // have taken, together with those that went at the same time.
  const double transfer = move.flowed.value_or(move.queued);
  const double took = seconds(now - move.granted) - transfer - seconds(policy_.move_fixed);
  const double before = seconds(fixed_price(now) - policy_.move_fixed);
  slow_moves_ = before + kDurationShare * (std::clamp(took, 0.0, kLongestFixed) - before);
  slow_moves_at_ = now;
}

Estimate Balancer::estimate(const Round& round, const ProcessPicture& process,
                            const NodePicture& node) const {
  // RoundWork changes the balancer only when it plans.
  Balancer copy(*this);
  return RoundWork(copy, round).estimate(process, node);
}

}  // namespace tess::placement
