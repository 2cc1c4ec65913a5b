#include "cluster/placement/admission.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "cluster/placement/test_pictures.h"

namespace tess::placement {
namespace {

// As a source would ask on which so many share one core.
Ask ask_from(int pid, double runnable_there) {
  Ask ask;
  ask.process = {test_id(2), pid};
  ask.from = test_id(2);
  ask.memory_bytes = 20 * kMega;
  ask.scale = make_scale(8, runnable_there);
  Place place = place_of(test_node(2).load, Policy{}, true);
  place.runnable = runnable_there;
  Weight weight;
  weight.memory = static_cast<double>(ask.memory_bytes);
  ask.cost_here = cost_of_having(place, weight, ask.scale);
  ask.slow_limit = runnable_there;
  ask.slow_believed = runnable_there;
  return ask;
}

TEST(Admission, AFreedNodeIsNotFlooded) {
  TestRound t;
  Admission admission{Policy{}};
  int granted = 0;
  // A hundred nodes with four each see this one idle at the same moment.
  for (int i = 0; i < 100; ++i) {
    granted += admission.ask(t.now, ask_from(i, 4), t.local()).granted ? 1 : 0;
  }
  EXPECT_EQ(granted, 3) << "a fourth would make it no better than where it comes from";
  EXPECT_EQ(admission.incoming(t.now), 3U);
}

TEST(Admission, WhoBelievedItIdleIsToldThatItIsNot) {
  TestRound t;
  t.unmanaged = 1;
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 8);
  ask.slow_believed = 1;
  const Answer answer = admission.ask(t.now, ask, t.local());
  EXPECT_FALSE(answer.granted);
  EXPECT_EQ(answer.load.runnable, 1);
  // Knowing better, it may still find this the best place.
  ask.slow_believed = 2;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
}

TEST(Admission, PromisesRunOutAndAreReplacedByArrivals) {
  TestRound t;
  Admission admission{Policy{}};
  ASSERT_TRUE(admission.ask(t.now, ask_from(1, 4), t.local()).granted);
  ASSERT_TRUE(admission.ask(t.now, ask_from(2, 4), t.local()).granted);
  admission.arrived(ask_from(1, 4).process);
  EXPECT_EQ(admission.incoming(t.now), 1U);
  admission.called_off(ask_from(2, 4).process);
  EXPECT_EQ(admission.incoming(t.now), 0U);
  ASSERT_TRUE(admission.ask(t.now, ask_from(3, 4), t.local()).granted);
  EXPECT_EQ(admission.incoming(t.now + Policy{}.promise), 0U);
}

TEST(Admission, AskingTwiceIsOnePromise) {
  TestRound t;
  Admission admission{Policy{}};
  ASSERT_TRUE(admission.ask(t.now, ask_from(1, 4), t.local()).granted);
  ASSERT_TRUE(admission.ask(t.now, ask_from(1, 4), t.local()).granted);
  EXPECT_EQ(admission.incoming(t.now), 1U);
}

TEST(Admission, TheRecordCountsPromisesOnce) {
  TestRound t;
  t.residents = {test_process(7)};
  Admission admission{Policy{}};
  const Answer answer = admission.ask(t.now, ask_from(1, 4), t.local());
  ASSERT_TRUE(answer.granted);
  EXPECT_EQ(answer.load.incoming, 1);
  EXPECT_NEAR(place_of(answer.load, Policy{}, true).runnable, 2, 1e-6);
  EXPECT_EQ(answer.load.memory_free_bytes, 6 * kGiga - 20 * kMega);
}

TEST(Admission, MemoryPromisedIsTaken) {
  TestRound t;
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 4);
  ask.memory_bytes = 3 * kGiga;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
  ask.process.pid = 2;
  const Answer answer = admission.ask(t.now, ask, t.local());
  EXPECT_FALSE(answer.granted);
  EXPECT_EQ(answer.obstacle, ObstacleKind::kMemory);
}

TEST(Admission, GrowthOfThoseHereComesFirst) {
  TestRound t;
  t.memory_growth = 150e6;
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 4);
  ask.memory_bytes = 1 * kGiga;
  EXPECT_FALSE(admission.ask(t.now, ask, t.local()).granted);
  t.memory_growth = 0;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
}

TEST(Admission, RefusesWithTheReason) {
  Admission admission{Policy{}};
  TestRound t;
  t.self.load.draining = true;
  EXPECT_EQ(admission.ask(t.now, ask_from(1, 4), t.local()).obstacle, ObstacleKind::kDraining);
  t.self.load.draining = false;
  t.self.load.owner_active = true;
  EXPECT_EQ(admission.ask(t.now, ask_from(1, 4), t.local()).obstacle, ObstacleKind::kOwner);
  t.self.load.owner_active = false;
  t.unmanaged = 9;
  EXPECT_EQ(admission.ask(t.now, ask_from(1, 4), t.local()).obstacle, ObstacleKind::kCostlier);
}

TEST(Admission, NonsenseIsRefusedAndLeavesNothingBehind) {
  TestRound t;
  Admission admission{Policy{}};
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  const auto refused = [&](auto change) {
    Ask ask = ask_from(1, 4);
    change(ask);
    const Answer answer = admission.ask(t.now, ask, t.local());
    return !answer.granted && answer.obstacle == ObstacleKind::kNonsense;
  };
  EXPECT_TRUE(refused([&](Ask& ask) { ask.cost_here = nothing; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.demand = nothing; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.demand = -3; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.scale.log_base = 0; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.scale.limit = INFINITY; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.memory_bytes = UINT64_MAX; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.transfer = INFINITY; }));
  EXPECT_TRUE(refused([&](Ask& ask) { ask.cause = static_cast<Cause>(77); }));
  EXPECT_EQ(admission.incoming(t.now), 0U);
  EXPECT_TRUE(admission.ask(t.now, ask_from(1, 4), t.local()).granted);
}

TEST(Admission, WhoMustLeaveElsewhereIsTakenEvenIfItIsNoBetterHere) {
  TestRound t;
  t.unmanaged = 9;
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 1);
  ask.cause = Cause::kOwner;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
}

TEST(Admission, HomeTakesItsOwnBackWhateverItsState) {
  TestRound t;
  t.self.load.draining = true;
  t.self.load.memory_free_bytes = 0;
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 1);
  ask.process.home = t.self.id;
  ask.cause = Cause::kDrain;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
}

TEST(Admission, ATurnIsGrantedOnlyByThoseWhoAreAhead) {
  TestRound t;
  t.residents = {test_process(7)};
  Admission admission{Policy{}};
  Ask ask = ask_from(1, 2);
  ask.cause = Cause::kTurn;
  ask.lagging_speed = 0.5;
  EXPECT_TRUE(admission.ask(t.now, ask, t.local()).granted);
  admission.called_off(ask.process);
  t.residents[0].wanted = 2 * t.residents[0].cpu_used;  // it has had half a CPU, too
  EXPECT_FALSE(admission.ask(t.now, ask, t.local()).granted);
}

}  // namespace
}  // namespace tess::placement
