// Two memberships without a world around them: one starts anew and knows nobody.
#include <gtest/gtest.h>

#include <deque>

#include "cluster/two_members.h"

namespace tess::cluster {
namespace {

using ms = std::chrono::milliseconds;

class RestartTest : public TwoMembersTest {
 protected:
  static constexpr uint64_t kEarlierSession = 0xb0b0;

  std::unique_ptr<Membership> make(uint64_t n, uint64_t session) {
    return TwoMembersTest::make(n, session, LoadRecord(), session);
  }
  static AliveRecord earlier_start() {
    AliveRecord record = alive_record(2, 3);
    record.profile.session = kEarlierSession;
    return record;
  }
  std::unique_ptr<Membership> a_ = make(1, 0xa0a0);
};

TEST_F(RestartTest, OneThatIsTakenForItsEarlierStartAsksWhoIsThere) {
  const std::vector<AliveRecord> known{earlier_start()};
  a_->remember(now_, known);
  const auto b = make(2, 0xb1b1);
  Effects from_a;
  Effects from_b;
  a_->start(now_, {}, from_a);
  b->start(now_, {}, from_b);
  MemberState state{};
  uint32_t incarnation = 0;
  const auto found = [&] {
    return a_->knows(node_id(2), state, incarnation) && incarnation > 3 && b->live_count() == 2;
  };
  for (int step = 0; step < 100 && !found(); ++step) {
    now_ += ms(10);
    a_->tick(now_, from_a);
    b->tick(now_, from_b);
    while (carry(from_a, *b, address_of(1), from_b) + carry(from_b, *a_, address_of(2), from_a) >
           0) {
    }
  }
  EXPECT_TRUE(found());
  EXPECT_EQ(state, MemberState::kAlive);
  EXPECT_GT(b->dropped(Drop::kOtherSession), 0U);
  EXPECT_GT(b->count(Count::kIntroductions), 0U);
}

TEST_F(RestartTest, OneThatKnowsSomebodyAsksNobodyForIt) {
  // A packet for its earlier start, as an old one that is sent again.
  const std::vector<AliveRecord> known{earlier_start()};
  a_->remember(now_, known);
  Effects from_a;
  a_->start(now_, {}, from_a);
  for (int step = 0; step < 200 && from_a.sends.empty(); ++step) {
    now_ += ms(10);
    a_->tick(now_, from_a);
  }
  ASSERT_FALSE(from_a.sends.empty());
  const auto b = make(2, 0xb1b1);
  const std::vector<AliveRecord> others{alive_record(3, 1)};
  b->remember(now_, others);
  Effects from_b;
  carry(from_a, *b, address_of(1), from_b);
  EXPECT_GT(b->dropped(Drop::kOtherSession), 0U);
  EXPECT_EQ(b->count(Count::kIntroductions), 0U);
}

}  // namespace
}  // namespace tess::cluster
