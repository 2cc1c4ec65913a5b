// The parts of the host agent that need no sandbox: content, channels, vDSO, room.
#include <elf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "host/channel_pool.h"
#include "host/content_store.h"
#include "host/file_content.h"
#include "host/room.h"
#include "host/vdso.h"
#include "memory/content_hash.h"

namespace tess::host {
namespace {

using memory::kPageSize;
using memory::Mapping;
using memory::MappingKind;

class ContentTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tess-parts-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  static sys::Fd memory_with(const std::string& content) {
    sys::Fd fd(::memfd_create("x", MFD_CLOEXEC));
    EXPECT_TRUE(sys::write_all(fd, std::as_bytes(std::span(content))));
    return fd;
  }
  static Mapping file_mapping(uint64_t offset, uint64_t pages, const std::string& content) {
    Mapping mapping;
    mapping.start = 0x10000;
    mapping.end = mapping.start + pages * kPageSize;
    mapping.kind = MappingKind::kFilePrivate;
    mapping.dev_major = 8;
    mapping.inode = 99;
    mapping.offset = offset;
    mapping.content_hash = memory::sha256(content);
    return mapping;
  }
  static void supply(FileContent& files, const Mapping& mapping, const std::string& content) {
    auto draft = files.begin(mapping);
    ASSERT_TRUE(draft);
    ASSERT_TRUE(draft->write(0, std::as_bytes(std::span(content))));
    auto done = files.finish(mapping, std::move(*draft));
    ASSERT_TRUE(done) << done.error().message();
  }
  static std::string read(const sys::Fd& fd, uint64_t offset, size_t size) {
    std::string text(size, '\0');
    text.resize(static_cast<size_t>(
        std::max<ssize_t>(0, ::pread(fd.get(), text.data(), size, static_cast<off_t>(offset)))));
    return text;
  }
  std::string dir_;
};

TEST_F(ContentTest, StoreVerifiesAndForgetsTheOldest) {
  const ContentStore store(dir_ + "/content", 10'000);
  const std::string a(4000, 'a'), b(4000, 'b'), c(4000, 'c');
  ASSERT_TRUE(store.store(memory::sha256(a), memory_with(a), 0, a.size()));
  auto wrong = store.store(memory::sha256(b), memory_with(a), 0, a.size());
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().kind(), ErrorKind::kBadInput);
  EXPECT_FALSE(store.find(memory::sha256(b)));
  ASSERT_TRUE(store.store(memory::sha256(b), memory_with(b), 0, b.size()));
  // Make b the older one.
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD,
                        (dir_ + "/content/" +
                         [&] {
                           std::string hex;
                           for (const char ch : memory::sha256(b)) {
                             hex += fmt::format("{:02x}", static_cast<uint8_t>(ch));
                           }
                           return hex;
                         }())
                            .c_str(),
                        long_ago, 0),
            0);
  ASSERT_TRUE(store.store(memory::sha256(c), memory_with(c), 0, c.size()));
  EXPECT_TRUE(store.find(memory::sha256(a)));
  EXPECT_FALSE(store.find(memory::sha256(b)));
  EXPECT_TRUE(store.find(memory::sha256(c)));
  struct stat st {};
  ASSERT_EQ(::stat((dir_ + "/content").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0700u);
}

TEST_F(ContentTest, ManySmallContentsStayWithinTheLimit) {
  constexpr uint64_t kLimit = 64'000;
  const ContentStore store(dir_ + "/content", kLimit);
  for (int i = 0; i < 300; ++i) {
    const std::string name = fmt::format("{:1000}", i);
    ASSERT_TRUE(store.store(memory::sha256(name), memory_with(name), 0, name.size()));
    EXPECT_TRUE(store.find(memory::sha256(name)));
  }
  uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(dir_ + "/content")) {
    bytes += entry.file_size();
  }
  EXPECT_LE(bytes, kLimit);
  EXPECT_GE(bytes, kLimit - kLimit / 16 - 1000);
}

