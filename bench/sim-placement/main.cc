// Runs the simulated workloads of src/sim/placement under each strategy and prints the figures of
// docs/placement.md as Markdown tables. The same seeds give the same figures everywhere; only the
// costs of decisions are real time.
#include <fmt/core.h>

#include <algorithm>
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
  double stopped = 0;
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
    stopped = std::max(stopped, f.owner_freeze);
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

void print_row(const std::string& workload, Strategy strategy, const Sum& sum) {
  const double n = sum.runs;
  fmt::print(
      "| {} | {} | {:.3f} ({:.3f}) | {:.3f} | {:.2f} | {:.2f} ({}) | {} | {:.1f}% | {:.1f} | "
      "{:.1f}, {:.1f} | {:.1f} |",
      workload, to_text(strategy), sum.ratio / n, sum.worst_ratio, sum.fair_ratio / n,
      sum.slowdown / n, sum.moves / n, sum.most_moves, sum.ping_pongs, 100 * sum.wasted / n,
      sum.room / n, sum.stopped, sum.owner, sum.drain);
  if (sum.unfinished > 0) {
    fmt::print(" UNFINISHED: {}", sum.unfinished);
  }
  fmt::print("\n");
  std::fflush(stdout);
}

void compare(const Arguments& args) {
  fmt::print(
      "| workload | strategy | makespan / least (worst run) | / fair | mean slowdown | moves per "
      "job (most of "
      "one) | back and forth | idle while others wait | swapping with room, node-s | owner back: "
      "stopped, gone, s | drained, s |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | "
      "--- | --- |\n");
  const auto names = all_workloads({args.nodes, args.jobs, 1, args.scale});
  for (size_t w = 0; w < names.size(); ++w) {
    if (!args.only.empty() && args.only != names[w].name) {
      continue;
    }
    for (const Strategy strategy :
         {Strategy::kTessera, Strategy::kTesseraMoves, Strategy::kRoundRobin,
          Strategy::kLeastLoaded, Strategy::kPowerOfTwo}) {
      if (args.strategy.empty() || args.strategy == to_text(strategy)) {
        print_row(names[w].name, strategy, run_seeds(args, strategy, w));
      }
    }
  }
}

Figures run_one(const Scenario& scenario, uint64_t seed, double horizon, size_t choices = 0) {
  Options options;
  options.seed = seed;
  options.horizon = horizon;
  if (choices > 0) {
    options.policy.exec_choices = choices;
  }
  World world(scenario, options);
  world.stopwatch = real_time;
  const Figures figures = world.run();
  if (!figures.conserved) {
    std::printf("BROKEN: %s seed %lu: %s\n", scenario.name.c_str(),
                static_cast<unsigned long>(seed), figures.broken.c_str());
  }
  return figures;
}

// Time to balance, and what a decision costs, as the cluster grows.
void scaling(const Arguments& args) {
  std::printf(
      "| start | nodes | jobs | 90%% placed, s | 99%%, s | all, s | moves | needed | asks per move "
      "| "
      "one round, us |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const bool pile : {false, true}) {
    for (const int nodes : {10, 256, 1000, 10000}) {
      if (args.nodes != 8 && args.nodes != nodes) {
        continue;
      }
      const int jobs = std::min(nodes, 256);
      const Scenario scenario = pile ? one_pile({nodes, jobs, 1}) : lopsided({nodes, 0, 1});
      const double horizon = 60;
      const Figures f = run_one(scenario, static_cast<uint64_t>(args.first_seed), horizon);
      const double needed = pile ? jobs - 1 : static_cast<double>(f.jobs) - (nodes + 9) / 10;
      std::printf("| %s | %d | %zu | %.2f | %.2f | %.2f | %zu | %.0f | %.2f | %.0f |\n",
                  pile ? "all on one node" : "ten each on a tenth of the nodes", nodes, f.jobs,
                  f.balanced_90, f.balanced_99, f.balanced_at, f.moves_of_running, needed,
                  static_cast<double>(f.asks) / static_cast<double>(f.moves_of_running),
                  1e6 * f.decide_seconds / static_cast<double>(f.decisions));
      std::fflush(stdout);
    }
  }
}

