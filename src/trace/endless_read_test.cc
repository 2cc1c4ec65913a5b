#include <fcntl.h>
#include <sys/random.h>
#include <sys/uio.h>

#include <array>

#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

constexpr size_t kSize = 8 << 20;

class EndlessReadTest : public TraceTest {
 protected:
  // Counts reads; `handled` becomes 1 when one of them has given less than it was to.
  pid_t reader(const std::function<ssize_t(std::byte*)>& read) {
    Shared* const shared = shared_;
    return child([shared, &read] {
      ::signal(SIGUSR1, SIG_IGN);
      std::vector<std::byte> buffer(kSize);
      while (shared->go == 0) {
        if (read(buffer.data()) != static_cast<ssize_t>(kSize)) {
          shared->handled = 1;
        }
        ++shared->counter;
      }
    });
  }
  void disturb(pid_t pid) {
    for (int turn = 0; turn < 20; ++turn) {
      ASSERT_TRUE(tracer_->seize(pid, true));
      ASSERT_TRUE(counts());
      ASSERT_TRUE(tracer_->with_stopped(pid, kTimeout, [](const Tracee&) { return Result<>(); }));
      ASSERT_TRUE(counts());
      ASSERT_TRUE(tracer_->hold(pid, kTimeout));
      ASSERT_TRUE(tracer_->release(pid));
      ASSERT_TRUE(counts());
      ASSERT_EQ(::kill(pid, turn % 2 != 0 ? SIGUSR1 : SIGWINCH), 0);
      ASSERT_TRUE(counts());
      ASSERT_TRUE(tracer_->detach(pid));
      ASSERT_TRUE(counts());
    }
    EXPECT_EQ(shared_->handled, 0u) << "a read was cut short";
  }
};

TEST_F(EndlessReadTest, OfADeviceIsWhole) {
  const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  disturb(reader([fd](std::byte* to) { return ::read(fd, to, kSize); }));
}

TEST_F(EndlessReadTest, OfADeviceInPiecesIsWhole) {
  const int fd = ::open("/dev/full", O_RDONLY | O_CLOEXEC);
  disturb(reader([fd](std::byte* to) {
    const std::array<iovec, 2> pieces = {iovec{to, kSize / 2}, iovec{to + kSize / 2, kSize / 2}};
    return ::readv(fd, pieces.data(), pieces.size());
  }));
}

TEST_F(EndlessReadTest, OfRandomBytesIsWhole) {
  disturb(reader([](std::byte* to) { return ::getrandom(to, kSize, 0); }));
}

}  // namespace
}  // namespace tess::trace
