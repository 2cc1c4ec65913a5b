// Turns. Where the load cannot be made equal in whole processes (nine on eight nodes, one each on
// nodes of different speeds), those in the slow places would end much later than the others. So the
// slow places change hands: one process that lags least goes to share a CPU elsewhere, and those
// that it leaves get on faster for a while. A process that is alone on a slow node goes to a faster
// one itself; the balance there then sends the one it finds the other way.
//
// A turn is due when the lag has grown by a share of the whole life so far, so turns get rarer as a
// process grows older: a number of moves that grows with the logarithm of its life.
#include <algorithm>

#include "cluster/placement/round_work.h"

namespace tess::placement {
namespace {
// Processes that want less of a CPU than this have no turns to take.
constexpr double kTurnDemand = 0.5;
// The one that moves may become this much slower; when it is to change places with another it
// shares with that one for a moment.
constexpr double kTolerance = 1.02;
constexpr double kSwapTolerance = 2.0;
}  // namespace

const ProcessPicture* RoundWork::find_lagging() const {
  const ProcessPicture* lagging = nullptr;
  for (const ProcessPicture& process : round_.local.residents) {
    if (process.demand >= kTurnDemand && !is_busy(process) &&
        (lagging == nullptr || life_speed(process) < life_speed(*lagging))) {
      lagging = &process;
    }
  }
  return lagging;
}

bool RoundWork::shares_here() const {
  return here_.runnable > here_.cores + kTurnDemand;
}

double RoundWork::slowest_for_turn(const Estimate& estimate) const {
  return estimate.slow_here * (shares_here() ? kTolerance : kSwapTolerance);
}

bool RoundWork::turn_is_due(const ProcessPicture& lagging, double slow_there, double price) const {
  const double moves = shares_here() ? 1 : 2;
  const double behind = 1 - life_speed(lagging) * slow_there;
  return behind > policy_.turn_lag && behind * lagging.wanted > moves * policy_.turn_prices * price;
}

RoundWork::Choice RoundWork::best_turn(const ProcessPicture& lagging) {
  const double slow_here = slowness(here_, here_.runnable);
  Choice best;
  size_t ties = 0;
  for (const ProcessPicture* process : considered()) {
    const bool candidate = (process == &lagging) != shares_here();
    if (!candidate || process->demand < kTurnDemand) {
      continue;
    }
    for (Node& node : nodes_) {
      const double slow_there = slowness(node.guest, node.guest.runnable);
      if (node.paused || node.guest.runnable <= 0 ||
          slow_there > slow_here * (1 - policy_.turn_gain) ||
          just_left(*process, node.picture.id) ||
          find_obstacle(*process, node.picture, policy_, policy_.memory_outlook)) {
        continue;
      }
      const Estimate estimate = estimate_for(*process, node);
      if (!turn_is_due(lagging, slow_there, estimate.price) ||
          estimate.slow_there > slowest_for_turn(estimate)) {
        continue;
      }
      const double benefit = life_speed(*process);
      ties = best.node != nullptr && benefit == best.benefit ? ties + 1 : 0;
      if (best.node == nullptr || benefit > best.benefit ||
          (ties > 0 && balancer_.random_.below(ties + 1) == 0)) {
        best = {process, &node, estimate, benefit, 0, 1 - life_speed(lagging) * slow_there};
      }
    }
  }
  return best;
}

void RoundWork::take_turns() {
  if (!policy_.turns || round_.now < balancer_.next_turn_ || !may_begin() || !plan_.empty() ||
      !balancer_.outgoing_.empty()) {
    return;
  }
  const ProcessPicture* lagging = find_lagging();
  if (lagging == nullptr) {
    return;
  }
  const Choice choice = best_turn(*lagging);
  if (choice.node == nullptr) {
    return;
  }
  balancer_.next_turn_ =
      round_.now + std::max(policy_.residency, from_seconds(2 * choice.estimate.price));
  ++balance_moves_;
  PlannedMove& move = plan(choice, Cause::kTurn);
  move.decision.lag = choice.lag;
  move.ask.lagging_speed = life_speed(*lagging);
  move.ask.slow_limit = slowest_for_turn(choice.estimate);
}

}  // namespace tess::placement
