#include "cluster/placement/balancer.h"

#include <gtest/gtest.h>

#include <set>

#include "cluster/placement/test_pictures.h"

namespace tess::placement {
namespace {

TestRound four_on_one_of_three() {
  TestRound t;
  for (int i = 1; i <= 4; ++i) {
    t.residents.push_back(test_process(i));
  }
  t.others = {test_node(2), test_node(3)};
  return t;
}

TEST(Balancer, SpreadsOverIdleNodesUntilEven) {
  const TestRound t = four_on_one_of_three();
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 2U);
  EXPECT_EQ(plan[0].decision.cause, Cause::kBalance);
  EXPECT_NE(plan[0].decision.to, plan[1].decision.to);
  EXPECT_NE(plan[0].decision.process, plan[1].decision.process);
}

TEST(Balancer, TheSameSeedDecidesTheSame) {
  const TestRound t = four_on_one_of_three();
  for (uint64_t seed = 1; seed < 20; ++seed) {
    Balancer one(Policy{}, seed);
    Balancer two(Policy{}, seed);
    const auto a = one.decide(t.round());
    const auto b = two.decide(t.round());
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].decision.process, b[i].decision.process);
      EXPECT_EQ(a[i].decision.to, b[i].decision.to);
    }
  }
}

TEST(Balancer, EquallyGoodNodesAreChosenAtRandom) {
  std::set<NodeId> chosen;
  for (uint64_t seed = 1; seed < 40; ++seed) {
    TestRound t = four_on_one_of_three();
    t.residents.resize(2);
    t.others = {test_node(2), test_node(3), test_node(4), test_node(5)};
    Balancer balancer(Policy{}, seed);
    const auto plan = balancer.decide(t.round());
    ASSERT_EQ(plan.size(), 1U);
    chosen.insert(plan[0].decision.to);
  }
  EXPECT_EQ(chosen.size(), 4U);
}

TEST(Balancer, LetsEvenLoadsBe) {
  TestRound t = four_on_one_of_three();
  t.others = {test_node(2, 3), test_node(3, 4)};
  Balancer balancer(Policy{}, 1);
  EXPECT_TRUE(balancer.decide(t.round()).empty());
}

TEST(Balancer, WhatIsUnderWayIsCountedThere) {
  const TestRound t = four_on_one_of_three();
  Balancer balancer(Policy{}, 1);
  ASSERT_EQ(balancer.decide(t.round()).size(), 2U);
  // Nothing has been heard yet, and the records still show both nodes idle.
  EXPECT_TRUE(balancer.decide(t.round()).empty());
  EXPECT_EQ(balancer.under_way(), 2U);
}

TEST(Balancer, ARefusalIsBelievedMoreThanOldGossip) {
  TestRound t = four_on_one_of_three();
  t.others = {test_node(2)};
  t.others[0].age = std::chrono::seconds(3);
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_FALSE(plan.empty());
  Answer answer;
  answer.load = test_node(2, 4).load;
  for (const PlannedMove& move : plan) {
    balancer.answered(t.now, move.decision.process, move.decision.to, answer);
  }
  EXPECT_EQ(balancer.under_way(), 0U);
  t.now += std::chrono::seconds(1);
  EXPECT_TRUE(balancer.decide(t.round()).empty());
  // A record newer than the answer is believed again.
  t.now += std::chrono::seconds(5);
  t.others[0].age = Duration(0);
  EXPECT_FALSE(balancer.decide(t.round()).empty());
}

TEST(Balancer, ANodeThatFailedIsLeftAloneForAWhile) {
  TestRound t = four_on_one_of_three();
  t.others = {test_node(2)};
  Balancer balancer(Policy{}, 1);
  for (const PlannedMove& move : balancer.decide(t.round())) {
    balancer.ended(t.now, move.decision.process, MoveEnd::kFailed);
  }
  EXPECT_TRUE(balancer.decide(t.round()).empty());
  t.now += 2 * Policy{}.max_refused_pause;
  EXPECT_FALSE(balancer.decide(t.round()).empty());
}

TEST(Balancer, ANewcomerIsLeftAloneLongerTheMoreItHasMoved) {
  TestRound t = four_on_one_of_three();
  Balancer balancer(Policy{}, 1);
  for (ProcessPicture& process : t.residents) {
    process.here_for = std::chrono::seconds(3);
    process.moves = 4;
  }
  EXPECT_TRUE(balancer.decide(t.round()).empty());
  for (ProcessPicture& process : t.residents) {
    process.moves = 0;
  }
  EXPECT_FALSE(balancer.decide(t.round()).empty());
}

