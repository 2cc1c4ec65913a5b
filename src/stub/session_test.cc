#include "stub/session.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

namespace tess::stub {
namespace {

constexpr uint64_t kSse = 3, kTileConfiguration = uint64_t{1} << 17, kTiles = uint64_t{1} << 18;

// As ptrace gives it where the processor has AMX: room for tiles, used or not.
std::vector<std::byte> xstate_with(uint64_t in_use) {
  const uint64_t features = kSse | kTileConfiguration | kTiles;
  std::vector<std::byte> state(11008);
  std::memcpy(state.data() + 464, &features, sizeof(features));
  std::memcpy(state.data() + 512, &in_use, sizeof(in_use));
  return state;
}

TEST(SetXsave, LeavesOutTilesThatAreNotInUse) {
  const auto context = std::make_unique<ThreadContext>();
  ASSERT_TRUE(set_xsave(*context, xstate_with(kSse)));
  uint32_t extended_size, size;
  uint64_t features;
  std::memcpy(&extended_size, context->xsave + 468, sizeof(extended_size));
  std::memcpy(&features, context->xsave + 472, sizeof(features));
  std::memcpy(&size, context->xsave + 480, sizeof(size));
  EXPECT_EQ(size, 576u);
  EXPECT_EQ(extended_size, 580u);
  EXPECT_EQ(context->xsave_size, 580u);
  EXPECT_EQ(features, kSse);
  EXPECT_EQ(std::memcmp(context->xsave + size, "EXPF", 4), 0);
}

TEST(SetXsave, RefusesTilesInUse) {
  const auto context = std::make_unique<ThreadContext>();
  EXPECT_FALSE(set_xsave(*context, xstate_with(kSse | kTiles)));
  EXPECT_FALSE(set_xsave(*context, xstate_with(kSse | kTileConfiguration)));
}

TEST(SetXsave, RefusesWhatIsNoXsaveArea) {
  const auto context = std::make_unique<ThreadContext>();
  EXPECT_FALSE(set_xsave(*context, std::vector<std::byte>(512)));
}

}  // namespace
}  // namespace tess::stub
