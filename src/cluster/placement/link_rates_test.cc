#include "cluster/placement/link_rates.h"

#include <gtest/gtest.h>

#include <cmath>

#include "cluster/placement/test_pictures.h"

namespace tess::placement {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr uint64_t kMiB = 1 << 20;

class Rates : public ::testing::Test {
 protected:
  // A transfer at that rate that ends now.
  void note(uint64_t bytes, double rate) {
    rates_.note(now_, peer_, link_, bytes, static_cast<double>(bytes) / rate);
  }
  double expected() const { return rates_.expected(now_, peer_, link_); }

  Policy policy_;
  LinkRates rates_{policy_};
  NodeId peer_ = test_id(2);
  Link link_{1000, 112.5e6};
  Time now_ = Time(std::chrono::hours(1));
};

TEST_F(Rates, WithoutATransferItIsWhatTheLinkShouldGive) {
  EXPECT_DOUBLE_EQ(expected(), 112.5e6);
  EXPECT_FALSE(rates_.measured(now_, peer_, link_));
}

TEST_F(Rates, ALargeTransferTellsAlmostAll) {
  note(64 * kMiB, 10e6);
  EXPECT_NEAR(expected(), 10e6, 0.5e6);
  ASSERT_TRUE(rates_.measured(now_, peer_, link_));
  EXPECT_NEAR(rates_.measured(now_, peer_, link_)->rate, 10e6, 1);
  EXPECT_DOUBLE_EQ(rates_.expected(now_, test_id(3), link_), 112.5e6) << "of another node";
}

TEST_F(Rates, ASmallOneTellsLittleAndATinyOneNothing) {
  EXPECT_FALSE(rates_.note(now_, peer_, link_, kMiB - 1, 60));
  EXPECT_DOUBLE_EQ(expected(), 112.5e6);
  EXPECT_FALSE(rates_.note(now_, peer_, link_, kMiB, -1));
  note(64 * kMiB, 50e6);
  now_ += seconds(10);
  note(2 * kMiB, 5e6);
  EXPECT_GT(expected(), 35e6);
  EXPECT_LT(expected(), 50e6);
}

TEST_F(Rates, NewOnesCountForMoreThanOldOnes) {
  for (int i = 0; i < 20; ++i) {
    note(64 * kMiB, 100e6);
    now_ += minutes(1);
  }
  EXPECT_GT(expected(), 95e6);
  for (int i = 0; i < 5; ++i) {
    note(64 * kMiB, 10e6);
    now_ += minutes(1);
  }
  EXPECT_LT(expected(), 16e6);
}

TEST_F(Rates, AreForgottenInTheEnd) {
  note(64 * kMiB, 10e6);
  now_ += minutes(20);
  EXPECT_LT(expected(), 20e6);
  now_ += minutes(160);
  EXPECT_GT(expected(), 90e6);
  EXPECT_FALSE(rates_.measured(now_, peer_, link_));
}

TEST_F(Rates, TransfersAtTheSameTimeShareTheLink) {
  // Two of 50 MiB, each in ten seconds, the same ten.
  rates_.note(now_, peer_, link_, 50 * kMiB, 10);
  rates_.note(now_ + std::chrono::milliseconds(100), peer_, link_, 50 * kMiB, 10);
  now_ += seconds(1);
  EXPECT_NEAR(rates_.measured(now_, peer_, link_)->rate, 10.0 * kMiB, 0.2 * kMiB);
}

TEST_F(Rates, ALinkThatIsNegotiatedAnewIsAnotherLink) {
  note(64 * kMiB, 100e6);
  const Link slower{100, 11.25e6};
  EXPECT_DOUBLE_EQ(rates_.expected(now_, peer_, slower), 11.25e6);
  EXPECT_FALSE(rates_.measured(now_, peer_, slower));
  rates_.note(now_, peer_, slower, 64 * kMiB, 8);
  EXPECT_NEAR(rates_.expected(now_, peer_, slower), 8.4e6, 0.2e6);
}

TEST_F(Rates, NoNumberIsBeyondUse) {
  rates_.note(now_, peer_, link_, UINT64_MAX, 0);
  EXPECT_TRUE(std::isfinite(expected()));
  rates_.note(now_, peer_, link_, kMiB, 1e300);
  EXPECT_GT(expected(), 0);
  const Link none{0, 0};
  EXPECT_GT(rates_.expected(now_, test_id(4), none), 0);
  for (int i = 0; i < 2000; ++i) {
    NodeId id;
    id.bytes[0] = static_cast<uint8_t>(i);
    id.bytes[1] = static_cast<uint8_t>(i >> 8);
    rates_.note(now_ + seconds(i), id, link_, 64 * kMiB, 1);
  }
  EXPECT_FALSE(rates_.measured(now_, peer_, link_)) << "the oldest goes";
}

}  // namespace
}  // namespace tess::placement
