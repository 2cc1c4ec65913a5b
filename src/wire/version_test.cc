#include "wire/version.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tess::wire {
namespace {

TEST(Version, NeighboursSpeakTheOlderOnes) {
  EXPECT_EQ(common_version(3, 3), 3U);
  EXPECT_EQ(common_version(3, 4), 3U);
  EXPECT_EQ(common_version(4, 3), 3U);
  EXPECT_EQ(common_version(3, 5), std::nullopt);
  EXPECT_EQ(common_version(5, 3), std::nullopt);
}

TEST(Version, WhoSaysNoneSpeaksNone) {
  EXPECT_EQ(common_version(1, 0), std::nullopt);
  EXPECT_EQ(common_version(0, 0), std::nullopt);
  EXPECT_EQ(common_version(1, 0xffffffff), std::nullopt);
}

TEST(Version, TheOlderOfTwoIsToBeUpgraded) {
  EXPECT_NE(version_mismatch("a", 1, "b", 3).find("upgrade a first"), std::string::npos);
  EXPECT_NE(version_mismatch("a", 3, "b", 1).find("upgrade b first"), std::string::npos);
}

TEST(Version, TestsMaySayAnother) {
  EXPECT_EQ(protocol_version(), kProtocolVersion);
  ASSERT_EQ(::setenv("TESS_PROTOCOL_VERSION", "7", 1), 0);
  EXPECT_EQ(protocol_version(), 7U);
  ASSERT_EQ(::setenv("TESS_PROTOCOL_VERSION", "nonsense", 1), 0);
  EXPECT_EQ(protocol_version(), kProtocolVersion);
  ::unsetenv("TESS_PROTOCOL_VERSION");
}

}  // namespace
}  // namespace tess::wire
