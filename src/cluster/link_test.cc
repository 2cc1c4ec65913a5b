// What nodes know of each other's links, also where nodes of a version before took part.
#include <gtest/gtest.h>

#include "cluster/envelope.h"
#include "cluster/two_members.h"

namespace tess::cluster {
namespace {

using ms = std::chrono::milliseconds;

class LinkTest : public TwoMembersTest {
 protected:
  std::unique_ptr<Membership> make(uint64_t n, uint32_t link_mbit) {
    LoadRecord load;
    load.link_mbit = link_mbit;
    return TwoMembersTest::make(n, alive_record(n, 1).profile.session, load, n);
  }
  // Lets the two talk until `done`, or for some seconds.
  template <typename Done>
  bool talk(Membership& a, Membership& b, Done done) {
    for (int step = 0; step < 500 && !done(); ++step) {
      now_ += ms(10);
      a.tick(now_, from_a_);
      b.tick(now_, from_b_);
      while (carry(from_a_, b, address_of(1), from_b_) + carry(from_b_, a, address_of(2), from_a_) >
             0) {
      }
    }
    return done();
  }
  uint32_t link_of(const Membership& seen_by, uint64_t n) const {
    const ClusterView view = seen_by.view(now_);
    const MemberView* member = view.find(node_id(n));
    return member == nullptr ? 0 : member->load.link_mbit;
  }

  Effects from_a_, from_b_;
};

TEST_F(LinkTest, TravelsWithTheFactsAndIsToldAgainWhenItChanges) {
  const auto a = make(1, 1000);
  const auto b = make(2, 10000);
  a->start(now_, {}, from_a_);
  b->start(now_, {address_of(1)}, from_b_);
  ASSERT_TRUE(talk(*a, *b, [&] { return link_of(*a, 2) == 10000 && link_of(*b, 1) == 1000; }));
  LoadRecord slower;
  slower.link_mbit = 100;
  b->set_load(now_, slower, from_b_);
  EXPECT_TRUE(talk(*a, *b, [&] { return link_of(*a, 2) == 100; }));
  slower.link_mbit = 0;  // not known any more
  b->set_load(now_, slower, from_b_);
  MemberState state{};
  uint32_t incarnation = 0;
  EXPECT_TRUE(
      talk(*a, *b, [&] { return a->knows(node_id(2), state, incarnation) && incarnation == 3; }));
  EXPECT_EQ(link_of(*a, 2), 0u);
}

// A node of the version before has told the record, without the link.
TEST_F(LinkTest, IsLearntFromTheNodeItself) {
  const auto a = make(1, 0);
  const auto b = make(2, 10000);
  const std::vector<AliveRecord> known{alive_record(1, 1), alive_record(2, 1)};
  a->remember(now_, known);
  b->remember(now_, known);
  a->start(now_, {}, from_a_);
  b->start(now_, {}, from_b_);
  EXPECT_EQ(link_of(*a, 2), 0u);
  EXPECT_TRUE(talk(*a, *b, [&] { return link_of(*a, 2) == 10000; }));
  // It has not had to speak anew for that.
  EXPECT_EQ(b->self().incarnation, 1u);
}

// Its own record comes back without the link: that is no other statement, which would have to be
// overruled.
TEST_F(LinkTest, ItsOwnRecordWithoutItIsNotRefuted) {
  const auto b = make(2, 10000);
  const AliveRecord peer = alive_record(1, 1);
  b->remember(now_, std::span(&peer, 1));
  b->start(now_, {}, from_b_);
  CipherKey key;
  key.fill(7);
  Envelope sender(*cipher_, KeyRing(key), 5, peer.profile.session);
  const auto say = [&](const AliveRecord& record) {
    PacketWriter packet(sender.plaintext_room(), Kind::kNews, 0, peer.profile.id.key(), 1, 0);
    EXPECT_TRUE(packet.add_alive(record));
    const Bytes sealed = sender.seal(packet.size(), b->self().profile.session);
    b->receive(now_, Duration(0), address_of(1), sealed, from_b_);
  };
  AliveRecord told = b->self();
  told.profile.facts.link_mbit = 0;
  say(told);
  EXPECT_EQ(b->self().incarnation, 1u);
  EXPECT_EQ(link_of(*b, 2), 10000u);
  told.profile.facts.cores += 1;  // another statement under its name
  told.profile.facts.threads += 1;
  say(told);
  EXPECT_EQ(b->self().incarnation, 2u);
  EXPECT_EQ(link_of(*b, 2), 10000u);
}

}  // namespace
}  // namespace tess::cluster