TEST(Balancer, DoesNotSendBackForLittle) {
  TestRound t;
  t.residents = {test_process(1), test_process(2), test_process(3), test_process(4)};
  t.others = {test_node(2, 2)};
  for (ProcessPicture& process : t.residents) {
    process.recently_left = {{test_id(2), std::chrono::seconds(5)}};
  }
  Balancer balancer(Policy{}, 1);
  EXPECT_TRUE(balancer.decide(t.round()).empty());
  t.others = {test_node(2, 0)};
  EXPECT_FALSE(balancer.decide(t.round()).empty());
}

TEST(Balancer, AChattyProcessIsNotTheOneThatLeaves) {
  TestRound t;
  t.residents = {test_process(1), test_process(2)};
  t.residents[0].home_calls = 20000;
  t.residents[0].cpu_used = 600;
  t.others = {test_node(2)};
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.process.pid, 2);
}

TEST(Balancer, AProcessThatBecameChattyGoesHome) {
  TestRound t;
  t.residents = {test_process(1, 2)};
  t.residents[0].home_calls = 20000;
  t.residents[0].demand = 0.2;
  t.others = {test_node(2, 1), test_node(3)};
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.to, test_id(2));
}

TEST(Balancer, MovesUpToAFasterNode) {
  TestRound t;
  t.residents = {test_process(1)};
  t.others = {test_node(2)};
  t.others[0].load.speed = 2 * cluster::kReferenceSpeed;
  Balancer balancer(Policy{}, 1);
  EXPECT_EQ(balancer.decide(t.round()).size(), 1U);
}

TEST(Wishes, StayAvoidOnAndHomeAreHeeded) {
  TestRound t = four_on_one_of_three();
  t.residents[0].wishes.stay = true;
  t.residents[1].wishes.home = true;
  t.residents[2].wishes.avoid = {test_id(2)};
  t.residents[3].wishes.on = {test_id(1), test_id(2)};
  Balancer balancer(Policy{}, 1);
  for (const PlannedMove& move : balancer.decide(t.round())) {
    EXPECT_TRUE(move.decision.process.pid == 3 || move.decision.process.pid == 4);
    EXPECT_EQ(move.decision.to, move.decision.process.pid == 3 ? test_id(3) : test_id(2));
  }
  EXPECT_EQ(balancer.under_way(), 2U);
}

TEST(Wishes, AProcessElsewhereIsBroughtWhereItWishes) {
  TestRound t;
  t.residents = {test_process(1)};
  t.residents[0].wishes.on = {test_id(3)};
  t.residents[0].here_for = Duration(0);
  t.others = {test_node(2), test_node(3, 5)};
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.cause, Cause::kWish);
  EXPECT_EQ(plan[0].decision.to, test_id(3));
}

TEST(Wishes, MemoryWishedForMustBeFree) {
  TestRound t = four_on_one_of_three();
  for (ProcessPicture& process : t.residents) {
    process.wishes.memory_bytes = 5 * kGiga;
  }
  t.others[1].load.memory_free_bytes = 8 * kGiga;
  Balancer balancer(Policy{}, 1);
  for (const PlannedMove& move : balancer.decide(t.round())) {
    EXPECT_EQ(move.decision.to, test_id(3));
  }
  EXPECT_EQ(balancer.under_way(), 1U) << "the second would not fit beside the first";
}

TEST(Owner, AllGuestsLeaveAtOnceAndHomesOwnStay) {
  TestRound t;
  t.self.load.owner_active = true;
  for (int i = 1; i <= 40; ++i) {
    t.residents.push_back(test_process(i, i <= 30 ? 2 : 1));
    t.residents.back().here_for = Duration(0);
    t.residents.back().wishes.stay = i % 2 == 0;
  }
  t.others = {test_node(2, 9), test_node(3)};
  Balancer balancer(Policy{}, 1);
  size_t guests = 0;
  for (const PlannedMove& move : balancer.decide(t.round())) {
    guests += move.decision.cause == Cause::kOwner ? 1 : 0;
    EXPECT_NE(move.decision.process.home, test_id(1));
  }
  EXPECT_EQ(guests, 30U);
}

TEST(Owner, WhoFindsNoOtherPlaceGoesHome) {
  TestRound t;
  t.self.load.owner_active = true;
  t.residents = {test_process(1, 2)};
  t.residents[0].wishes.on = {test_id(1)};
  t.others = {test_node(2, 50), test_node(3)};
  t.others[0].load.memory_free_bytes = 0;
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.to, test_id(2));
}

TEST(Drain, GuestsLeaveAndNobodyIsSentToADrainingNode) {
  TestRound t;
  t.self.load.draining = true;
  t.residents = {test_process(1, 2), test_process(2, 3)};
  t.others = {test_node(2), test_node(3), test_node(4)};
  t.others[2].load.draining = true;
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 2U);
  for (const PlannedMove& move : plan) {
    EXPECT_EQ(move.decision.cause, Cause::kDrain);
    EXPECT_NE(move.decision.to, test_id(4));
  }
}

