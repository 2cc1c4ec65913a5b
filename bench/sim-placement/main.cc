// Runs the simulated workloads of src/sim/placement under each strategy and prints the figures of
// docs/placement.md as Markdown tables. The same seeds give the same figures everywhere; only the
// costs of decisions are real time.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "sim/placement/workloads.h"
#include "sim/placement/world.h"

namespace {
using namespace tess::sim;  // NOLINT: a program of its own

struct Arguments {
  std::string mode = "compare";
  int nodes = 8;
  int jobs = 32;
  int seeds = 5;
  int first_seed = 1;
  double scale = 1;
  std::string only;
  std::string strategy;
  bool turns = true;
  bool trace = false;
};

double real_time() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Sum {
  double ratio = 0;
  double worst_ratio = 0;
  double fair_ratio = 0;
  double slowdown = 0;
  double moves = 0;
  uint32_t most_moves = 0;
  size_t ping_pongs = 0;
  double wasted = 0;
  double swap = 0;
  double room = 0;
  double owner = 0;
  double drain = 0;
  double even = 0;
  double balanced = 0;
  size_t unfinished = 0;
  size_t lost = 0;
  size_t turns = 0;
  size_t asks = 0;
  size_t refusals = 0;
  double decide = 0;
  size_t decisions = 0;
  bool conserved = true;
  int runs = 0;

  void add(const Figures& f) {
    ++runs;
    ratio += f.ratio();
    worst_ratio = std::max(worst_ratio, f.ratio());
    fair_ratio += f.makespan / f.fair;
    slowdown += f.mean_slowdown;
    moves += f.moves_per_job();
    most_moves = std::max(most_moves, f.most_moves);
    ping_pongs += f.ping_pongs;
    wasted += f.wasted;
    swap += f.swap_seconds;
    room += f.room_seconds;
    owner = std::max(owner, f.longest_owner_wait);
    drain = std::max(drain, f.longest_drain);
    even += f.even_at;
    balanced += f.balanced_at;
    unfinished += f.jobs - f.finished - f.lost;
    lost += f.lost;
    turns += f.moves[static_cast<size_t>(tess::placement::Cause::kTurn)];
    asks += f.asks;
    refusals += f.refusals;
    decide += f.decide_seconds;
    decisions += f.decisions;
    conserved = conserved && f.conserved;
  }
};

Sum run_seeds(const Arguments& args, Strategy strategy, size_t workload) {
  Sum sum;
  for (int seed = args.first_seed; seed < args.first_seed + args.seeds; ++seed) {
    Shape shape{args.nodes, args.jobs, static_cast<uint64_t>(seed), args.scale};
    const Scenario scenario = all_workloads(shape)[workload];
    Options options;
    options.strategy = strategy;
    options.seed = static_cast<uint64_t>(seed);
    options.policy.turns = args.turns;
    World world(scenario, options);
    world.stopwatch = real_time;
    if (args.trace) {
      world.on_move = [](double at, const tess::placement::Decision& decision) {
        std::printf("%8.2f job %ld %s: %s\n", at, static_cast<long>(decision.process.pid),
                    to_text(decision.cause), decision.text().c_str());
      };
    }
    const Figures figures = world.run();
    if (!figures.conserved) {
      std::printf("BROKEN: %s seed %d: %s\n", scenario.name.c_str(), seed, figures.broken.c_str());
    }
    sum.add(figures);
  }
  return sum;
}

void compare(const Arguments& args) {
  std::printf(
      "| workload | strategy | makespan / least (worst) | / fair | mean slowdown | moves per job "
      "(most) | "
      "back and forth | idle while others wait | swapping, node-s | owner / drain, s | even after, "
      "s |\n");
  std::printf("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  const auto names = all_workloads({args.nodes, args.jobs, 1, args.scale});
  for (size_t w = 0; w < names.size(); ++w) {
    if (!args.only.empty() && args.only != names[w].name) {
      continue;
    }
    for (const Strategy strategy :
         {Strategy::kTessera, Strategy::kTesseraMoves, Strategy::kRoundRobin,
          Strategy::kLeastLoaded, Strategy::kPowerOfTwo}) {
      if (!args.strategy.empty() && args.strategy != to_text(strategy)) {
        continue;
      }
      const Sum sum = run_seeds(args, strategy, w);
      const double n = sum.runs;
      std::printf(
          "| %s | %s | %.3f (%.3f) | %.3f | %.2f | %.2f (%u) | %zu | %.1f%% | %.0f / %.0f | %.1f / "
          "%.1f | "
          "%.1f |%s%s\n",
          names[w].name.c_str(), to_text(strategy), sum.ratio / n, sum.worst_ratio,
          sum.fair_ratio / n, sum.slowdown / n, sum.moves / n, sum.most_moves, sum.ping_pongs,
          100 * sum.wasted / n, sum.swap / n, sum.room / n, sum.owner, sum.drain, sum.even / n,
          sum.unfinished > 0 ? fmt::format(" UNFINISHED {}", sum.unfinished).c_str() : "",
          sum.turns > 0 ? fmt::format(" turns {}", sum.turns).c_str() : "");
      std::fflush(stdout);
    }
  }
}
}  // namespace

int main(int argc, char** argv) {
  Arguments args;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const auto value = [&]() -> const char* { return i + 1 < argc ? argv[++i] : "0"; };
    if (arg == "--nodes") {
      args.nodes = std::atoi(value());
    } else if (arg == "--jobs") {
      args.jobs = std::atoi(value());
    } else if (arg == "--seeds") {
      args.seeds = std::atoi(value());
    } else if (arg == "--seed") {
      args.first_seed = std::atoi(value());
      args.seeds = 1;
    } else if (arg == "--scale") {
      args.scale = std::atof(value());
    } else if (arg == "--only") {
      args.only = value();
    } else if (arg == "--strategy") {
      args.strategy = value();
    } else if (arg == "--no-turns") {
      args.turns = false;
    } else if (arg == "--trace") {
      args.trace = true;
    } else {
      args.mode = arg;
    }
  }
  if (args.mode == "compare") {
    compare(args);
  }
  return 0;
}
