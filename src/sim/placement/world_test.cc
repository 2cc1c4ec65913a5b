// Properties that hold in every simulated run. Each failure names the workload and the seed: rerun
// it with
//   build/…/bin/sim-placement compare --only WORKLOAD --seed N --trace
#include "sim/placement/world.h"

#include <gtest/gtest.h>

#include "cluster/placement/explain.h"
#include "sim/placement/workloads.h"

namespace tess::sim {
namespace {

std::string rerun(const Scenario& scenario, uint64_t seed) {
  return "sim-placement compare --only " + scenario.name + " --seed " + std::to_string(seed) +
         " --trace";
}

Figures run(const Scenario& scenario, uint64_t seed, Strategy strategy = Strategy::kTessera) {
  Options options;
  options.seed = seed;
  options.strategy = strategy;
  return World(scenario, options).run();
}

// Anything may happen: nodes of all kinds, jobs of all kinds, deaths, drains, owners.
Scenario chaos(uint64_t seed) {
  Random random(seed * 7919);
  Scenario s;
  s.name = "chaos";
  const int nodes = 3 + static_cast<int>(random.below(20));
  for (int i = 0; i < nodes; ++i) {
    NodeSpec node;
    node.speed = 0.5 + 2 * random.unit();
    node.cores = 1 + static_cast<int>(random.below(4));
    node.threads = node.cores * (1 + static_cast<int>(random.below(2)));
    node.memory = 2e9 + 8e9 * random.unit();
    node.reserved = random.below(4) == 0 ? 0.25 : 0;
    s.nodes.push_back(node);
  }
  const size_t jobs = 5 + random.below(80);
  for (size_t i = 0; i < jobs; ++i) {
    JobSpec job;
    job.home = static_cast<int>(random.below(random.below(2) == 0 ? 1 : s.nodes.size()));
    job.release = random.below(2) == 0 ? 0 : 60 * random.unit();
    job.work = 1 + 60 * random.unit();
    job.memory = 1e6 + 100e6 * random.unit();
    job.memory_peak = job.memory * (1 + 5 * random.unit());
    job.calls = random.below(3) == 0 ? 10000 * random.unit() : 0;
    job.priority = static_cast<int>(random.below(5)) - 2;
    job.adopted = random.below(2) == 0;
    job.stay = random.below(10) == 0;
    if (random.below(10) == 0) {
      job.on = {static_cast<int>(random.below(s.nodes.size()))};
    }
    s.jobs.push_back(job);
  }
  for (size_t i = 0; i < random.below(8); ++i) {
    const auto what = static_cast<Happening>(random.below(4));
    s.events.push_back({90 * random.unit(), what, static_cast<int>(random.below(s.nodes.size())),
                        what == Happening::kOwnerReturns ? 1.0 : 0.0});
  }
  return s;
}

TEST(Bounds, AreThoseOfKnownCases) {
  Scenario s;
  s.nodes.resize(8);
  for (int i = 0; i < 9; ++i) {
    s.jobs.push_back({});
    s.jobs.back().work = 16;
  }
  EXPECT_DOUBLE_EQ(least_makespan(s), 18);
  EXPECT_DOUBLE_EQ(fair_makespan(s), 18);
  s.jobs[0].work = 100;
  EXPECT_DOUBLE_EQ(least_makespan(s), 100);
  EXPECT_DOUBLE_EQ(fair_makespan(s), 18 + 84);
  s.nodes[0].speed = 4;
  EXPECT_DOUBLE_EQ(least_makespan(s), 25);
  s.jobs[1].release = 1000;
  EXPECT_DOUBLE_EQ(least_makespan(s), 1004);
}

TEST(World, EveryProcessIsAlwaysInExactlyOnePlace) {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    const Scenario scenario = chaos(seed);
    Options options;
    options.seed = seed;
    options.strategy = seed % 2 == 0 ? Strategy::kTessera : Strategy::kTesseraMoves;
    options.horizon = 3600;
    const Figures f = World(scenario, options).run();
    EXPECT_TRUE(f.conserved) << "chaos, seed " << seed << ": " << f.broken;
    EXPECT_EQ(f.finished + f.lost, f.jobs) << "chaos, seed " << seed;
  }
}

TEST(World, ASeedGivesOneRun) {
  const Scenario scenario = mixed({8, 32, 3});
  const Figures a = run(scenario, 3);
  const Figures b = run(scenario, 3);
  EXPECT_EQ(a.makespan, b.makespan);
  EXPECT_EQ(a.moves, b.moves);
  EXPECT_EQ(a.asks, b.asks);
}

TEST(World, NoRunBeatsTheBound) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const Scenario& scenario : all_workloads({8, 32, seed})) {
      for (const Strategy strategy : {Strategy::kTessera, Strategy::kRoundRobin}) {
        const Figures f = run(scenario, seed, strategy);
        EXPECT_GE(f.makespan, f.least * 0.9999) << rerun(scenario, seed);
        EXPECT_EQ(f.finished + f.lost, f.jobs) << rerun(scenario, seed);
        EXPECT_TRUE(f.conserved) << rerun(scenario, seed) << ": " << f.broken;
      }
    }
  }
}

TEST(World, IsNearlyAsGoodAsSharingEverythingForNothing) {
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    for (const Scenario& scenario : all_workloads({8, 32, seed, 4})) {
      const Figures f = run(scenario, seed);
      const bool uneven = scenario.name == "chatty" || scenario.name == "mixed-speeds";
      const double allowed = uneven ? 1.20 : 1.10;
      EXPECT_LT(f.makespan, f.fair * allowed) << rerun(scenario, seed);
    }
  }
}

