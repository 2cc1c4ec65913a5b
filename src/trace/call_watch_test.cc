// The ends of a running process's calls, shown while it goes on.
#include <sys/wait.h>

#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

class CallWatchTest : public TraceTest {
 protected:
  // A child that calls getppid() and is kept at its end.
  void keep_one(pid_t* pid) {
    Shared* const shared = shared_;
    *pid = child([shared] {
      shared->threads = 1;
      while (shared->go == 0) {
      }
      ::getppid();
      shared->handled = 1;
      ::pause();
    });
    ASSERT_TRUE(tracer_->seize(*pid, false));
    ASSERT_TRUE(until([&] { return shared->threads == 1; }));
    heard_.watching = true;
    heard_.kept_at = SYS_getppid;
    tracer_->begin_watch(*pid);
    shared->go = 1;
    ASSERT_TRUE(until([&] { return heard_.kept == 1; }));
  }
};

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

TEST_F(CallWatchTest, AThreadIsKeptAtTheEndOfItsCallUntilItIsLetGo) {
  pid_t pid = 0;
  ASSERT_NO_FATAL_FAILURE(keep_one(&pid));
  // Whoever holds the process and lets it go does not let this thread go.
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  ASSERT_TRUE(tracer_->release(pid));
  ASSERT_EQ(::kill(pid, SIGWINCH), 0);
  tracer_->handle_events();
  EXPECT_EQ(shared_->handled, 0u);
  heard_.watching = false;
  tracer_->let_kept_go(pid, pid);
  ASSERT_TRUE(until([&] { return shared_->handled == 1; }));
  EXPECT_EQ(heard_.kept, 1);
}

TEST_F(CallWatchTest, ACallIsPutOffAndMadeOnceWhenItsThreadIsLetGo) {
  Shared* const shared = shared_;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t pid = child([shared, end = ends[1]] {
    shared->threads = 1;
    while (shared->go == 0) {
    }
    shared->counter = static_cast<uint64_t>(::write(end, "once", 4));
    shared->handled = 1;
    ::pause();
  });
  ASSERT_TRUE(tracer_->seize(pid, false));
  ASSERT_TRUE(until([&] { return shared->threads == 1; }));
  heard_.watching = true;
  heard_.put_off_at = SYS_write;
  tracer_->begin_watch(pid);
  shared->go = 1;
  ASSERT_TRUE(until([&] { return heard_.put_offs == 1; }));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  // It stands before the call, as anybody would find it who has it go on elsewhere.
  const auto registers = Tracee::attached(pid).registers();
  ASSERT_TRUE(registers);
  EXPECT_EQ(registers->rax, uint64_t{SYS_write});
  EXPECT_EQ(registers->orig_rax, ~uint64_t{0});
  EXPECT_EQ(registers->rdx, 4u);
  ASSERT_TRUE(tracer_->release(pid));
  EXPECT_EQ(shared->handled, 0u);
  tracer_->let_kept_go(pid, pid);
  ASSERT_TRUE(until([&] { return shared->handled == 1; }));
  EXPECT_EQ(shared->counter, 4u);
  char text[8] = {};
  EXPECT_EQ(::read(ends[0], text, sizeof(text)), 4);
  EXPECT_STREQ(text, "once");
}

TEST_F(CallWatchTest, AKeptThreadDiesWithItsProcess) {
  pid_t pid = 0;
  ASSERT_NO_FATAL_FAILURE(keep_one(&pid));
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(until([&] { return !heard_.exits.empty(); }));
  tracer_->let_kept_go(pid, pid);  // nobody
}

TEST_F(CallWatchTest, AWaitWithATimeLimitIsNotDisturbed) {
  Shared* const shared = shared_;
  heard_.ended_by_our_stops = SYS_epoll_wait;
  heard_.has_limit = true;
  int ends[2];
  const int epoll = epoll_of_a_pipe(ends);
  const pid_t pid = child([shared, epoll] {
    wait_once(shared, epoll, 60'000);
    ::pause();
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(until([&] { return waits_in(pid, SYS_epoll_wait); }));
  int shown = 0;
  tracer_->watch_calls(pid, [&](const Registers&) {
    ++shown;
    return false;
  });
  ASSERT_NO_FATAL_FAILURE(ends_by_writing(ends[1]));
  EXPECT_EQ(shown, 0);
}

}  // namespace
}  // namespace tess::trace
