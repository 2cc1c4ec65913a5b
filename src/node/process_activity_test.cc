#include "node/process_activity.h"

#include <gtest/gtest.h>

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using cluster::Time;
using Wanted = std::unordered_map<pid_t, uint64_t>;

constexpr uint64_t kSecond = 1'000'000'000;

TEST(ProcessActivity, WhoWantsACpuForSomeSecondsIsBusyAndWhatWasBeforeDoesNotCount) {
  ProcessActivity activity;
  activity.update(Time(1s), {{1, 500 * kSecond}, {2, 0}});
  EXPECT_TRUE(activity.busy().empty());
  for (int i = 2; i <= 5; ++i) {
    activity.update(Time(std::chrono::seconds(i)),
                    {{1, 500 * kSecond}, {2, static_cast<uint64_t>(i - 1) * kSecond}});
  }
  EXPECT_EQ(activity.busy(), std::vector<pid_t>{2});
  EXPECT_EQ(activity.lately(1), 0);
  EXPECT_GT(activity.lately(2), 3.5);
  EXPECT_EQ(activity.lately(3), 0);
}

TEST(ProcessActivity, OneThatIsBornLaterCountsFromItsBirthAndTheBusiestComesFirst) {
  ProcessActivity activity;
  activity.update(Time(1s), {{1, 0}});
  activity.update(Time(2s), {{1, 4 * kSecond}, {7, 5 * kSecond}});
  EXPECT_EQ(activity.busy(), (std::vector<pid_t>{7, 1}));
}

TEST(ProcessActivity, OneThatSleepsIsBusyForAWhileAndThenNoMore) {
  ProcessActivity activity;
  activity.update(Time(1s), {{1, 0}});
  activity.update(Time(2s), {{1, 4 * kSecond}});
  activity.update(Time(40s), {{1, 4 * kSecond}});
  EXPECT_EQ(activity.busy().size(), 1u) << "below what makes one busy, above what ends it";
  activity.update(Time(200s), {{1, 4 * kSecond}});
  EXPECT_TRUE(activity.busy().empty());
}

TEST(ProcessActivity, OneThatIsBusyElsewhereIsKept) {
  ProcessActivity activity;
  activity.update(Time(1s), {{1, 0}});
  activity.keep(1);
  activity.keep(2);
  EXPECT_EQ(activity.busy(), std::vector<pid_t>{1});
  activity.update(Time(2s), {{1, 0}});
  EXPECT_EQ(activity.busy(), std::vector<pid_t>{1});
}

TEST(ProcessActivity, WhoIsGoneIsForgottenAndCountersThatFallDoNotCount) {
  ProcessActivity activity;
  activity.update(Time(1s), {{1, 0}});
  activity.update(Time(2s), {{1, 9 * kSecond}});
  activity.update(Time(3s), {{1, 1 * kSecond}});
  EXPECT_LT(activity.lately(1), 9);
  activity.update(Time(4s), Wanted{});
  EXPECT_TRUE(activity.busy().empty());
  activity.update(Time(5s), {{1, 1 * kSecond}});
  EXPECT_EQ(activity.lately(1), 1) << "another process with that number";
}

}  // namespace
}  // namespace tess::node