TEST_F(ContentTest, ContentStandsAtItsOffsetAndIsReadOnly) {
  FileContent files{ContentStore(dir_)};
  const std::string content(2 * kPageSize + 7, 'q');
  const Mapping mapping = file_mapping(3 * kPageSize, 4, content);
  EXPECT_FALSE(files.has(mapping));
  supply(files, mapping, content);
  EXPECT_TRUE(files.has(mapping));
  auto fd = files.open(mapping);
  ASSERT_TRUE(fd);
  EXPECT_EQ(read(*fd, 3 * kPageSize, 100'000), content) << "and ends where the file ends";
  EXPECT_LT(::write(fd->get(), "x", 1), 0);
  EXPECT_EQ(::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0),
            MAP_FAILED);
  // Another agent finds it in the store; a part of it is known without asking home.
  FileContent other{ContentStore(dir_)};
  EXPECT_TRUE(other.has(mapping));
  EXPECT_TRUE(other.has(file_mapping(4 * kPageSize, 1, content.substr(kPageSize, kPageSize))));
  EXPECT_FALSE(other.has(file_mapping(4 * kPageSize, 1, "something else")));
}

TEST_F(ContentTest, AChangedFileGetsMemoryOfItsOwn) {
  FileContent files{ContentStore(dir_)};
  const std::string before(kPageSize, '1'), after(kPageSize, '2');
  supply(files, file_mapping(0, 1, before), before);
  supply(files, file_mapping(0, 1, after), after);
  EXPECT_EQ(read(*files.open(file_mapping(0, 1, before)), 0, 1), "1");
  EXPECT_EQ(read(*files.open(file_mapping(0, 1, after)), 0, 1), "2");
  auto lie = files.begin(file_mapping(0, 1, before));
  ASSERT_TRUE(lie->write(0, std::as_bytes(std::span(after))));
  EXPECT_FALSE(files.finish(file_mapping(0, 1, before), std::move(*lie)));
}

TEST(ChannelPool, GivesOutOnlyWholeChannelsAndKeepsReservedOnes) {
  ChannelPool pool;
  const std::string key(16, 'k');
  const auto socket = [] { return sys::Fd(::memfd_create("socket", MFD_CLOEXEC)); };
  constexpr std::chrono::milliseconds kNow{0};
  EXPECT_FALSE(pool.add_offer(1, true, "short", key, true));
  ASSERT_TRUE(pool.add_offer(1, true, key, key, true));
  EXPECT_EQ(pool.take_spare(kNow).error().kind(), ErrorKind::kRetry) << "no socket yet";
  pool.add_socket(2, socket());
  EXPECT_EQ(pool.take(2, kNow).error().kind(), ErrorKind::kRetry) << "no offer yet";
  ASSERT_TRUE(pool.add_offer(2, false, key, key, false));
  EXPECT_FALSE(pool.take_spare(kNow)) << "reserved";
  EXPECT_EQ(pool.take(2, kNow)->id, 2u);
  EXPECT_FALSE(pool.take(2, kNow)) << "once only";
  std::thread later([&] { pool.add_socket(1, socket()); });
  auto spare = pool.take_spare(std::chrono::seconds(60));
  later.join();
  ASSERT_TRUE(spare);
  EXPECT_EQ(spare->id, 1u);
  EXPECT_EQ(spare->keys.encrypted, 1u);
  pool.close();
  EXPECT_EQ(pool.take_spare(std::chrono::seconds(60)).error().kind(), ErrorKind::kDisconnected);
}

std::string own_vdso(uint64_t& address) {
  address = ::getauxval(AT_SYSINFO_EHDR);
  auto mappings = memory::read_address_space(::getpid());
  for (const Mapping& mapping : *mappings) {
    if (mapping.kind == MappingKind::kVdso) {
      return {reinterpret_cast<const char*>(mapping.start), mapping.size()};
    }
  }
  return {};
}

TEST(Vdso, APatchedOneWorksAsTheRealOne) {
  uint64_t address = 0;
  const std::string real = own_vdso(address);
  auto symbols = vdso_symbols(real);
  ASSERT_TRUE(symbols) << symbols.error().message();
  auto patched = patch_vdso(real, real, address);
  ASSERT_TRUE(patched) << patched.error().message();
  auto* code = static_cast<char*>(
      ::mmap(nullptr, patched->size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  std::memcpy(code, patched->data(), patched->size());
  ASSERT_EQ(::mprotect(code, patched->size(), PROT_READ | PROT_EXEC), 0);
  int tried = 0;
  for (const VdsoSymbol& symbol : *symbols) {
    char* const entry = code + symbol.offset;
    if (symbol.name == "__vdso_clock_gettime") {
      timespec before{}, now{};
      ::clock_gettime(CLOCK_MONOTONIC, &before);
      EXPECT_EQ(reinterpret_cast<int (*)(clockid_t, timespec*)>(entry)(CLOCK_MONOTONIC, &now), 0);
      EXPECT_LE(now.tv_sec - before.tv_sec, 1);
      EXPECT_GE(now.tv_sec, before.tv_sec);
      ++tried;
    } else if (symbol.name == "__vdso_getrandom") {
      using GetRandom = ssize_t (*)(void*, size_t, unsigned, void*, size_t);
      char bytes[16] = {};
      EXPECT_EQ(reinterpret_cast<GetRandom>(entry)(bytes, 16, 0, nullptr, 0), 16);
      EXPECT_EQ(reinterpret_cast<GetRandom>(entry)(nullptr, 0, 0, nullptr, ~size_t{0}), -ENOSYS);
      ++tried;
    } else if (symbol.name == "__vdso_getcpu") {
      unsigned cpu = ~0u;
      EXPECT_EQ(reinterpret_cast<int (*)(unsigned*, void*, void*)>(entry)(&cpu, nullptr, nullptr),
                0);
      EXPECT_LT(cpu, 4096u);
      ++tried;
    }
  }
  EXPECT_GE(tried, 2);
  ::munmap(code, patched->size());
}

TEST(Vdso, AFunctionTheHostLacksBecomesTheSystemCall) {
  uint64_t address = 0;
  const std::string real = own_vdso(address);
  auto symbols = vdso_symbols(real);
  ASSERT_TRUE(symbols);
  std::string lesser = real;
  for (size_t at = lesser.find("clock_gettime"); at != std::string::npos;
       at = lesser.find("clock_gettime", at + 1)) {
    lesser[at] = 'X';
  }
  auto patched = patch_vdso(real, lesser, address);
  ASSERT_TRUE(patched) << patched.error().message();
  for (const VdsoSymbol& symbol : *symbols) {
    if (symbol.name == "__vdso_clock_gettime") {
      EXPECT_EQ(patched->substr(symbol.offset, 1), "\xb8");
      EXPECT_EQ(patched->substr(symbol.offset + 5, 3), "\x0f\x05\xc3");
    }
  }
}

TEST(Vdso, RefusesNonsenseWhateverItIs) {
  uint64_t address = 0;
  const std::string real = own_vdso(address);
  EXPECT_FALSE(vdso_symbols(""));
  EXPECT_FALSE(
      vdso_symbols("\x7f"
                   "ELF"));
  // Every byte of the headers broken in turn: an error or an answer within bounds, never a crash.
  for (size_t i = 0; i < real.size(); i += i < 64 ? 1 : 97) {
    for (const char value : {'\0', '\x7f', '\xff'}) {
      std::string broken = real;
      broken[i] = value;
      if (auto symbols = vdso_symbols(broken); symbols) {
        for (const VdsoSymbol& symbol : *symbols) {
          ASSERT_LT(symbol.offset, broken.size());
        }
      }
      auto patched = patch_vdso(broken, real, address);
      ASSERT_TRUE(!patched || patched->size() == broken.size());
    }
  }
}

TEST(Vdso, LayoutsAreComparedByShape) {
  const auto range = [](uint64_t start, uint64_t pages, MappingKind kind) {
    Mapping mapping;
    mapping.start = start;
    mapping.end = start + pages * kPageSize;
    mapping.kind = kind;
    return mapping;
  };
  const std::vector<Mapping> a = {range(0x10000, 4, MappingKind::kVvar),
                                  range(0x14000, 2, MappingKind::kVdso)};
  const std::vector<Mapping> moved = {range(0x90000, 4, MappingKind::kVvar),
                                      range(0x94000, 2, MappingKind::kVdso)};
  const std::vector<Mapping> other = {range(0x90000, 2, MappingKind::kVvar),
                                      range(0x92000, 2, MappingKind::kVdso)};
  EXPECT_TRUE(same_layout(a, moved));
  EXPECT_FALSE(same_layout(a, other));
  EXPECT_FALSE(same_layout({}, {}));
  EXPECT_EQ(vdso_ranges(a).size(), 2u);
  EXPECT_TRUE(vdso_ranges(std::vector<Mapping>{a[0]}).empty());
}

TEST(Room, SaysHowMuchIsMissing) {
  EXPECT_GT(free_memory(), uint64_t{1} << 20);
  EXPECT_TRUE(check_room(1));
  auto no = check_room(uint64_t{1} << 60);
  ASSERT_FALSE(no);
  EXPECT_EQ(no.error().kind(), ErrorKind::kNotPossible);
  EXPECT_NE(no.error().message().find("MiB"), std::string::npos);
}

}  // namespace
}  // namespace tess::host