TEST(Usher, MovesTheSmallestThatFreesEnoughBeforeMemoryIsShort) {
  TestRound t;
  t.self.load.memory_free_bytes = 700 * kMega;
  t.memory_growth = 60e6;
  for (int i = 1; i <= 4; ++i) {
    t.residents.push_back(test_process(i));
  }
  t.residents[0].memory_bytes = 200 * kMega;
  t.residents[1].memory_bytes = 2 * kGiga;
  t.residents[2].memory_bytes = 3 * kGiga;
  t.residents[3].memory_bytes = 100 * kMega;
  // As busy as this node, so that only memory is a reason.
  t.others = {test_node(2, 4), test_node(3, 4)};
  t.others[1].load.memory_free_bytes = 1 * kGiga;
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.cause, Cause::kMemory);
  EXPECT_EQ(plan[0].decision.process.pid, 2);
  EXPECT_EQ(plan[0].decision.to, test_id(2));
}

TEST(Usher, LetsBeWhileThereIsRoom) {
  TestRound t;
  t.self.load.memory_free_bytes = 1200 * kMega;
  t.residents = {test_process(1), test_process(2)};
  t.residents[0].memory_bytes = 2 * kGiga;
  t.others = {test_node(2, 2)};
  Balancer balancer(Policy{}, 1);
  EXPECT_TRUE(balancer.decide(t.round()).empty());
}

TEST(Turns, AreOfferedOnlyByThoseWhoLag) {
  TestRound t;
  t.residents = {test_process(1), test_process(2)};
  t.others = {test_node(2, 1), test_node(3, 1)};
  for (ProcessPicture& process : t.residents) {
    process.wanted = 120;  // at half speed all its life
  }
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  EXPECT_EQ(plan[0].decision.cause, Cause::kTurn);
  for (ProcessPicture& process : t.residents) {
    process.wanted = 61;
  }
  Balancer other(Policy{}, 1);
  EXPECT_TRUE(other.decide(t.round()).empty());
}

// One move, of four processes on one of two nodes, that takes so long.
void move_one(Balancer& balancer, TestRound& t, Duration took) {
  const auto plan = balancer.decide(t.round());
  ASSERT_FALSE(plan.empty());
  for (const PlannedMove& move : plan) {
    const ProcessKey& process = move.decision.process;
    balancer.answered(t.now, process, move.decision.to, {true, {}, {}});
    balancer.ended(t.now + took, process, MoveEnd::kMoved);
  }
  t.now += took;
}

TEST(MovePrice, IsWhatTheLastMovesTook) {
  TestRound t = four_on_one_of_three();
  t.others.resize(1);
  const Policy policy;
  Balancer balancer(policy, 1);
  EXPECT_EQ(balancer.fixed_price(t.now), policy.move_fixed);
  move_one(balancer, t, std::chrono::milliseconds(100));  // quicker than expected
  EXPECT_EQ(balancer.fixed_price(t.now), policy.move_fixed);
  for (int i = 0; i < 12; ++i) {
    t.now += std::chrono::minutes(2);  // what was promised then is known by now
    move_one(balancer, t, std::chrono::seconds(20));
  }
  EXPECT_GT(balancer.fixed_price(t.now), std::chrono::seconds(8));
  EXPECT_LT(balancer.fixed_price(t.now), std::chrono::seconds(20));

  // Somebody young, who would soon be done, stays; with the price of a quiet node it goes.
  TestRound young = t;
  young.residents.resize(2);
  for (ProcessPicture& process : young.residents) {
    process.cpu_used = 5;
    process.wanted = 5;
  }
  EXPECT_TRUE(balancer.decide(young.round()).empty());
  Balancer other(policy, 1);
  EXPECT_EQ(other.decide(young.round()).size(), 1U);
  young.now += std::chrono::minutes(20);
  EXPECT_EQ(balancer.decide(young.round()).size(), 1U) << "long ago";
}

// What the flow of memory takes is the bandwidth's; only the rest is a price of moving at all.
TEST(MovePrice, DoesNotCountASlowTransferTwice) {
  TestRound t = four_on_one_of_three();
  t.others.resize(1);
  const Policy policy;
  Balancer balancer(policy, 1);
  for (int i = 0; i < 12; ++i) {
    t.now += std::chrono::minutes(2);
    const auto plan = balancer.decide(t.round());
    ASSERT_FALSE(plan.empty());
    for (const PlannedMove& move : plan) {
      const ProcessKey& process = move.decision.process;
      balancer.answered(t.now, process, move.decision.to, {true, {}, {}});
      balancer.transferred(process, 19);
      balancer.ended(t.now + std::chrono::seconds(20), process, MoveEnd::kMoved);
    }
    t.now += std::chrono::seconds(20);
  }
  EXPECT_GT(balancer.fixed_price(t.now), std::chrono::milliseconds(500));
  EXPECT_LT(balancer.fixed_price(t.now), std::chrono::milliseconds(1500));
}

