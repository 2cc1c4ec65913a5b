#include "cli/table.h"

#include <gtest/gtest.h>

#include "cli/client.h"

namespace tess::cli {
namespace {

TEST(Table, ColumnsLineUp) {
  Table table({{"A"}, {"N", Table::Align::kRight}, {"LONG", Table::Align::kLeft, 4}});
  table.add({"x", "10", "abcdef"});
  table.add({"yyy", "5", "é"});
  EXPECT_EQ(table.text(),
            "A     N  LONG\n"
            "x    10  abc…\n"
            "yyy   5  é\n");
}

TEST(Table, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\n\x7f"), "a?[2Jb??");
}

TEST(Table, Quantities) {
  EXPECT_EQ(bytes_text(0), "0B");
  EXPECT_EQ(bytes_text(1536), "1.5K");
  EXPECT_EQ(bytes_text(uint64_t{300} << 20), "300M");
  EXPECT_EQ(seconds_text(0), "0:00.0");
  EXPECT_EQ(seconds_text(62.54), "1:02.5");
  EXPECT_EQ(seconds_text(59.99), "0:59.9") << "never sixty seconds";
  EXPECT_EQ(seconds_text(3723), "1:02:03");
}

TEST(Pid, OnlyPositiveNumbers) {
  EXPECT_EQ(check_pid("1"), "");
  EXPECT_EQ(check_pid("999999999"), "");
  for (const char* bad : {"", "0", "-1", "x", "1x", "0x10", "9999999999"}) {
    EXPECT_NE(check_pid(bad), "") << bad;
  }
}

}  // namespace
}  // namespace tess::cli
