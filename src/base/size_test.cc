#include "base/size.h"

#include <gtest/gtest.h>

namespace tess {
namespace {

TEST(Size, Parses) {
  EXPECT_EQ(parse_size("512M"), 512ULL << 20);
  EXPECT_EQ(parse_size("1.5K"), 1536U);
  EXPECT_EQ(parse_size("7"), 7U);
  for (const char* text : {"", "M", "1X", "1MM", "-1", "0", "1e30"}) {
    EXPECT_EQ(parse_size(text), 0U) << text;
  }
}

}  // namespace
}  // namespace tess
