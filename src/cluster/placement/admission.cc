#include "cluster/placement/admission.h"

#include <algorithm>
#include <limits>

namespace tess::placement {
namespace {
// The process as far as the obstacles are concerned; wishes were heeded by the source.
ProcessPicture picture_of(const Ask& ask) {
  ProcessPicture process;
  process.key = ask.process;
  process.memory_bytes = ask.memory_bytes;
  process.memory_growth = ask.memory_growth;
  process.cpu_features = ask.cpu_features;
  return process;
}

bool within(double value, double least, double most) {
  return value >= least && value <= most;
}

// Asks come from other nodes. Not a number fails every comparison, so it is refused here, too.
bool makes_sense(const Ask& ask) {
  constexpr double kMost = 1e9;
  constexpr uint64_t kMostMemory = uint64_t{1} << 56;
  return ask.cause <= Cause::kPerson && within(ask.demand, 0, kMost) &&
         ask.memory_bytes <= kMostMemory && within(ask.memory_growth, -1e15, 1e15) &&
         within(ask.delay, 0, kMost) && within(ask.cost_here, 0, 1e30) &&
         within(ask.slow_believed, 0, kMost) && within(ask.slow_limit, 0, kMost) &&
         within(ask.lagging_speed, 0, kMost) && within(ask.scale.log_base, 0.1, 100) &&
         within(ask.scale.limit, 1e-6, kMost) && within(ask.transfer, 0, 1e6);
}
}  // namespace

void Admission::expire(Time now) {
  std::erase_if(promises_, [now](const auto& entry) { return entry.second.until <= now; });
}

size_t Admission::incoming(Time now) {
  expire(now);
  return promises_.size();
}

double Admission::promised_demand(Time now) {
  expire(now);
  double sum = 0;
  for (const auto& [key, promise] : promises_) {
    sum += promise.demand;
  }
  return sum;
}

uint64_t Admission::promised_memory(Time now) {
  expire(now);
  uint64_t sum = 0;
  for (const auto& [key, promise] : promises_) {
    sum += promise.memory_bytes;
  }
  return sum;
}

LoadRecord Admission::record(Time now, const Local& local) {
  LoadRecord load = local.node.load;
  // Readers add `incoming` to `runnable`: what is promised must not be in both.
  load.incoming =
      static_cast<uint16_t>(std::min<size_t>(incoming(now), std::numeric_limits<uint16_t>::max()));
  load.runnable = static_cast<float>(local.runnable());
  load.memory_free_bytes -= std::min(load.memory_free_bytes, promised_memory(now));
  return load;
}

std::optional<ObstacleKind> Admission::refuse(const Ask& ask, const Local& local,
                                              const LoadRecord& load, double promised) const {
  const bool goes_home = ask.process.home == local.node.id;
  NodePicture node = local.node;
  node.load = load;
  const bool urgent = is_urgent(ask.cause);
  const Duration outlook = urgent                        ? Duration::zero()
                           : ask.cause == Cause::kMemory ? policy_.memory_horizon
                                                         : policy_.memory_outlook;
  // Growth of those that are here already comes first.
  const auto growth = static_cast<uint64_t>(std::max(0.0, local.memory_growth) * seconds(outlook));
  node.load.memory_free_bytes -= std::min(node.load.memory_free_bytes, growth);
  const auto obstacle = find_obstacle(picture_of(ask), node, policy_, outlook);
  if (obstacle && !(urgent && goes_home && *obstacle == ObstacleKind::kMemory)) {
    return obstacle;
  }
  if (urgent) {
    return std::nullopt;
  }
  double transfers = 0;
  for (const auto& [key, promise] : promises_) {
    transfers += promise.transfer;
  }
  if (transfers > seconds(policy_.max_incoming_transfer)) {
    return ObstacleKind::kLink;
  }
  if (ask.cause == Cause::kMemory) {
    return std::nullopt;
  }
  Place place = place_of(load, policy_, !goes_home);
  place.runnable = local.runnable() + promised;
  Weight weight;
  weight.demand = ask.demand;
  weight.memory = static_cast<double>(ask.memory_bytes);
  weight.call_delay = ask.delay;
  if (ask.cause == Cause::kTurn) {
    const double slow = slowness(place, place.runnable + ask.demand) + ask.delay;
    double slowest = std::numeric_limits<double>::max();
    for (const ProcessPicture& process : local.residents) {
      slowest = std::min(slowest, life_speed(process));
    }
    const bool fair = ask.lagging_speed < slowest * (1 - policy_.turn_lag);
    return fair && promised == 0 && slow <= ask.slow_limit ? std::nullopt
                                                           : std::optional(ObstacleKind::kCostlier);
  }
  const double slow = slowness(place, place.runnable + ask.demand) + ask.delay;
  if (slow > ask.slow_believed * (1 + policy_.disappointment)) {
    return ObstacleKind::kCostlier;
  }
  // Half of the hysteresis that the source applied: this load is not seconds old.
  const double cost = cost_of_taking(place, weight, ask.scale);
  if (cost >= ask.cost_here * (1 - policy_.hysteresis / 2)) {
    return ObstacleKind::kCostlier;
  }
  return std::nullopt;
}

Answer Admission::ask(Time now, const Ask& ask, const Local& local) {
  Answer answer;
  if (!makes_sense(ask)) {
    answer.obstacle = ObstacleKind::kNonsense;
    answer.load = record(now, local);
    return answer;
  }
  promises_.erase(ask.process);
  answer.load = record(now, local);
  const auto obstacle = refuse(ask, local, answer.load, promised_demand(now));
  if (obstacle) {
    answer.obstacle = *obstacle;
    return answer;
  }
  answer.granted = true;
  promises_[ask.process] = {ask.demand, ask.memory_bytes, ask.transfer,
                            now + policy_.promise + from_seconds(2 * ask.transfer)};
  answer.load = record(now, local);
  return answer;
}

}  // namespace tess::placement
