#include "cluster/placement/exec_placement.h"

#include <algorithm>

namespace tess::placement {
namespace {
// As this program may become, not as the fresh image is.
ProcessPicture picture_of(const ProcessPicture& process, const ProgramHint& hint) {
  ProcessPicture program = process;
  program.demand = hint.demand;
  program.memory_bytes = hint.memory_bytes;
  program.home_calls = hint.home_calls.value_or(0);
  program.moving = false;
  return program;
}

double guessed_slowness(const NodePicture& node, const ProcessPicture& process,
                        const Policy& policy) {
  const Place place = place_of(node.load, policy, process.key.home != node.id);
  return slowness(place, place.runnable + process.demand);
}

Estimate estimate_at_exec(const ProcessPicture& program, const Place& here, const NodePicture& node,
                          const ProgramHint& hint, const Scale& scale, const Policy& policy) {
  const Duration trip =
      node.round_trip > Duration::zero() ? node.round_trip : policy.default_round_trip;
  const bool home = node.id == program.key.home;
  const double delay = home ? 0 : call_delay(program, trip, policy);
  Estimate estimate =
      estimate_move(program, here, 0, place_of(node.load, policy, !home), delay, scale, policy);
  const double work = hint.work.value_or(seconds(policy.exec_expected_work));
  estimate.saved *= work / estimate.work;
  estimate.work = work;
  estimate.price = seconds(policy.exec_price);
  return estimate;
}
}  // namespace

std::vector<NodeId> exec_candidates(std::span<const NodePicture> known,
                                    const ProcessPicture& process, const Policy& policy,
                                    Random& random) {
  std::vector<const NodePicture*> possible;
  for (const NodePicture& node : known) {
    if (!find_obstacle(process, node, policy, Duration::zero())) {
      possible.push_back(&node);
    }
  }
  std::vector<NodeId> chosen;
  while (chosen.size() < policy.exec_choices && !possible.empty()) {
    size_t pick = random.below(possible.size());
    const size_t other = random.below(possible.size());
    if (guessed_slowness(*possible[other], process, policy) <
        guessed_slowness(*possible[pick], process, policy)) {
      pick = other;
    }
    chosen.push_back(possible[pick]->id);
    possible[pick] = possible.back();
    possible.pop_back();
  }
  return chosen;
}

std::optional<PlannedMove> choose_at_exec(Time now, const Local& local,
                                          std::span<const NodePicture> fresh,
                                          const ProcessPicture& process, const ProgramHint& hint,
                                          size_t cluster_size, const Policy& policy) {
  if (!process.movable || process.wishes.stay) {
    return std::nullopt;
  }
  const ProcessPicture program = picture_of(process, hint);
  Place here = place_of(local.node.load, policy, process.key.home != local.node.id);
  here.runnable = std::max(local.runnable(), program.demand);
  double slowest = slowness(here, here.runnable);
  for (const NodePicture& node : fresh) {
    const Place place = place_of(node.load, policy, true);
    slowest = std::max(slowest, slowness(place, place.runnable));
  }
  const Scale scale = make_scale(cluster_size, slowest);

  // A wish that excludes this node leaves nothing to weigh but the other places.
  const bool must_leave = wishes_elsewhere(process, local.node.id);
  const NodePicture* best = nullptr;
  Estimate best_estimate;
  for (const NodePicture& node : fresh) {
    if (node.id == local.node.id || find_obstacle(program, node, policy, Duration::zero())) {
      continue;
    }
    const Estimate estimate = estimate_at_exec(program, here, node, hint, scale, policy);
    const bool better = estimate.cheaper(policy) && estimate.worth(policy);
    if ((better || must_leave) &&
        (best == nullptr || estimate.cost_there < best_estimate.cost_there)) {
      best = &node;
      best_estimate = estimate;
    }
  }
  if (best == nullptr) {
    return std::nullopt;
  }
  PlannedMove move = plan_move(now, must_leave ? Cause::kWish : Cause::kExec, local.node, *best,
                               program, best_estimate, scale);
  move.ask.transfer = 0;  // the image is a few pages of files
  move.ask.memory_growth = 0;
  return move;
}

}  // namespace tess::placement
