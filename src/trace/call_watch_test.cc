// The ends of a running process's calls, shown while it goes on.
#include <sys/epoll.h>
#include <sys/wait.h>

#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

class CallWatchTest : public TraceTest {};

TEST_F(CallWatchTest, AWaitThatHasBegunIsShownWhenItEnds) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      while (shared->go == 0) {
      }
      ::_exit(0);
    }
    shared->threads = 1;
    int status = 0;
    shared->handled = ::wait4(grandchild, &status, 0, nullptr) == grandchild ? 1 : 2;
    ::pause();
  });
  ASSERT_TRUE(tracer_->seize(pid, false));
  ASSERT_TRUE(until([&] { return shared->threads == 1; }));
  int shown = 0;
  pid_t waited_for = 0;
  tracer_->watch_calls(pid, [&](const Registers& registers) {
    ++shown;
    const auto result = static_cast<int64_t>(registers.rax);
    if (registers.orig_rax != SYS_wait4 || result <= 0) {
      return false;
    }
    waited_for = static_cast<pid_t>(result);
    return true;
  });
  shared->go = 1;
  ASSERT_TRUE(until([&] { return waited_for != 0 && shared->handled != 0; }));
  EXPECT_EQ(shared->handled, 1u);
  // It has seen enough: later calls are not shown.
  const int by_then = shown;
  ASSERT_EQ(::kill(pid, SIGWINCH), 0);
  ASSERT_TRUE(until([&] { return signal_masks(pid).pending == 0; }));
  EXPECT_EQ(shown, by_then);
}

TEST_F(CallWatchTest, AWaitWithATimeLimitIsNotDisturbed) {
  Shared* const shared = shared_;
  heard_.ended_by_our_stops = SYS_epoll_wait;
  heard_.has_limit = true;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{.events = EPOLLIN, .data = {}};
  ASSERT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), 0);
  const pid_t pid = child([shared, epoll] {
    epoll_event happened{};
    shared->threads = static_cast<uint32_t>(::epoll_wait(epoll, &happened, 1, 60'000));
    shared->handled = 1;
    ::pause();
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(until([&] { return waits_in(pid, SYS_epoll_wait); }));
  int shown = 0;
  tracer_->watch_calls(pid, [&](const Registers&) {
    ++shown;
    return false;
  });
  ASSERT_EQ(::write(ends[1], "x", 1), 1);
  ASSERT_TRUE(until([&] { return shared->handled == 1; }));
  EXPECT_EQ(shared->threads, 1u);
  EXPECT_EQ(shown, 0);
}

}  // namespace
}  // namespace tess::trace
