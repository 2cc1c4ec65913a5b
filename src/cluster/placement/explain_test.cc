#include "cluster/placement/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/placement/exec_placement.h"
#include "cluster/placement/test_pictures.h"

namespace tess::placement {
namespace {
using ::testing::Contains;
using ::testing::HasSubstr;

TEST(Explain, SaysHowManyMoreWouldMakeItMove) {
  TestRound t;
  t.residents = {test_process(1)};
  t.others = {test_node(2, 1)};
  const Balancer balancer(Policy{}, 1);
  const Explanation e = explain(balancer, t.round(), t.residents[0], nullptr);
  EXPECT_THAT(e.why_here, Contains(HasSubstr("n1 is its home")));
  EXPECT_THAT(e.would_move, Contains(HasSubstr("to n2 if 2 more threads wanted to run here")));
  // And so it is.
  t.unmanaged = 2;
  Balancer decides(Policy{}, 1);
  EXPECT_EQ(decides.decide(t.round()).size(), 1U);
  t.unmanaged = 1;
  Balancer waits(Policy{}, 1);
  EXPECT_TRUE(waits.decide(t.round()).empty());
}

TEST(Explain, SaysHowLongItHasToStayFirst) {
  TestRound t;
  t.residents = {test_process(1), test_process(2), test_process(3)};
  t.residents[0].here_for = std::chrono::seconds(1);
  t.residents[0].moves = 3;
  t.others = {test_node(2)};
  const Explanation e = explain(Balancer(Policy{}, 1), t.round(), t.residents[0], nullptr);
  EXPECT_THAT(e.would_move, Contains(HasSubstr("it has just come")));
}

TEST(Explain, NamesTheObstacles) {
  TestRound t;
  t.residents = {test_process(1)};
  t.residents[0].wishes.avoid = {test_id(3)};
  t.others = {test_node(2), test_node(3), test_node(4)};
  t.others[0].load.draining = true;
  t.others[2].alive = false;
  const Explanation e = explain(Balancer(Policy{}, 1), t.round(), t.residents[0], nullptr);
  EXPECT_THAT(e.would_move, Contains(HasSubstr("n2 is being drained")));
  EXPECT_THAT(e.would_move, Contains(HasSubstr("n3 is to be avoided (--avoid)")));
  EXPECT_THAT(e.would_move, Contains(HasSubstr("n4 does not answer")));
  EXPECT_THAT(e.why_here, Contains(HasSubstr("no other node can take it now")));
}

TEST(Explain, SaysWhatAChattyProcessWouldLose) {
  TestRound t;
  t.residents = {test_process(1)};
  t.residents[0].home_calls = 20000;
  t.others = {test_node(2)};
  const Explanation e = explain(Balancer(Policy{}, 1), t.round(), t.residents[0], nullptr);
  EXPECT_THAT(e.why_here, Contains(HasSubstr("wait")));
}

TEST(Explain, IsNeverEmpty) {
  TestRound t;
  t.residents = {test_process(1)};
  t.residents[0].movable = false;
  t.residents[0].immovable_because = "it shares memory with process 7, which stays";
  const Explanation e = explain(Balancer(Policy{}, 1), t.round(), t.residents[0], nullptr);
  EXPECT_THAT(e.why_here, Contains(HasSubstr("shares memory")));
  EXPECT_FALSE(e.would_move.empty());
}

TEST(MoveLog, TellsTheLastMovesNewestFirst) {
  TestRound t;
  t.residents = {test_process(1), test_process(2)};
  t.others = {test_node(2)};
  Balancer balancer(Policy{}, 1);
  const auto plan = balancer.decide(t.round());
  ASSERT_EQ(plan.size(), 1U);
  MoveLog log(2);
  log.add({plan[0].decision, Outcome::kMoved, ""});
  log.add({plan[0].decision, Outcome::kRefused, "n2 is being drained"});
  log.add({plan[0].decision, Outcome::kMoved, ""});
  const auto texts = log.texts(t.now + std::chrono::seconds(12));
  ASSERT_EQ(texts.size(), 2U);
  EXPECT_THAT(texts[0], HasSubstr("12 s ago, n1 to n2"));
  EXPECT_THAT(texts[1], HasSubstr("refused: n2 is being drained"));
  EXPECT_FALSE(plan[0].decision.terms().empty());
}

TEST(Exec, AShortProgramGoesToAnIdleNode) {
  TestRound t;
  t.residents = {test_process(1), test_process(2), test_process(3)};
  const std::vector<NodePicture> fresh = {test_node(2, 1), test_node(3, 0)};
  const auto move =
      choose_at_exec(t.now, t.local(), fresh, t.residents[2], ProgramHint{}, 3, Policy{});
  ASSERT_TRUE(move.has_value());
  EXPECT_EQ(move->decision.to, test_id(3));
  EXPECT_EQ(move->decision.cause, Cause::kExec);
}

TEST(Exec, StaysOnAnIdleNodeAndWhenItIsKnownToBeChatty) {
  TestRound t;
  t.residents = {test_process(1)};
  const std::vector<NodePicture> fresh = {test_node(2)};
  EXPECT_FALSE(choose_at_exec(t.now, t.local(), fresh, t.residents[0], ProgramHint{}, 2, Policy{}));
  t.residents.push_back(test_process(2));
  ProgramHint hint;
  hint.home_calls = 50000;
  EXPECT_FALSE(choose_at_exec(t.now, t.local(), fresh, t.residents[1], hint, 2, Policy{}));
  EXPECT_TRUE(choose_at_exec(t.now, t.local(), fresh, t.residents[1], ProgramHint{}, 2, Policy{}));
  hint = {};
  hint.work = 0.002;  // not worth the move
  EXPECT_FALSE(choose_at_exec(t.now, t.local(), fresh, t.residents[1], hint, 2, Policy{}));
}

TEST(Exec, AWishDecidesWhatLoadWouldNot) {
  TestRound t;
  t.residents = {test_process(1)};
  t.residents[0].wishes.on = {test_id(3)};
  const std::vector<NodePicture> fresh = {test_node(2), test_node(3, 7)};
  const auto move =
      choose_at_exec(t.now, t.local(), fresh, t.residents[0], ProgramHint{}, 3, Policy{});
  ASSERT_TRUE(move.has_value());
  EXPECT_EQ(move->decision.to, test_id(3));
}

TEST(Exec, CandidatesAreFewPossibleAndDifferent) {
  std::vector<NodePicture> known;
  for (int i = 2; i <= 9; ++i) {
    known.push_back(test_node(i, i));
  }
  known[0].load.draining = true;
  Random random(5);
  for (int i = 0; i < 50; ++i) {
    const auto ids = exec_candidates(known, test_process(1), Policy{}, random);
    ASSERT_EQ(ids.size(), Policy{}.exec_choices);
    EXPECT_NE(ids[0], ids[1]);
    EXPECT_THAT(ids, ::testing::Not(Contains(test_id(2))));
  }
}

TEST(Candidates, AreAllOfASmallClusterAndTheBestAndOthersOfALargeOne) {
  cluster::ClusterView view;
  view.self = test_id(0);
  for (int i = 0; i < 200; ++i) {
    cluster::MemberView member;
    member.id = test_id(i);
    member.has_load = true;
    member.load.runnable = i == 77 ? 0.0F : 5.0F;
    member.state = i == 5 ? cluster::MemberState::kDead : cluster::MemberState::kAlive;
    view.members.push_back(member);
  }
  Random random(1);
  EXPECT_EQ(sample_candidates(view, {}, 1000, Policy{}, random).size(), 198U);
  int found = 0;
  for (int i = 0; i < 100; ++i) {
    const auto nodes = sample_candidates(view, {test_id(9)}, 16, Policy{}, random);
    ASSERT_LE(nodes.size(), 17U);
    int homes = 0;
    for (const NodePicture& node : nodes) {
      EXPECT_NE(node.id, test_id(0));
      EXPECT_NE(node.id, test_id(5));
      found += node.id == test_id(77) ? 1 : 0;
      homes += node.id == test_id(9) ? 1 : 0;
    }
    EXPECT_EQ(homes, 1);
  }
  EXPECT_GT(found, 30) << "the one idle node is known to many";
  EXPECT_LT(found, 95) << "but not to all at once";
}

}  // namespace
}  // namespace tess::placement
