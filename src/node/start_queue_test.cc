#include "node/start_queue.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tess::node {
namespace {

class StartQueueTest : public ::testing::Test {
 protected:
  void enter(int64_t caller, const std::string& name) {
    queue_.enter(caller, {[this, name] { return name != given_up_; },
                          [this, name](StartQueue::Turn turn) {
                            begun_.push_back(name);
                            turns_.push_back(std::move(turn));
                          }});
  }
  // The one that began as number `index` is done.
  void end(size_t index) {
    turns_[index].reset();
    loop_.post([this] { loop_.stop(); });
    loop_.restart();
    loop_.run();
  }

  net::Loop loop_;
  size_t limit_ = 2;
  StartQueue queue_{loop_, [this] { return limit_; }};
  std::string given_up_;
  std::vector<std::string> begun_;
  std::vector<StartQueue::Turn> turns_;
};

using Names = std::vector<std::string>;

TEST_F(StartQueueTest, AFewAtATimeFirstComeFirstServed) {
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    enter(1, name);
  }
  EXPECT_EQ(begun_, (Names{"a", "b"}));
  EXPECT_EQ(queue_.waiting(), 3u);
  EXPECT_EQ(queue_.under_way(), 2u);
  end(1);
  EXPECT_EQ(begun_, (Names{"a", "b", "c"}));
  end(0);
  end(2);
  EXPECT_EQ(begun_, (Names{"a", "b", "c", "d", "e"}));
  EXPECT_EQ(queue_.waiting(), 0u);
  end(3);
  end(4);
  EXPECT_EQ(queue_.under_way(), 0u);
}

TEST_F(StartQueueTest, WhoStartsManyKeepsNobodyElseWaitingForAllOfThem) {
  limit_ = 1;
  for (const char* name : {"a1", "a2", "a3", "a4"}) {
    enter(100, name);
  }
  enter(7, "b1");
  enter(7, "b2");
  end(0);
  end(1);
  enter(200, "c1");  // behind those who wait already, but not behind all that they have
  end(2);
  end(3);
  end(4);
  end(5);
  EXPECT_EQ(begun_, (Names{"a1", "a2", "b1", "a3", "b2", "c1", "a4"}));
}

TEST_F(StartQueueTest, NewCallersWithoutEndKeepNobodyWaiting) {
  limit_ = 1;
  enter(1, "first");
  enter(50, "waits");
  for (int i = 0; i < 3; ++i) {
    enter(100 + i, "new");  // sessions get ever larger numbers
    end(turns_.size() - 1);
  }
  EXPECT_EQ(begun_[1], "waits");
}

TEST_F(StartQueueTest, OneThatWasGivenUpMeanwhileTakesNoTurn) {
  limit_ = 1;
  for (const char* name : {"a", "b", "c"}) {
    enter(1, name);
  }
  given_up_ = "b";
  end(0);
  EXPECT_EQ(begun_, (Names{"a", "c"}));
}

TEST_F(StartQueueTest, TheLimitIsAskedAgainAndNeverZero) {
  limit_ = 0;
  enter(1, "a");
  enter(1, "b");
  enter(1, "c");
  EXPECT_EQ(begun_, (Names{"a"}));
  limit_ = 5;  // more CPUs
  enter(1, "d");
  EXPECT_EQ(begun_, (Names{"a", "b", "c", "d"}));
}

TEST_F(StartQueueTest, ATurnMayEndWithinItsOwnBeginningAndOutliveTheQueue) {
  limit_ = 1;
  std::vector<int> begun;
  StartQueue::Turn kept;
  {
    StartQueue queue(loop_, [] { return 1; });
    for (int i = 0; i < 3; ++i) {
      queue.enter(1, {[] { return true; },
                      [&begun, &kept, i](const StartQueue::Turn& turn) {
                        begun.push_back(i);
                        if (i == 1) {
                          kept = turn;
                        }
                      }});
    }
    loop_.post([this] { loop_.post([this] { loop_.post([this] { loop_.stop(); }); }); });
    loop_.run();
  }
  kept.reset();
  EXPECT_EQ(begun, (std::vector<int>{0, 1}));
}

}  // namespace
}  // namespace tess::node