// The cost of choosing whom to look at, from a whole view of the cluster.
void sampling() {
  using namespace tess::placement;  // NOLINT
  std::printf("| nodes in the view | sample_candidates, us |\n| --- | --- |\n");
  for (const int nodes : {10, 256, 1000, 10000}) {
    tess::cluster::ClusterView view;
    tess::sim::Random random(1);
    view.self = node_id(0);
    for (int i = 0; i < nodes; ++i) {
      tess::cluster::MemberView member;
      member.id = node_id(i);
      member.name = "n" + std::to_string(i);
      member.has_load = true;
      member.load.runnable = static_cast<float>(random.below(8));
      view.members.push_back(member);
    }
    const int rounds = 200000 / nodes + 10;
    const double start = real_time();
    size_t seen = 0;
    for (int i = 0; i < rounds; ++i) {
      seen += sample_candidates(view, {}, 32, Policy{}, random).size();
    }
    std::printf("| %d | %.0f |\n", nodes, 1e6 * (real_time() - start) / rounds);
    if (seen == 0) {
      std::printf("nothing was sampled\n");
    }
  }
}

// Equal nodes that start one job each and the next whenever one ends: what a batch queue does.
double queue_makespan(const Scenario& scenario) {
  std::vector<double> free_at(scenario.nodes.size(), 0);
  for (const JobSpec& job : scenario.jobs) {
    *std::min_element(free_at.begin(), free_at.end()) += job.work;
  }
  return *std::max_element(free_at.begin(), free_at.end());
}

void queue(const Arguments& args) {
  fmt::print("| nodes | queue / least | fair / least |\n| --- | --- | --- |\n");
  for (const int nodes : {4, 6, 8}) {
    double by_queue = 0;
    double by_fair = 0;
    for (int seed = 1; seed <= args.seeds; ++seed) {
      const Scenario scenario = mixed({nodes, args.jobs, static_cast<uint64_t>(seed)});
      by_queue += queue_makespan(scenario) / least_makespan(scenario);
      by_fair += fair_makespan(scenario) / least_makespan(scenario);
    }
    fmt::print("| {} | {:.2f} | {:.2f} |\n", nodes, by_queue / args.seeds, by_fair / args.seeds);
  }
}

// Short programs: placement at exec with k fresh answers, against placing with perfect knowledge.
void short_programs(const Arguments& args) {
  std::printf(
      "| nodes | strategy | mean slowdown | worst | refused | moved later |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (const int nodes : {8, 64}) {
    const Scenario scenario = short_jobs({nodes, 200 * nodes, 1});
    for (const size_t choices : {size_t{1}, size_t{2}, size_t{3}, size_t{5}, size_t{8}}) {
      const Figures f =
          run_one(scenario, static_cast<uint64_t>(args.first_seed), 24 * 3600, choices);
      std::printf("| %d | tessera, k = %zu | %.2f | %.1f | %.1f%% | %zu |\n", nodes, choices,
                  f.mean_slowdown, f.max_slowdown,
                  100.0 * static_cast<double>(f.refusals) / static_cast<double>(f.asks),
                  f.moves_of_running);
    }
    for (const Strategy strategy :
         {Strategy::kLeastLoaded, Strategy::kPowerOfTwo, Strategy::kRoundRobin}) {
      Options options;
      options.strategy = strategy;
      const Figures f = World(scenario, options).run();
      std::printf("| %d | %s | %.2f | %.1f | | |\n", nodes, to_text(strategy), f.mean_slowdown,
                  f.max_slowdown);
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
  } else if (args.mode == "scaling") {
    scaling(args);
    sampling();
  } else if (args.mode == "short") {
    short_programs(args);
  } else if (args.mode == "queue") {
    queue(args);
  } else {
    std::fprintf(stderr, "unknown mode %s: compare, scaling, short or queue\n", args.mode.c_str());
    return 2;
  }
  return 0;
}
