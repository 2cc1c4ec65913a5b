// Page maps, page sources and sinks on a real child process.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <map>

#include "memory/content_hash.h"
#include "memory/page_sink.h"
#include "memory/page_source.h"
#include "memory/pagemap.h"

namespace tess::memory {
namespace {

constexpr size_t kPages = 64;
constexpr size_t kSize = kPages * kPageSize;

std::byte* map(int flags, int fd = -1, int prot = PROT_READ | PROT_WRITE) {
  void* at = ::mmap(nullptr, kSize, prot, flags, fd, 0);
  EXPECT_NE(at, MAP_FAILED);
  return static_cast<std::byte*>(at);
}

int temporary_file(size_t size) {
  char name[] = "/tmp/tess-pages-XXXXXX";
  const int fd = ::mkstemp(name);
  ::unlink(name);
  std::vector<char> content(size);
  for (size_t i = 0; i < size; ++i) {
    content[i] = static_cast<char>('a' + i / kPageSize % 26);
  }
  EXPECT_EQ(::write(fd, content.data(), size), static_cast<ssize_t>(size));
  return fd;
}

Mapping mapping_at(const std::byte* address) {
  auto mappings = read_address_space(::getpid());
  EXPECT_TRUE(mappings);
  for (const Mapping& mapping : *mappings) {
    if (mapping.start <= reinterpret_cast<uint64_t>(address) &&
        reinterpret_cast<uint64_t>(address) < mapping.end) {
      return mapping;
    }
  }
  ADD_FAILURE() << "not mapped";
  return {};
}

// Index of the page in the mapping -> its first byte.
std::map<size_t, std::byte> read_all(const PageSource& source, const Mapping& mapping,
                                     uint32_t run_max = 1 << 20) {
  std::map<size_t, std::byte> found;
  auto done = source.read_pages(
      mapping, run_max, [&](uint64_t address, std::span<const std::byte> pages) -> Result<> {
        EXPECT_LE(pages.size(), run_max);
        for (size_t at = 0; at < pages.size(); at += kPageSize) {
          found[(address + at - mapping.start) / kPageSize] = pages[at];
        }
        return {};
      });
  EXPECT_TRUE(done) << done.error().message();
  return found;
}

class Pages : public testing::TestWithParam<Pagemap::Method> {
 protected:
  void SetUp() override {
    auto opened = PageSource::open(::getpid(), GetParam());
    if (!opened && opened.error().kind() == ErrorKind::kNotPossible) {
      GTEST_SKIP() << opened.error().message();
    }
    ASSERT_TRUE(opened) << opened.error().message();
    source_ = std::make_unique<PageSource>(std::move(*opened));
  }
  std::unique_ptr<PageSource> source_;
};

TEST_P(Pages, AnonymousPagesThatAreNotZero) {
  // A guard page on each side keeps the kernel from joining it with a neighbour.
  std::byte* area = map(MAP_PRIVATE | MAP_ANONYMOUS);
  ::mprotect(area, kPageSize, PROT_NONE);
  ::mprotect(area + kSize - kPageSize, kPageSize, PROT_NONE);
  area[3 * kPageSize] = std::byte{7};
  area[4 * kPageSize + 100] = std::byte{8};
  area[9 * kPageSize] = std::byte{0};                          // touched, still zero
  [[maybe_unused]] volatile auto read = area[12 * kPageSize];  // the zero page
  area[60 * kPageSize] = std::byte{9};
  const auto found = read_all(*source_, mapping_at(area + kPageSize));
  const std::map<size_t, std::byte> wanted = {
      {2, std::byte{7}}, {3, std::byte{0}}, {59, std::byte{9}}};
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(read_all(*source_, mapping_at(area + kPageSize), kPageSize), wanted);
  ::munmap(area, kSize);
}

TEST_P(Pages, UnreadableMemoryTravelsToo) {
  std::byte* area = map(MAP_PRIVATE | MAP_ANONYMOUS);
  area[5 * kPageSize] = std::byte{1};
  ::mprotect(area, kSize, PROT_NONE);
  const Mapping mapping = mapping_at(area);
  const auto found = read_all(*source_, mapping);
  EXPECT_EQ(found.size(), 1u);
  ::munmap(area, kSize);
}

TEST_P(Pages, OnlyCopiedPagesOfAPrivateFile) {
  const int fd = temporary_file(kSize / 2);
  std::byte* area = map(MAP_PRIVATE, fd);
  [[maybe_unused]] volatile auto read = area[2 * kPageSize];
  area[5 * kPageSize] = std::byte{0};
  std::memset(area + 6 * kPageSize, 0, kPageSize);
  Mapping mapping = mapping_at(area);
  mapping.content_hash.assign(32, 'x');
  auto found = read_all(*source_, mapping);
  EXPECT_EQ(found, (std::map<size_t, std::byte>{{5, std::byte{0}}, {6, std::byte{0}}}))
      << "a page written to zero differs from the file";
  // Without a promise about its content every page of the file travels; those beyond its end do not
  // exist.
  mapping.content_hash.clear();
  found = read_all(*source_, mapping);
  EXPECT_EQ(found.size(), kPages / 2);
  EXPECT_EQ(found[1], static_cast<std::byte>('b'));
  ::munmap(area, kSize);
  ::close(fd);
}

TEST_P(Pages, SharedDataWhetherMappedOrNot) {
  const int fd = static_cast<int>(::syscall(SYS_memfd_create, "x", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd, kSize), 0);
  const char byte = 'q';
  ASSERT_EQ(::pwrite(fd, &byte, 1, 7 * kPageSize), 1);  // never touched through the mapping
  std::byte* area = map(MAP_SHARED, fd);
  area[20 * kPageSize] = std::byte{3};
  const auto found = read_all(*source_, mapping_at(area));
  EXPECT_EQ(found,
            (std::map<size_t, std::byte>{{7, static_cast<std::byte>('q')}, {20, std::byte{3}}}));
  ::munmap(area, kSize);
  ::close(fd);
}

TEST_P(Pages, PagemapsAgree) {
  std::byte* area = map(MAP_PRIVATE | MAP_ANONYMOUS);
  for (size_t i = 0; i < kPages; i += 3) {
    area[i * kPageSize] = std::byte{1};
  }
  const auto start = reinterpret_cast<uint64_t>(area);
  auto mine = Pagemap::open(::getpid(), GetParam());
  auto plain = Pagemap::open(::getpid(), Pagemap::Method::kPlain);
  ASSERT_TRUE(mine && plain);
  auto a = mine->scan(start, start + kSize);
  auto b = plain->scan(start, start + kSize);
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(a->size(), (kPages + 2) / 3);
  ::munmap(area, kSize);
}

INSTANTIATE_TEST_SUITE_P(Methods, Pages,
                         testing::Values(Pagemap::Method::kScan, Pagemap::Method::kPlain),
                         [](const auto& method) {
                           return method.param == Pagemap::Method::kScan ? "Scan" : "Plain";
                         });

// The child shares what was mapped before the fork; the test writes into the child's copy.
class SinkTest : public testing::Test {
 protected:
  void start(const std::function<void()>& before_wait) {
    ASSERT_EQ(::pipe(ready_), 0);
    ASSERT_EQ(::pipe(go_), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      before_wait();
      char byte = 0;
      (void)!::write(ready_[1], &byte, 1);
      (void)!::read(go_[0], &byte, 1);
      ::_exit(check_ ? check_() : 0);
    }
    char byte;
    ASSERT_EQ(::read(ready_[0], &byte, 1), 1);
  }
  int finish() {
    char byte = 0;
    EXPECT_EQ(::write(go_[1], &byte, 1), 1);
    int status = 0;
    EXPECT_EQ(::waitpid(child_, &status, 0), child_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void TearDown() override {
    for (int fd : {ready_[0], ready_[1], go_[0], go_[1]}) {
      ::close(fd);
    }
  }
  sys::Fd child_userfault() {
    // The child's number is known: it is opened right after the fork, where we have the same
    // descriptors.
    const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, child_, 0));
    sys::Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, kChildFd, 0)));
    EXPECT_TRUE(fd.valid());
    ::close(pidfd);
    return fd;
  }

  static constexpr int kChildFd = 200;
  pid_t child_ = -1;
  int ready_[2], go_[2];
  std::function<int()> check_;
};

