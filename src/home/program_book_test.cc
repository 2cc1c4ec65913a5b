#include "home/program_book.h"

#include <gtest/gtest.h>

namespace tess::home {
namespace {

constexpr uint64_t kMs = 1000000;

void run(ProgramBook& book, const std::string& program, uint64_t cpu_ns) {
  (void)book.begins(program);
  book.ended(program, &cpu_ns);
}

TEST(ProgramBook, ShortOnesStay) {
  ProgramBook book;
  EXPECT_FALSE(book.begins("sed").ask) << "one of them is watched";
  const uint64_t took = 2 * kMs;
  book.ended("sed", &took);
  for (int i = 0; i < 40; ++i) {
    EXPECT_FALSE(book.begins("sed").ask) << "however many at once";
  }
}

TEST(ProgramBook, LongOnesAreAskedAbout) {
  ProgramBook book;
  run(book, "cc1", 1400 * kMs);
  const auto advice = book.begins("cc1");
  EXPECT_TRUE(advice.ask);
  EXPECT_EQ(advice.work_ns, 1400 * kMs);
  EXPECT_FALSE(book.begins("as").ask) << "another is another";
}

TEST(ProgramBook, ManyUnknownOnesAtOnceAreSpread) {
  ProgramBook book;
  EXPECT_FALSE(book.begins("simulate").ask);
  EXPECT_FALSE(book.begins("simulate").ask);
  const auto advice = book.begins("simulate");
  EXPECT_TRUE(advice.ask);
  EXPECT_EQ(advice.work_ns, 0U);
  // One after the other they are not many at once.
  for (int i = 0; i < 5; ++i) {
    EXPECT_FALSE(book.begins("other").ask);
    book.ended("other", nullptr);
  }
}

TEST(ProgramBook, ItFollowsWhatChanges) {
  ProgramBook book;
  run(book, "cc1", 1500 * kMs);
  for (int i = 0; i < 20; ++i) {
    run(book, "cc1", 1 * kMs);
  }
  EXPECT_FALSE(book.begins("cc1").ask);
  for (int i = 0; i < 20; ++i) {
    run(book, "cc1", 1500 * kMs);
  }
  EXPECT_TRUE(book.begins("cc1").ask);
}

TEST(ProgramBook, EndlesslyManyNamesAreForgotten) {
  ProgramBook book;
  for (int i = 0; i < 20000; ++i) {
    run(book, "program" + std::to_string(i), 1500 * kMs);
  }
  EXPECT_FALSE(book.begins("program0").ask) << "it is new again";
  EXPECT_TRUE(book.begins("program19999").ask);
}

}  // namespace
}  // namespace tess::home