TEST(World, LongJobsAreWithinATenthOfTheBoundWhereLengthsAreAlike) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const Scenario& scenario :
         {uniform({8, 32, seed, 4}), bursts({8, 32, seed, 4}), one_too_many({8, 32, seed, 4})}) {
      EXPECT_LT(run(scenario, seed).ratio(), 1.10) << rerun(scenario, seed);
    }
  }
}

TEST(World, ComesToRestUnderConstantLoad) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    Scenario scenario = seed % 2 == 0 ? uniform({8, 32 + static_cast<int>(seed), seed})
                                      : mixed_speeds({8, 30 + static_cast<int>(seed), seed});
    for (JobSpec& job : scenario.jobs) {
      job.work = 1e9;
      job.adopted = true;
    }
    Options options;
    options.seed = seed;
    options.horizon = 600;
    options.policy.turns = false;
    const Figures f = World(scenario, options).run();
    EXPECT_GT(f.moves_of_running, 0U);
    EXPECT_LT(f.last_move, 120) << scenario.name << ", seed " << seed << ", endless jobs";
    EXPECT_LT(f.moves_per_job(), 2.0) << scenario.name << ", seed " << seed;
  }
}

TEST(World, TurnsGetRarerWithTime) {
  Scenario scenario = one_too_many({8, 9, 1});
  for (JobSpec& job : scenario.jobs) {
    job.work = 1e9;
  }
  size_t moves[2];
  const double horizons[2] = {1000, 10000};
  for (int i = 0; i < 2; ++i) {
    Options options;
    options.horizon = horizons[i];
    moves[i] = World(scenario, options).run().moves_of_running;
  }
  EXPECT_GT(moves[0], 0U);
  EXPECT_LT(moves[1], 3 * moves[0]) << "ten times the time";
}

TEST(World, AFreedNodeIsNotFlooded) {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    // Forty nodes with four each; at 20 s those of one node end, and everybody sees it.
    Scenario s;
    s.name = "freed node";
    s.nodes.resize(40);
    for (int i = 0; i < 160; ++i) {
      JobSpec job;
      job.home = i / 4;
      job.work = i < 4 ? 5 : 1000;
      job.adopted = true;
      s.jobs.push_back(job);
    }
    Options options;
    options.seed = seed;
    options.horizon = 60;
    options.policy.turns = false;
    const Figures f = World(s, options).run();
    EXPECT_GE(f.moves_of_running, 2U) << "seed " << seed;
    EXPECT_LE(f.moves_of_running, 6U) << "seed " << seed;
    EXPECT_LE(f.most_above_mean, 1.0) << "seed " << seed;
    EXPECT_EQ(f.ping_pongs, 0U) << "seed " << seed;
  }
}

TEST(World, HardlyAnythingGoesBackAndForth) {
  size_t jobs = 0;
  size_t ping_pongs = 0;
  size_t moves = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    for (const Scenario& scenario : all_workloads({8, 32, seed})) {
      const Figures f = run(scenario, seed);
      jobs += f.jobs;
      ping_pongs += f.ping_pongs;
      moves += f.moves_of_running;
      EXPECT_LE(f.most_moves, 12U) << rerun(scenario, seed);
    }
  }
  EXPECT_LT(static_cast<double>(ping_pongs), 0.01 * static_cast<double>(jobs));
  EXPECT_LT(static_cast<double>(moves), 1.0 * static_cast<double>(jobs));
}

TEST(World, NoNodeSwapsWhileTheClusterHasRoom) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Scenario scenario = memory_heavy({8, 32, seed});
    EXPECT_EQ(run(scenario, seed).room_seconds, 0) << rerun(scenario, seed);
    EXPECT_EQ(run(scenario, seed, Strategy::kTesseraMoves).room_seconds, 0)
        << rerun(scenario, seed);
  }
  EXPECT_GT(run(memory_heavy({8, 32, 1}), 1, Strategy::kLeastLoaded).room_seconds, 100)
      << "without moves it does";
}

TEST(World, GuestsAreGoneSoonAfterTheOwnerIsBack) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const Figures f = run(owner_returns({8, 32, seed}), seed);
    EXPECT_GT(f.moves[static_cast<size_t>(placement::Cause::kOwner)], 0U);
    EXPECT_LT(f.owner_freeze, 0.5) << "seed " << seed;
    // Two nodes send some 200 MB each at 110 MB/s to the same few others.
    EXPECT_LT(f.longest_owner_wait, 5.0) << "seed " << seed;
  }
}

TEST(World, EveryDecisionAndEveryPlaceIsExplained) {
  const Scenario scenario = owner_returns({6, 24, 1});
  World world(scenario, Options{});
  size_t explained = 0;
  world.on_move = [&](double, const placement::Decision& decision) {
    EXPECT_FALSE(decision.text().empty());
    EXPECT_GE(decision.terms().size(), 5U);
  };
  world.on_round = [&](const placement::Balancer& balancer, const placement::Round& round) {
    // Each round would be slow and no different.
    if (++explained % 20 != 0) {
      return;
    }
    for (const placement::ProcessPicture& process : round.local.residents) {
      const placement::Explanation e = explain(balancer, round, process, nullptr);
      EXPECT_FALSE(e.why_here.empty());
      EXPECT_FALSE(e.would_move.empty());
    }
  };
  world.run();
  EXPECT_GT(explained, 100U);
}

}  // namespace
}  // namespace tess::sim
