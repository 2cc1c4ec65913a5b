#include "cluster/placement/explain.h"

#include <fmt/format.h>

#include <algorithm>

namespace tess::placement {
namespace {
// "One more process like this", so often at most, until it would move.
constexpr int kMostExtra = 64;

std::vector<Alternative> list_alternatives(const Balancer& balancer, const Round& round,
                                           const ProcessPicture& process) {
  std::vector<Alternative> list;
  for (const NodePicture& node : round.candidates) {
    if (node.id == round.local.node.id) {
      continue;
    }
    Alternative alternative;
    alternative.node = node.id;
    alternative.name = node.name;
    if (const auto kind =
            find_obstacle(process, node, balancer.policy(), balancer.policy().memory_outlook)) {
      alternative.obstacle = describe(*kind, process, node, balancer.policy());
    } else {
      alternative.possible = true;
      alternative.estimate = balancer.estimate(round, process, node);
      alternative.better = alternative.estimate.cheaper(balancer.policy()) &&
                           alternative.estimate.worth(balancer.policy());
    }
    list.push_back(std::move(alternative));
  }
  std::stable_sort(list.begin(), list.end(), [](const Alternative& a, const Alternative& b) {
    return a.possible != b.possible ? a.possible
                                    : a.possible && a.estimate.cost_there + a.estimate.way() <
                                                        b.estimate.cost_there + b.estimate.way();
  });
  return list;
}

const NodePicture* find_node(const Round& round, const NodeId& id) {
  for (const NodePicture& node : round.candidates) {
    if (node.id == id) {
      return &node;
    }
  }
  return nullptr;
}

// How many more runnable threads here would make it go there; 0: none within reason.
int extra_until_it_moves(const Balancer& balancer, const Round& round,
                         const ProcessPicture& process, const NodePicture& node) {
  Round busier = round;
  for (int extra = 1; extra <= kMostExtra; ++extra) {
    busier.local.unmanaged_runnable = round.local.unmanaged_runnable + extra;
    const Estimate estimate = balancer.estimate(busier, process, node);
    if (estimate.cheaper(balancer.policy()) && estimate.worth(balancer.policy())) {
      return extra;
    }
  }
  return 0;
}

void say_why_here(const Round& round, const ProcessPicture& process, const MoveLog* log,
                  std::vector<std::string>& lines) {
  const NodePicture& here = round.local.node;
  const std::string name(here.name);
  const bool at_home = process.key.home == here.id;
  if (log != nullptr && !log->moves().empty() && log->moves().back().outcome == Outcome::kMoved &&
      log->moves().back().decision.to == here.id) {
    lines.push_back(fmt::format("it came {:.0f} s ago, {}", seconds(process.here_for),
                                log->moves().back().decision.text()));
  } else if (at_home) {
    lines.push_back(fmt::format("{} is its home", name));
  } else {
    lines.push_back(fmt::format("it came to {} {:.0f} s ago", name, seconds(process.here_for)));
  }
  if (!process.movable) {
    lines.push_back(process.immovable_because.empty() ? "it cannot move"
                                                      : std::string(process.immovable_because));
  }
  if (process.wishes.stay) {
    lines.emplace_back("it is to stay where it is (--stay)");
  }
  if (process.wishes.home) {
    lines.emplace_back("it is to run at home (--home)");
  }
  if (!process.wishes.on.empty()) {
    lines.emplace_back("it may run only on the nodes it was started for (--on)");
  }
}

void say_what_compares(const Round& round, const ProcessPicture& process,
                       const std::vector<Alternative>& alternatives,
                       std::vector<std::string>& lines) {
  if (alternatives.empty() || !alternatives.front().possible) {
    lines.emplace_back(alternatives.empty() ? "no other node is known"
                                            : "no other node can take it now");
    return;
  }
  const Alternative& best = alternatives.front();
  const Estimate& e = best.estimate;
  lines.push_back(
      fmt::format("here {:.1f} threads want to run and it gets on at speed {:.2f}; on {}, the best "
                  "other place, it "
                  "would at {:.2f}",
                  e.runnable_here, 1 / e.slow_here, best.name, 1 / e.slow_there));
  if (e.delay_there > 0.01 && process.key.home == round.local.node.id) {
    lines.push_back(fmt::format(
        "away from home it would wait {:.2f} s for its system calls in each second of work",
        e.delay_there));
  }
}

void say_what_would_move(const Balancer& balancer, const Round& round,
                         const ProcessPicture& process,
                         const std::vector<Alternative>& alternatives,
                         std::vector<std::string>& lines) {
  const Policy& policy = balancer.policy();
  if (!process.movable || process.wishes.stay) {
    lines.emplace_back(process.movable
                           ? "only `tess migrate`, an owner who comes back or a drain (--stay)"
                           : "nothing, as long as it cannot move");
    return;
  }
  if (process.moving) {
    lines.emplace_back("it is on its way already");
    return;
  }
  for (const Alternative& alternative : alternatives) {
    if (!alternative.possible) {
      lines.push_back(fmt::format("not to {}: {}", alternative.name, alternative.obstacle.text));
      continue;
    }
    const Estimate& e = alternative.estimate;
    const NodePicture* node = find_node(round, alternative.node);
    const Duration wait = balancer.residency(process) - process.here_for;
    if (alternative.better) {
      lines.push_back(
          wait > Duration::zero()
              ? fmt::format("to {} in {:.0f} s, if it is still better then: it has just come",
                            alternative.name, std::max(1.0, seconds(wait)))
              : fmt::format("to {} as soon as {} agrees", alternative.name, alternative.name));
    } else if (e.cheaper(policy)) {
      const double needed = e.price * policy.price_margin;
      lines.push_back(
          e.saved <= 0
              ? fmt::format("not to {}: that would save nothing", alternative.name)
              : fmt::format(
                    "to {} once it has worked for {:.1f} s: moving takes {:.1f} s {}, and {:.1f} s "
                    "of waiting saved do not pay for it yet",
                    alternative.name, e.work * needed / e.saved, e.price,
                    text_of_transfer(process.memory_bytes, e.bandwidth), e.saved));
    } else if (node != nullptr) {
      const int extra = extra_until_it_moves(balancer, round, process, *node);
      lines.push_back(
          extra > 0 ? fmt::format("to {} if {} more thread{} wanted to run here", alternative.name,
                                  extra, extra == 1 ? "" : "s")
                    : fmt::format("not to {}, however busy this node gets", alternative.name));
    }
    // The best place says it all; the others differ in numbers only.
    if (lines.size() >= 4) {
      break;
    }
  }
  if (lines.empty()) {
    lines.emplace_back("nothing: no other node is known");
  }
}
}  // namespace

Explanation explain(const Balancer& balancer, const Round& round, const ProcessPicture& process,
                    const MoveLog* log) {
  Explanation explanation;
  explanation.alternatives = list_alternatives(balancer, round, process);
  say_why_here(round, process, log, explanation.why_here);
  if (process.movable) {
    say_what_compares(round, process, explanation.alternatives, explanation.why_here);
  }
  say_what_would_move(balancer, round, process, explanation.alternatives, explanation.would_move);
  if (log != nullptr) {
    explanation.last_moves = log->texts(round.now);
  }
  return explanation;
}

}  // namespace tess::placement