// Two on one node, one of them to go; two idle nodes.
TestRound two_of_a_gigabyte() {
  TestRound t = four_on_one_of_three();
  t.residents.resize(2);
  for (ProcessPicture& process : t.residents) {
    process.memory_bytes = kGiga;
  }
  return t;
}

std::set<NodeId> targets(const TestRound& t) {
  std::set<NodeId> chosen;
  for (uint64_t seed = 1; seed < 20; ++seed) {
    Balancer balancer(Policy{}, seed);
    for (const PlannedMove& move : balancer.decide(t.round())) {
      chosen.insert(move.decision.to);
    }
  }
  return chosen;
}

TEST(Bandwidth, ALargeProcessGoesWhereTheLinkIsFast) {
  TestRound t = two_of_a_gigabyte();
  EXPECT_EQ(targets(t).size(), 2U) << "both are as good, as far as known";
  t.others[0].bandwidth = 11e6;
  t.others[1].bandwidth = 110e6;
  EXPECT_EQ(targets(t), std::set{t.others[1].id}) << "as measured";
  t.others[0].bandwidth = 0;
  t.others[1].bandwidth = 0;
  t.self.load.link_mbit = 1000;
  t.others[0].load.link_mbit = 100;
  t.others[1].load.link_mbit = 1000;
  EXPECT_EQ(targets(t), std::set{t.others[1].id}) << "as their links say";
  for (ProcessPicture& process : t.residents) {
    process.memory_bytes = kMega;
  }
  EXPECT_EQ(targets(t).size(), 2U) << "a small one may go anywhere";
}

TEST(Bandwidth, ASlowLinkIsTakenOnlyIfItPays) {
  TestRound t = two_of_a_gigabyte();
  t.others.resize(1);
  t.others[0].bandwidth = 11e6;
  for (ProcessPicture& process : t.residents) {
    process.cpu_used = 60;  // saves a minute, costs one and a half
  }
  EXPECT_TRUE(targets(t).empty());
  t.others[0].bandwidth = 110e6;
  ASSERT_FALSE(targets(t).empty());
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  EXPECT_DOUBLE_EQ(plan[0].decision.estimate.bandwidth, 110e6);
  EXPECT_NEAR(plan[0].ask.transfer, 9.1, 0.1);
  EXPECT_NE(plan[0].decision.text().find("s of moving (954 MB at 105 MB/s)"), std::string::npos)
      << plan[0].decision.text();
}

TEST(Bandwidth, OfNodesIsThatOfTheSlowerEnd) {
  const Policy policy;
  LoadRecord fast;
  LoadRecord slow;
  fast.link_mbit = 10000;
  slow.link_mbit = 100;
  EXPECT_DOUBLE_EQ(link_between(fast, slow, policy).prior, 11.25e6);
  EXPECT_DOUBLE_EQ(link_between(slow, fast, policy).prior, 11.25e6);
  EXPECT_EQ(link_between(fast, slow, policy).nominal_mbit, 100U);
  EXPECT_DOUBLE_EQ(link_between(fast, fast, policy).prior, policy.stream_bytes_per_s);
  const LoadRecord unknown;  // or of a version that does not say
  EXPECT_DOUBLE_EQ(link_between(unknown, unknown, policy).prior, policy.bandwidth_bytes_per_s);
  EXPECT_DOUBLE_EQ(link_between(fast, unknown, policy).prior, policy.bandwidth_bytes_per_s);
  EXPECT_DOUBLE_EQ(link_between(unknown, slow, policy).prior, 11.25e6);
  EXPECT_EQ(link_between(unknown, unknown, policy).nominal_mbit, 0U);
}

TEST(Limits, TransfersInTheQueueLimitWhatBegins) {
  TestRound t;
  for (int i = 1; i <= 40; ++i) {
    t.residents.push_back(test_process(i));
    t.residents.back().memory_bytes = 100 * kMega;
  }
  t.others = {test_node(2), test_node(3), test_node(4), test_node(5)};
  Balancer balancer(Policy{}, 1);
  const size_t planned = balancer.decide(t.round()).size();
  EXPECT_GE(planned, 1U);
  EXPECT_LE(planned, 3U) << "a second and a half of the link is taken by two of them";
}

}  // namespace
}  // namespace tess::placement
