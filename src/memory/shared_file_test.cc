#include "memory/shared_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "memory/address_space.h"

namespace tess::memory {
namespace {

// Home's object and a body's mapping of what stands for it.
class SharedFileTest : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 5 * kPageSize + 100;

  void SetUp() override {
    auto made = SharedFile::create("tess-s:0:1:2", kSize);
    ASSERT_TRUE(made) << made.error().message();
    file_.emplace(std::move(*made));
    body_ = static_cast<char*>(
        ::mmap(nullptr, 8 * kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, file_->fd().get(), 0));
    ASSERT_NE(body_, MAP_FAILED);
    home_ = std::string(kSize, '\0');
    std::memset(home_.data() + kPageSize, 'h', kPageSize);
    home_.back() = '!';
    fill();
  }
  void TearDown() override { ::munmap(body_, 8 * kPageSize); }

  // Everything that is at home, in one run where it is not zero.
  void fill() {
    const auto bytes = std::as_bytes(std::span(home_));
    const SharedFile::Run runs[] = {{0, bytes}};
    const auto filled = file_->fill(0, home_.size(), runs);
    ASSERT_TRUE(filled) << filled.error().message();
  }
  // What comes home; applied there.
  std::map<uint64_t, size_t> collect(uint64_t from = 0, uint64_t size = SharedFile::kToTheEnd) {
    std::map<uint64_t, size_t> runs;
    const auto take = [&](uint64_t offset, std::span<const std::byte> b) {
      EXPECT_LE(offset + b.size(), home_.size());
      std::memcpy(home_.data() + offset, b.data(), b.size());
      runs[offset] = b.size();
      return Result<>();
    };
    const auto taken = file_->collect(1 << 20, take, from, size);
    EXPECT_TRUE(taken);
    return runs;
  }
  std::string seen() const { return std::string(body_, home_.size()); }

  std::optional<SharedFile> file_;
  char* body_ = nullptr;
  std::string home_;
};

TEST_F(SharedFileTest, HoldsWhatHomeHasAndNothingIsDirty) {
  EXPECT_EQ(seen(), home_);
  EXPECT_TRUE(collect().empty());
  EXPECT_TRUE(file_->knows(0, 100 * kPageSize));
}

TEST_F(SharedFileTest, CollectsChangedPagesOnceAndEndsWithTheObject) {
  body_[3] = 'a';
  body_[kPageSize + 7] = 'b';
  body_[kSize - 2] = 'c';
  body_[kSize + 1] = 'x';  // behind its end: nobody's
  const auto runs = collect();
  EXPECT_EQ(runs, (std::map<uint64_t, size_t>{{0, 2 * kPageSize}, {5 * kPageSize, 100}}));
  EXPECT_EQ(seen(), home_);
  EXPECT_TRUE(collect().empty());
}

TEST_F(SharedFileTest, AByteThatGoesBackToItsOldValueIsNoChange) {
  body_[kPageSize] = 'x';
  body_[kPageSize] = 'h';
  EXPECT_TRUE(collect().empty());
}

TEST_F(SharedFileTest, ZeroedAndPunchedPagesComeHomeAsZeros) {
  std::memset(body_ + kPageSize, 0, kPageSize);
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{kPageSize, kPageSize}}));
  body_[2 * kPageSize] = 'p';
  EXPECT_EQ(collect().size(), 1u);
  ASSERT_EQ(::madvise(body_ + 2 * kPageSize, kPageSize, MADV_REMOVE), 0);
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{2 * kPageSize, kPageSize}}));
  EXPECT_EQ(seen(), home_);
}

TEST_F(SharedFileTest, BytesWrittenAtHomeJoinThoseOfBodies) {
  body_[kPageSize + 1] = 'b';
  const std::string written = "home wrote this";
  ASSERT_TRUE(file_->update(kPageSize + 50, std::as_bytes(std::span(written))));
  std::memcpy(home_.data() + kPageSize + 50, written.data(), written.size());
  EXPECT_EQ(std::string(body_ + kPageSize + 50, written.size()), written);
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{kPageSize, kPageSize}}));
  EXPECT_EQ(seen(), home_);
  EXPECT_EQ(home_[kPageSize + 1], 'b');
  // On a page that no body has changed it is not news for home.
  ASSERT_TRUE(file_->update(3 * kPageSize - 4, std::as_bytes(std::span(written))));
  std::memcpy(home_.data() + 3 * kPageSize - 4, written.data(), written.size());
  EXPECT_TRUE(collect().empty());
  EXPECT_EQ(seen(), home_);
}