TEST_F(SinkTest, CopiesThroughUserfaultAndWritesTheRest) {
  const int memfd = static_cast<int>(::syscall(SYS_memfd_create, "tess:1:2:3", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(memfd, kSize), 0);
  const int file = temporary_file(kSize);
  std::byte* anonymous = map(MAP_PRIVATE | MAP_ANONYMOUS);
  std::byte* private_memfd = map(MAP_PRIVATE, memfd, PROT_READ | PROT_EXEC);
  std::byte* shared_memfd = map(MAP_SHARED, memfd);
  std::byte* on_disk = map(MAP_PRIVATE, file, PROT_READ);
  check_ = [=] {
    const std::byte* areas[] = {anonymous, private_memfd, shared_memfd, on_disk};
    for (int i = 0; i < 4; ++i) {
      if (areas[i][3 * kPageSize] != std::byte(10 + i) ||
          areas[i][63 * kPageSize + 4095] != std::byte(20 + i)) {
        return 1 + i;
      }
    }
    return anonymous[kPageSize] == std::byte{99} ? 0 : 9;
  };
  start([&] {
    anonymous[kPageSize] = std::byte{1};  // is there already when the page comes
    const int fd = static_cast<int>(::syscall(SYS_userfaultfd, ProcessSink::kUserfaultFlags));
    ::dup2(fd, kChildFd);
  });
  auto sink = ProcessSink::create(child_, child_userfault());
  ASSERT_TRUE(sink) << sink.error().message();
  const auto at = [](const std::byte* p) { return reinterpret_cast<uint64_t>(p); };
  for (std::byte* area : {anonymous, private_memfd, shared_memfd}) {
    ASSERT_TRUE(sink->register_range(at(area), at(area) + kSize));
  }
  auto refused = sink->register_range(at(on_disk), at(on_disk) + kSize);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind(), ErrorKind::kNotPossible);
  std::vector<std::byte> pages(kSize);
  std::byte* areas[] = {anonymous, private_memfd, shared_memfd, on_disk};
  for (int i = 0; i < 4; ++i) {
    pages[kPageSize] = std::byte{99};
    pages[3 * kPageSize] = std::byte(10 + i);
    pages[kSize - 1] = std::byte(20 + i);
    auto put = sink->put(at(areas[i]), pages);
    ASSERT_TRUE(put) << i << ": " << put.error().message();
  }
  ASSERT_TRUE(sink->unregister_all());
  EXPECT_EQ(finish(), 0);
  ::close(memfd);
  ::close(file);
}

