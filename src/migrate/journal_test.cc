#include "migrate/journal.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace tess::migrate {
namespace {

TEST(Journal, KeepsWhatWasDecidedAndDropsATornLine) {
  char directory[] = "/tmp/tess-journal-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const JournalEntry entry{
      .operation = 7, .pid = 42, .kind = "out", .state = "begun", .from = "n1", .to = "n2"};
  std::string path;
  {
    auto journal = Journal::open(std::string(directory) + "/deep/er", 99);
    ASSERT_TRUE(journal) << journal.error().message();
    path = journal->path();
    ASSERT_TRUE(journal->write(entry));
    ASSERT_TRUE(journal->decided(entry));
  }
  std::ofstream(path, std::ios::app) << "8 42 hop beg";
  const auto entries = Journal::read(path);
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0], entry);
  EXPECT_EQ((*entries)[1].state, "decided");
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace tess::migrate
