#include "cluster/placement/cost.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cluster/placement/test_pictures.h"

namespace tess::placement {
namespace {

Place place_with(double cores, double threads, double speed, double runnable = 0) {
  Place place;
  place.cores = cores;
  place.threads = threads;
  place.speed = speed;
  place.runnable = runnable;
  place.memory_total = 8e9;
  place.memory_free = 6e9;
  return place;
}

Weight plain() {
  Weight weight;
  weight.memory = 10e6;
  return weight;
}

TEST(Throughput, GrowsByCoresThenBySiblingsThenNoMore) {
  const Place place = place_with(2, 4, 1.5);
  EXPECT_DOUBLE_EQ(throughput(place, 1), 1.5);
  EXPECT_DOUBLE_EQ(throughput(place, 2), 3.0);
  EXPECT_DOUBLE_EQ(throughput(place, 4), 1.5 * (2 + 2 * 0.3));
  EXPECT_DOUBLE_EQ(throughput(place, 40), throughput(place, 4));
}

TEST(Slowness, IsTheCoresOwnWhileThereAreEnough) {
  EXPECT_DOUBLE_EQ(slowness(place_with(4, 4, 2), 0), 0.5);
  EXPECT_DOUBLE_EQ(slowness(place_with(4, 4, 2), 4), 0.5);
  EXPECT_DOUBLE_EQ(slowness(place_with(4, 4, 2), 8), 1.0);
}

TEST(Scale, LimitIsThePowerOfTwoNotBelowTheSlowest) {
  EXPECT_DOUBLE_EQ(make_scale(8, 5.0).limit, 8);
  EXPECT_DOUBLE_EQ(make_scale(8, 4.0).limit, 4);
  EXPECT_DOUBLE_EQ(make_scale(8, 0.3).limit, 0.5);
  EXPECT_TRUE(std::isfinite(make_scale(0, 1e30).limit));
}

TEST(Cost, OfEqualNodesTheEmptierIsCheaper) {
  const Scale scale = make_scale(8, 5);
  for (int load = 0; load < 5; ++load) {
    EXPECT_LT(cost_of_taking(place_with(1, 1, 1, load), plain(), scale),
              cost_of_taking(place_with(1, 1, 1, load + 1), plain(), scale));
  }
}

TEST(Cost, AFastBusyNodeBeatsASlowOneOnlyIfTheOthersThereDoNotLoseMore) {
  const Scale scale = make_scale(2, 1);
  const double slow_idle = cost_of_taking(place_with(1, 1, 1, 0), plain(), scale);
  EXPECT_GT(cost_of_taking(place_with(1, 1, 2, 1), plain(), scale), slow_idle);
  EXPECT_LT(cost_of_taking(place_with(1, 1, 8, 1), plain(), scale), slow_idle);
}

TEST(Cost, AManyCoreNodeWithRoomCostsNoMoreThanAnIdleSmallOne) {
  const Scale scale = make_scale(2, 1);
  EXPECT_NEAR(cost_of_taking(place_with(16, 16, 1, 4), plain(), scale),
              cost_of_taking(place_with(1, 1, 1, 0), plain(), scale), 1e-9);
}

TEST(Cost, NearlyFullMemoryIsExpensive) {
  const Scale scale = make_scale(8, 2);
  Place full = place_with(1, 1, 1);
  full.memory_free = 1e9;
  Weight heavy = plain();
  heavy.memory = 0.8e9;
  EXPECT_GT(cost_of_taking(full, heavy, scale),
            cost_of_taking(place_with(1, 1, 1), heavy, scale) * 1.05);
}

TEST(Cost, HavingIsTheOppositeOfTaking) {
  const Scale scale = make_scale(8, 4);
  const Place before = place_with(2, 4, 1.3, 3);
  const Weight weight = plain();
  Place after = before;
  after.runnable += weight.demand;
  after.memory_free -= weight.memory;
  EXPECT_NEAR(cost_of_taking(before, weight, scale), cost_of_having(after, weight, scale), 1e-9);
}

TEST(Cost, ForeignRecordsCannotMakeItInfinite) {
  LoadRecord record;
  record.runnable = INFINITY;
  record.speed = 0;
  record.cores = 0;
  const Place place = place_of(record, Policy{}, true);
  EXPECT_TRUE(std::isfinite(cost_of_taking(place, plain(), make_scale(8, 1))));
  record.runnable = 3e38F;
  EXPECT_TRUE(
      std::isfinite(cost_of_taking(place_of(record, Policy{}, true), plain(), make_scale(8, 1))));
}

TEST(Place, GuestsGetWhatTheOwnersReserveLeaves) {
  LoadRecord record;
  record.cores = 4;
  record.reserved_permille = 250;
  EXPECT_DOUBLE_EQ(place_of(record, Policy{}, true).cores, 3);
  EXPECT_DOUBLE_EQ(place_of(record, Policy{}, false).cores, 4);
}

TEST(Calls, AChattyProcessWantsLessCpuAwayAndTheSameAgainAtHome) {
  const double away = demand_elsewhere(1, 1, 0, 1, 3);
  EXPECT_NEAR(away, 0.25, 1e-9);
  EXPECT_NEAR(demand_elsewhere(away, 1, 3, 1, 0), 1, 1e-9);
}

TEST(Calls, CpuBoundMeansThatTheyDoNotCount) {
  ProcessPicture process = test_process(1);
  process.home_calls = 10000;
  EXPECT_GT(call_delay(process, std::chrono::microseconds(200), Policy{}), 2);
  process.wishes.cpu_bound = true;
  EXPECT_EQ(call_delay(process, std::chrono::microseconds(200), Policy{}), 0);
}

TEST(Estimate, CountsWhatTheOthersGainToo) {
  // Of two sharing a CPU one goes to an idle node: it gains a second per second of work, and so
  // does the other.
  const Estimate e = estimate_move(test_process(1), place_with(1, 1, 1, 2), 0,
                                   place_with(1, 1, 1, 0), 0, make_scale(2, 2), Policy{});
  EXPECT_NEAR(e.saved, 2 * e.work, 1e-6);
  EXPECT_TRUE(e.cheaper(Policy{}));
  EXPECT_TRUE(e.worth(Policy{}));
}

TEST(Estimate, ADifferenceOfOneProcessIsNoReason) {
  for (int here = 1; here < 12; ++here) {
    const Estimate e =
        estimate_move(test_process(1), place_with(1, 1, 1, here), 0, place_with(1, 1, 1, here - 1),
                      0, make_scale(2, here), Policy{});
    EXPECT_FALSE(e.cheaper(Policy{})) << here;
  }
}

TEST(Estimate, WhatIsSeenBesidesWholeProcessesIsNoReason) {
  const auto moves = [](double here, double there) {
    return estimate_move(test_process(1), place_with(1, 1, 1, here), 0, place_with(1, 1, 1, there),
                         0, make_scale(4, here), Policy{})
        .cheaper(Policy{});
  };
  // A daemon beside it, nothing there.
  EXPECT_FALSE(moves(1.4, 0));
  // Six and five, as they look when one has just stopped here or there.
  EXPECT_FALSE(moves(6, 4.5));
  EXPECT_FALSE(moves(2.4, 1.2));
  EXPECT_TRUE(moves(6.2, 4.1));
  EXPECT_TRUE(moves(2.2, 0.3));
}

TEST(Estimate, ALargeProcessHasToPromiseMoreWork) {
  ProcessPicture process = test_process(1);
  process.memory_bytes = 4 * kGiga;
  process.cpu_used = 2;
  const Place here = place_with(1, 1, 1, 2);
  const Place there = place_with(1, 1, 1, 0);
  EXPECT_FALSE(
      estimate_move(process, here, 0, there, 0, make_scale(2, 2), Policy{}).worth(Policy{}));
  process.cpu_used = 600;
  EXPECT_TRUE(
      estimate_move(process, here, 0, there, 0, make_scale(2, 2), Policy{}).worth(Policy{}));
}

}  // namespace
}  // namespace tess::placement