TEST_F(SharedFileTest, AnotherFillTakesHomesPagesButNotOverThoseOfBodies) {
  body_[0] = 'b';
  home_[1] = 'h';                                       // the same page at home: the body's goes on
  home_[2 * kPageSize] = 'h';                           // only home's
  std::memset(home_.data() + kPageSize, 0, kPageSize);  // gone at home
  fill();
  EXPECT_EQ(body_[0], 'b');
  EXPECT_EQ(body_[1], '\0');
  EXPECT_EQ(body_[2 * kPageSize], 'h');
  EXPECT_EQ(body_[kPageSize], '\0');
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{0, kPageSize}}));
}

TEST_F(SharedFileTest, OnlyWhatIsAskedForComesHome) {
  body_[0] = 'a';
  body_[kPageSize + 1] = 'b';
  body_[2 * kPageSize] = 'c';
  EXPECT_EQ(collect(kPageSize + 4000, 10), (std::map<uint64_t, size_t>{{kPageSize, kPageSize}}))
      << "whole pages, and the next is not touched";
  EXPECT_TRUE(collect(kPageSize, kPageSize).empty());
  EXPECT_EQ(collect(kPageSize - 1, 1), (std::map<uint64_t, size_t>{{0, kPageSize}}));
  EXPECT_TRUE(collect(home_.size(), 100).empty()) << "behind the end";
  EXPECT_TRUE(collect(home_.size() + kPageSize, SharedFile::kToTheEnd).empty());
  EXPECT_EQ(collect(0, SharedFile::kToTheEnd - 1).begin()->first, 2 * kPageSize);
  EXPECT_EQ(seen(), home_);
}

TEST_F(SharedFileTest, AHoleComesHomeWhenItsPlaceIsAskedFor) {
  body_[0] = 'b';
  collect();
  ASSERT_EQ(::madvise(body_, 2 * kPageSize, MADV_REMOVE), 0);
  EXPECT_TRUE(collect(2 * kPageSize, kPageSize).empty());
  EXPECT_EQ(collect(kPageSize, kPageSize), (std::map<uint64_t, size_t>{{kPageSize, kPageSize}}));
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{0, kPageSize}}));
  EXPECT_EQ(seen(), home_);
}

TEST_F(SharedFileTest, FollowsTheObjectsSize) {
  body_[kPageSize + 200] = 'b';
  ASSERT_TRUE(file_->resize(kPageSize + 100));
  home_.resize(kPageSize + 100);
  collect();  // the change has been cut off; what is left of its page may come once more
  EXPECT_EQ(seen(), home_);
  EXPECT_TRUE(collect().empty());
  ASSERT_TRUE(file_->resize(3 * kPageSize));
  home_.resize(3 * kPageSize);
  EXPECT_EQ(seen(), home_);
  EXPECT_TRUE(file_->knows(0, 3 * kPageSize));
  body_[2 * kPageSize + 5] = 'n';
  EXPECT_EQ(collect(), (std::map<uint64_t, size_t>{{2 * kPageSize, kPageSize}}));
  EXPECT_EQ(seen(), home_);
}

TEST_F(SharedFileTest, OnlyFilledRangesCount) {
  auto made = SharedFile::create("tess-s:0:1:3", 10 * kPageSize);
  ASSERT_TRUE(made);
  EXPECT_FALSE(made->knows(0, 1));
  ASSERT_TRUE(made->fill(2 * kPageSize, 2 * kPageSize, {}));
  EXPECT_TRUE(made->knows(2 * kPageSize, 2 * kPageSize));
  EXPECT_FALSE(made->knows(2 * kPageSize, 3 * kPageSize));
  const std::string bytes = "unwanted";
  ASSERT_TRUE(made->update(8 * kPageSize, std::as_bytes(std::span(bytes))));
  ASSERT_TRUE(made->fill(8 * kPageSize, kPageSize, {}));
  int runs = 0;
  ASSERT_TRUE(made->collect(1 << 20, [&](uint64_t, std::span<const std::byte>) {
    ++runs;
    return Result<>();
  }));
  EXPECT_EQ(runs, 0);
  const SharedFile::Run outside[] = {{0, std::as_bytes(std::span(bytes))}};
  EXPECT_FALSE(made->fill(4 * kPageSize, kPageSize, outside));
}

}  // namespace
}  // namespace tess::memory
