#include <gtest/gtest.h>

#include "cluster/attention.h"
#include "cluster/budget.h"
#include "cluster/inbox.h"
#include "cluster/load_board.h"
#include "cluster/news.h"

namespace tess::cluster {
namespace {

using ms = std::chrono::milliseconds;
const Time kStart = Time(std::chrono::hours(5));

TEST(Attention, CountsTimeOnlyWhileAwake) {
  Attention attention(kStart, ms(60));
  Time now = kStart + ms(100);
  attention.observe(now, now, Duration(0));
  EXPECT_EQ(attention.spent(now), now);
  EXPECT_EQ(attention.score(), 0u);
  // Two seconds late: none of them count, and a grace is added.
  const Time promised = now + ms(100);
  now = promised + ms(2000);
  attention.observe(now, promised, Duration(0));
  EXPECT_LE(attention.spent(now), promised);
  EXPECT_GT(attention.score(), 0u);
  EXPECT_TRUE(attention.late_within(now, ms(1)));
  EXPECT_EQ(attention.real(attention.spent(now) + ms(5)), now + ms(5));
}

TEST(Attention, AQueueOfOldPacketsIsLateness) {
  Attention attention(kStart, ms(60));
  const Time now = kStart + ms(10);
  attention.observe(now, now + ms(500), ms(700));
  EXPECT_EQ(attention.spent(now), kStart);
  EXPECT_GT(attention.distress(now), 0u);
  EXPECT_EQ(attention.distress(now + std::chrono::minutes(5)), attention.score());
}

TEST(Budget, SpendsOnlyWhatCameIn) {
  Budget budget(kStart, 1000, 500);
  EXPECT_EQ(budget.available(kStart), 500);
  budget.spend(700);
  EXPECT_EQ(budget.available(kStart + ms(100)), -100);
  EXPECT_EQ(budget.available(kStart + ms(300)), 100);
  EXPECT_GT(budget.when(kStart + ms(300), 200), kStart + ms(399));
  EXPECT_EQ(budget.available(kStart + std::chrono::hours(1)), 500);
}

TEST(Inbox, FirstComeFirstServedUntilItIsBehind) {
  Inbox<int> inbox(3, ms(100), ms(1000));
  inbox.put(kStart, 1);
  inbox.put(kStart + ms(1), 2);
  EXPECT_EQ(inbox.take(kStart + ms(2))->second, 1);
  inbox.put(kStart + ms(3), 3);
  EXPECT_EQ(inbox.take(kStart + ms(200))->second, 3);  // late: the newest
  EXPECT_EQ(inbox.take(kStart + ms(200))->second, 2);
  for (int i = 0; i < 5; ++i) {
    inbox.put(kStart + ms(300), i);
  }
  EXPECT_EQ(inbox.size(), 3u);
  EXPECT_EQ(inbox.dropped(), 2u);
  EXPECT_FALSE(inbox.take(kStart + ms(2000)));
  EXPECT_EQ(inbox.dropped(), 5u);
}

TEST(News, EachItemIsToldSoOftenAndTheLeastToldFirst) {
  News news;
  news.add(1, 2);
  news.add(2, 2);
  std::vector<Slot> told;
  const auto tell = [&](size_t most) {
    told.clear();
    news.tell([&](Slot slot) {
      if (told.size() == most) {
        return false;
      }
      told.push_back(slot);
      return true;
    });
    return told;
  };
  EXPECT_EQ(tell(1), std::vector<Slot>{2});  // the newest
  EXPECT_EQ(tell(1), std::vector<Slot>{1});
  EXPECT_EQ(tell(9), (std::vector<Slot>{2, 1}));
  EXPECT_TRUE(news.empty());
  news.add(3, 5);
  news.add_detail(3, 2);  // is told more often anyway
  EXPECT_EQ(news.size(), 1u);
  news.drop(3);
  EXPECT_TRUE(news.empty());
}

TEST(LoadBoard, NewerVersionsWinAndAgesGrow) {
  LoadBoard board(10);
  LoadNews news;
  news.version = 65535;
  news.age = ms(100);
  EXPECT_TRUE(board.put(1, news, kStart));
  EXPECT_FALSE(board.put(1, news, kStart + ms(50)));  // the same record by another way
  news.version = 0;                                   // comes after 65535
  news.age = ms(0);
  EXPECT_TRUE(board.put(1, news, kStart + ms(60)));
  news.version = 65535;
  EXPECT_FALSE(board.put(1, news, kStart + ms(70)));
  Duration age{};
  board.tell(kStart + ms(500), 1, [&](Slot, const LoadNews& told) {
    age = told.age;
    return true;
  });
  EXPECT_EQ(age, ms(440));
  bool again = false;
  board.tell(kStart + ms(600), 1, [&](Slot, const LoadNews&) { return again = true; });
  EXPECT_FALSE(again);
}

TEST(LoadBoard, KeepsTheNewest) {
  LoadBoard board(100);
  for (Slot slot = 0; slot < 1000; ++slot) {
    LoadNews news;
    board.put(slot, news, kStart + ms(slot));
  }
  EXPECT_LE(board.size(), 113u);
  EXPECT_EQ(board.find(0), nullptr);
  EXPECT_NE(board.find(999), nullptr);
  std::vector<Slot> told;
  board.tell(kStart + ms(2000), 3, [&](Slot slot, const LoadNews&) {
    told.push_back(slot);
    return told.size() < 3;
  });
  EXPECT_EQ(told, (std::vector<Slot>{999, 998, 997}));
}

}  // namespace
}  // namespace tess::cluster
