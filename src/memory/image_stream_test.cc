#include "memory/image_stream.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "memory/content_hash.h"
#include "memory/cpu_features.h"
#include "wire/agent.pb.h"
#include "wire/frame.h"

namespace tess::memory {
namespace {

constexpr size_t kPages = 1024;

// What arrives, by address.
class MapSink final : public PageSink {
 public:
  Result<> put(uint64_t address, std::span<const std::byte> pages) override {
    bytes.insert(bytes.end(), pages.begin(), pages.end());
    addresses.push_back(address);
    return {};
  }
  std::vector<std::byte> bytes;
  std::vector<uint64_t> addresses;
};

struct Ends {
  std::unique_ptr<wire::FdStream> source, target;
};

Ends make_ends() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
  return {std::make_unique<wire::FdStream>(sys::Fd(fds[0])),
          std::make_unique<wire::FdStream>(sys::Fd(fds[1]))};
}

class ImageStream : public testing::TestWithParam<Compression> {
 protected:
  void SetUp() override {
    area_ = static_cast<std::byte*>(::mmap(nullptr, kPages * kPageSize, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    file_ = static_cast<int>(::syscall(SYS_memfd_create, "tess:8:1:42", 0));
    std::vector<char> content(10 * kPageSize + 5, 'f');
    ASSERT_EQ(::write(file_, content.data(), content.size()), static_cast<ssize_t>(content.size()));
    mapped_ = static_cast<std::byte*>(
        ::mmap(nullptr, 16 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE, file_, 0));
    for (size_t i = 0; i < kPages; ++i) {
      if (i % 5 != 0) {
        std::memset(area_ + i * kPageSize, static_cast<int>(i % 250 + 1), kPageSize);
      }
    }
    mapped_[4 * kPageSize] = std::byte{'w'};
    auto all = read_address_space(::getpid());
    ASSERT_TRUE(all);
    for (Mapping& mapping : *all) {
      const auto inside = [&](const std::byte* p) {
        return mapping.start <= reinterpret_cast<uint64_t>(p) &&
               reinterpret_cast<uint64_t>(p) < mapping.end;
      };
      if (inside(area_)) {
        mapping.start = reinterpret_cast<uint64_t>(area_);
        mapping.end = mapping.start + kPages * kPageSize;
        mappings_.push_back(mapping);
      } else if (inside(mapped_)) {
        mappings_.push_back(mapping);
      }
    }
    ASSERT_EQ(mappings_.size(), 2u);
    image_.set_region_base(0x2b0000000000);
    file_index_ = mappings_[0].kind == MappingKind::kFilePrivate ? 0 : 1;
  }
  void fill_image() {
    ASSERT_TRUE(hash_file_content(::getpid(), mappings_, ""));
    for (const Mapping& mapping : mappings_) {
      to_wire(mapping, *image_.add_vmas());
    }
  }
  void TearDown() override {
    ::munmap(area_, kPages * kPageSize);
    ::munmap(mapped_, 16 * kPageSize);
    ::close(file_);
  }

  std::byte* area_ = nullptr;
  std::byte* mapped_ = nullptr;
  int file_ = -1;
  uint32_t file_index_ = 0;
  std::vector<Mapping> mappings_;
  wire::ProcessImage image_;
};

TEST_P(ImageStream, CarriesPagesAndWantedFiles) {
  fill_image();
  const Mapping& file = mappings_[file_index_];
  EXPECT_EQ(file.inode, 42u) << "a body's memfd is reported as the home file";
  Ends ends = make_ends();
  Result<StreamStats> sent = StreamStats{};
  std::thread source([&] { sent = send_image(*ends.source, ::getpid(), image_, GetParam()); });
  wire::ProcessImage image;
  ASSERT_TRUE(receive_header(*ends.target, image));
  const uint32_t wanted[] = {file_index_};
  ASSERT_TRUE(send_want(*ends.target, wanted));
  std::string content;
  auto files = receive_content(
      *ends.target, image, wanted,
      [&](uint32_t index, uint64_t offset, std::span<const std::byte> bytes) -> Result<> {
        EXPECT_EQ(index, file_index_);
        EXPECT_EQ(offset, content.size());
        content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        return {};
      });
  ASSERT_TRUE(files) << files.error().message();
  EXPECT_EQ(sha256(content), file.content_hash);
  EXPECT_EQ(content.size(), 10 * kPageSize + 5);
  MapSink sink;
  auto pages = receive_pages(*ends.target, image, sink);
  source.join();
  ASSERT_TRUE(pages) << pages.error().message();
  ASSERT_TRUE(sent) << sent.error().message();
  const uint64_t expected = (kPages - (kPages + 4) / 5 + 1) * kPageSize;
  EXPECT_EQ(pages->page_bytes, expected);
  EXPECT_EQ(sent->page_bytes, expected);
  EXPECT_EQ(sink.bytes.size(), expected);
  EXPECT_EQ(sent->file_bytes, content.size());
  EXPECT_LE(sent->flow.bytes, sent->stored_bytes);
  EXPECT_EQ(sent->flow.bytes, pages->flow.bytes) << "the receipt says it";
  EXPECT_EQ(sent->flow.time, pages->flow.time);
  if (GetParam() == Compression::kAlways) {
    EXPECT_LT(sent->stored_bytes, expected / 10);
  }
}

TEST_P(ImageStream, ATargetThatHasTheFileGetsOnlyDirtyPages) {
  fill_image();
  Ends ends = make_ends();
  Result<StreamStats> sent = StreamStats{};
  std::thread source([&] { sent = send_image(*ends.source, ::getpid(), image_, GetParam()); });
  wire::ProcessImage image;
  ASSERT_TRUE(receive_header(*ends.target, image));
  ASSERT_TRUE(send_want(*ends.target, {}));
  ASSERT_TRUE(receive_content(*ends.target, image, {}, nullptr));
  MapSink sink;
  ASSERT_TRUE(receive_pages(*ends.target, image, sink));
  source.join();
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->file_bytes, 0u);
  EXPECT_EQ(sent->reused_bytes, 16 * kPageSize);
}

// What came while the target was busy with something else says nothing of the connection.
TEST(ImageStreamFlow, KnowsWhatHasComeAlready) {
  Ends ends = make_ends();
  EXPECT_EQ(ends.target->unread(), 0u);
  const std::byte bytes[5]{};
  ASSERT_TRUE(ends.source->write_all(bytes, wire::Timeout(60'000)));
  EXPECT_EQ(ends.target->unread(), 5u);
  EXPECT_EQ(wire::unread_bytes(-1), 0u);
  Flow flow{1, std::chrono::nanoseconds(2)};
  flow.add({10, std::chrono::nanoseconds(20)});
  EXPECT_EQ(flow.bytes, 11u);
  EXPECT_EQ(flow.time.count(), 22);
}

INSTANTIATE_TEST_SUITE_P(Modes, ImageStream,
                         testing::Values(Compression::kNever, Compression::kAlways,
                                         Compression::kAdaptive));

// A peer that lies is dropped, whatever it says.
TEST(ImageStreamInput, RefusesForeignNonsense) {
  wire::ProcessImage image;
  image.set_region_base(0x2b0000000000);
  wire::Vma& vma = *image.add_vmas();
  vma.set_start(0x10000);
  vma.set_end(0x20000);
  const auto receive = [&](wire::PageRun run, size_t payload) {
    Ends ends = make_ends();
    EXPECT_TRUE(wire::write_frame(*ends.source, run, std::chrono::seconds(60)));
    std::vector<std::byte> bytes(payload, std::byte{0xff});
    EXPECT_TRUE(ends.source->write_all(bytes, std::chrono::seconds(60)));
    ends.source.reset();
    MapSink sink;
    auto result = receive_pages(*ends.target, image, sink);
    EXPECT_FALSE(result);
    EXPECT_TRUE(sink.bytes.empty());
    return result ? ErrorKind::kFailed : result.error().kind();
  };
  wire::PageRun run;
  run.set_address(0x10000);
  run.set_byte_count(uint64_t{1} << 40);
  run.set_stored_count(uint64_t{1} << 40);
  EXPECT_EQ(receive(run, 0), ErrorKind::kBadInput);
  run.set_byte_count(kPageSize);
  run.set_stored_count(kPageSize);
  run.set_address(0x30000);
  EXPECT_EQ(receive(run, kPageSize), ErrorKind::kBadInput) << "outside every mapping";
  run.set_address(0x10010);
  EXPECT_EQ(receive(run, kPageSize), ErrorKind::kBadInput) << "not aligned";
  run.set_address(0x1f000);
  run.set_byte_count(2 * kPageSize);
  run.set_stored_count(2 * kPageSize);
  EXPECT_EQ(receive(run, 2 * kPageSize), ErrorKind::kBadInput) << "beyond the end";
  run.set_codec(1);
  run.set_stored_count(100);
  run.set_address(0x10000);
  EXPECT_EQ(receive(run, 100), ErrorKind::kBadInput) << "does not unpack";
  run.set_codec(7);
  EXPECT_EQ(receive(run, 100), ErrorKind::kBadInput);
  run.set_codec(0);
  run.set_stored_count(2 * kPageSize);
  EXPECT_EQ(receive(run, 10), ErrorKind::kDisconnected) << "cut off";
}

TEST(CpuFeatures, ExplainsWhatIsMissing) {
  const std::string mine = host_cpu_features();
  EXPECT_EQ(explain_missing(mine, mine), "");
  std::string lesser = mine;
  lesser[4 + 3] = static_cast<char>(lesser[4 + 3] & ~0x04);  // CPUID 1 EDX bit 26
  EXPECT_NE(explain_missing(mine, lesser).find("SSE2"), std::string::npos);
  EXPECT_EQ(explain_missing(lesser, mine), "") << "more than needed is fine";
  EXPECT_NE(explain_missing(mine, "garbage").find("same version"), std::string::npos);
  EXPECT_NE(explain_missing("", mine), "");
}

TEST(CpuFeatures, AmxThatAProcessHasNotAskedForIsNotMissed) {
  constexpr size_t kEdxOf7 = 4 + 4 * 4, kXcr0 = 4 + 15 * 4, kOffsets = kXcr0 + 8 + 4;
  std::string with = host_cpu_features();
  std::string without = with;
  with[kEdxOf7 + 3] = static_cast<char>(with[kEdxOf7 + 3] | 0x01);  // bit 24, AMX-TILE
  without[kEdxOf7 + 3] = static_cast<char>(without[kEdxOf7 + 3] & ~0x01);
  with[kXcr0 + 2] = static_cast<char>(with[kXcr0 + 2] | 0x06);  // bits 17 and 18
  without[kXcr0 + 2] = static_cast<char>(without[kXcr0 + 2] & ~0x06);
  with[kOffsets + 17 * 4] = 0x40;
  without[kOffsets + 17 * 4] = 0;
  EXPECT_EQ(explain_missing(with, without), "");
  EXPECT_EQ(explain_missing(without, with), "");
}

}  // namespace
}  // namespace tess::memory