TEST_F(SinkTest, ARunMaySpanRegisteredAndOtherMemory) {
  std::byte* area = map(MAP_PRIVATE | MAP_ANONYMOUS);
  check_ = [=] {
    for (size_t i = 0; i < kPages; ++i) {
      if (area[i * kPageSize] != std::byte(i + 1)) {
        return 1;
      }
    }
    return 0;
  };
  start([&] { ::dup2(static_cast<int>(::syscall(SYS_userfaultfd, 1)), kChildFd); });
  auto sink = ProcessSink::create(child_, child_userfault());
  ASSERT_TRUE(sink);
  const auto start_address = reinterpret_cast<uint64_t>(area);
  ASSERT_TRUE(sink->register_range(start_address + 8 * kPageSize, start_address + 16 * kPageSize));
  ASSERT_TRUE(sink->register_range(start_address + 40 * kPageSize, start_address + 41 * kPageSize));
  std::vector<std::byte> pages(kSize);
  for (size_t i = 0; i < kPages; ++i) {
    pages[i * kPageSize] = std::byte(i + 1);
  }
  ASSERT_TRUE(sink->put(start_address, pages));
  ASSERT_TRUE(sink->unregister_all());
  EXPECT_EQ(finish(), 0);
}

TEST(ContentHash, RemembersByIdentityAndNoticesChange) {
  char dir[] = "/tmp/tess-hash-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  const ContentHasher hasher(std::string(dir) + "/cache");
  const sys::Fd file(temporary_file(3 * kPageSize + 10));
  auto first = hasher.hash(file, kPageSize, 8 * kPageSize);
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(first->length, 2 * kPageSize + 10);
  std::string expected(kPageSize, 'b');
  expected += std::string(kPageSize, 'c') + std::string(10, 'd');
  EXPECT_EQ(first->hash, sha256(expected));
  EXPECT_EQ(hasher.hash(file, kPageSize, 8 * kPageSize)->hash, first->hash);
  ASSERT_EQ(::pwrite(file.get(), "X", 1, kPageSize), 1);
  EXPECT_NE(hasher.hash(file, kPageSize, 8 * kPageSize)->hash, first->hash);
  EXPECT_EQ(hasher.hash(file, 100 * kPageSize, kPageSize)->length, 0u);
  ASSERT_EQ(::system(fmt::format("rm -r {}", dir).c_str()), 0);
}

}  // namespace
}  // namespace tess::memory
