#include "batch/array_spec.h"

#include <gtest/gtest.h>

namespace tess::batch {
namespace {

using Tasks = std::vector<uint32_t>;

TEST(ArraySpec, Ranges) {
  EXPECT_EQ(parse_array("3")->tasks, Tasks({3}));
  EXPECT_EQ(parse_array("1-4")->tasks, Tasks({1, 2, 3, 4}));
  EXPECT_EQ(parse_array("10,0-6:3,2")->tasks, Tasks({0, 2, 3, 6, 10}));
  EXPECT_EQ(parse_array("1-100%8")->tasks.size(), 100U);
  EXPECT_EQ(parse_array("1-100%8")->at_most, 8U);
  EXPECT_EQ(parse_array("1-2")->at_most, 0U);
}

TEST(ArraySpec, Mistakes) {
  for (const char* text : {"", "x", "1-", "-3", "3-1", "1,,2", "1-5:0", "1:2", "1-5%", "1-5%0",
                           "1-5%x", "1 - 5", "4294967296", "1-3,2", "0-100000", "+1"}) {
    const auto parsed = parse_array(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind(), ErrorKind::kBadInput) << text;
  }
  EXPECT_EQ(parse_array("1-3,2").error().message(), "task 2 is named twice");
}

TEST(ArraySpec, TheLargestIsTaken) {
  EXPECT_EQ(parse_array("1-100000")->tasks.size(), kMaxTasks);
  EXPECT_EQ(parse_array("0-999999999:99999999")->tasks.size(), 11U);
}

}  // namespace
}  // namespace tess::batch
