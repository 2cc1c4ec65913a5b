// The end of tracing leaves waits alone.
#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

pid_t tracer_of(pid_t tid) {
  std::ifstream status("/proc/" + std::to_string(tid) + "/status");
  std::string key;
  pid_t tracer = -1;
  while (status >> key) {
    if (key == "TracerPid:") {
      status >> tracer;
      break;
    }
  }
  return tracer;
}

class LetGoTest : public TraceTest {
 protected:
  // The child calls getppid and then `wait`, and stands at the entry of that, held.
  pid_t at_its_wait(const std::function<void()>& wait) {
    Shared* const shared = shared_;
    const pid_t pid = child([shared, &wait] {
      while (shared->go == 0) {
      }
      ::syscall(SYS_getppid);
      wait();
      ::pause();
    });
    EXPECT_TRUE(tracer_->seize(pid, true));
    EXPECT_TRUE(tracer_->hold(pid, kTimeout));
    EXPECT_TRUE(tracer_->release_until(pid, [](const Registers& registers) {
      return registers.orig_rax == SYS_getppid &&
             static_cast<int64_t>(registers.rax) == static_cast<int64_t>(::getpid());
    }));
    shared->go = 1;
    EXPECT_TRUE(until([&] { return tracer_->all_held(pid); }));
    EXPECT_TRUE(tracer_->hold(pid, kTimeout));
    const Tracer::Entry entry{.into = [](const Registers&) { return true; },
                              .before = [](const Tracee&, int) {}};
    EXPECT_TRUE(tracer_->enter_calls(pid, entry, kTimeout));
    return pid;
  }
  static bool is_epoll_wait(const Registers& registers) {
    return registers.orig_rax == SYS_epoll_wait;
  }
};

TEST_F(LetGoTest, AWaitThatAWakeWouldEndIsTracedUntilItIsOver) {
  Shared* const shared = shared_;
  int ends[2];
  const int epoll = epoll_of_a_pipe(ends);
  const pid_t pid = at_its_wait([shared, epoll] { wait_once(shared, epoll); });
  ASSERT_TRUE(tracer_->detach_after_calls(pid, is_epoll_wait));
  EXPECT_EQ(tracer_of(pid), ::getpid());
  ASSERT_NO_FATAL_FAILURE(ends_by_writing(ends[1]));
  ASSERT_TRUE(until([&] { return tracer_of(pid) == 0; }));
  EXPECT_FALSE(tracer_->traced(pid));
}

TEST_F(LetGoTest, AWaitThatIsTracedUntilItIsOverGoesOnIfItIsLetGoSooner) {
  Shared* const shared = shared_;
  int ends[2];
  const int epoll = epoll_of_a_pipe(ends);
  heard_.ended_by_our_stops = SYS_epoll_wait;
  const pid_t pid = at_its_wait([shared, epoll] { wait_once(shared, epoll); });
  ASSERT_TRUE(tracer_->detach_after_calls(pid, is_epoll_wait));
  ASSERT_TRUE(tracer_->detach(pid));
  EXPECT_EQ(tracer_of(pid), 0);
  EXPECT_FALSE(tracer_->traced(pid));
  ASSERT_NO_FATAL_FAILURE(ends_by_writing(ends[1]));
}

TEST_F(LetGoTest, AWaitThatOurOwnStopHasEndedIsMadeAgain) {
  Shared* const shared = shared_;
  int ends[2];
  const int epoll = epoll_of_a_pipe(ends);
  heard_.ended_by_our_stops = SYS_epoll_wait;
  const pid_t pid = child([shared, epoll] {
    wait_once(shared, epoll);
    ::pause();
  });
  const auto waits = [pid] { return waits_in(pid, SYS_epoll_wait); };
  for (int turn = 0; turn < 3; ++turn) {
    ASSERT_TRUE(until(waits));
    ASSERT_TRUE(tracer_->seize(pid, true));
    if (turn == 1) {
      ASSERT_TRUE(tracer_->hold(pid, kTimeout));
      ASSERT_TRUE(tracer_->release(pid));
      ASSERT_TRUE(until(waits));
    }
    ASSERT_TRUE(tracer_->detach(pid));
  }
  ASSERT_TRUE(until(waits));
  EXPECT_EQ(shared->handled, 0u);
  ASSERT_NO_FATAL_FAILURE(ends_by_writing(ends[1]));
}

TEST_F(LetGoTest, AWaitIsNotEndedByASignalThatIsIgnored) {
  Shared* const shared = shared_;
  int ends[2];
  const int epoll = epoll_of_a_pipe(ends);
  heard_.ended_by_our_stops = SYS_epoll_wait;
  const pid_t pid = child([shared, epoll] {
    ::signal(SIGUSR1, SIG_IGN);
    ::signal(SIGUSR2, [](int) {});
    wait_once(shared, epoll);
    wait_once(shared, epoll);
    ::pause();
  });
  const auto sleeps_in_wait = [pid] { return waits_in(pid, SYS_epoll_wait); };
  ASSERT_TRUE(tracer_->seize(pid, true));
  for (const int ignored : {SIGUSR1, SIGCHLD, SIGWINCH}) {
    ASSERT_TRUE(until(sleeps_in_wait));
    ASSERT_EQ(::kill(pid, ignored), 0);
    ASSERT_TRUE(until([&] { return signal_masks(pid).pending == 0; }));
  }
  ASSERT_TRUE(until(sleeps_in_wait));
  EXPECT_EQ(shared->handled, 0u);
  ASSERT_EQ(::kill(pid, SIGUSR2), 0);  // a handler ends it
  ASSERT_TRUE(until([&] { return shared->handled == 1; }));
  EXPECT_EQ(static_cast<int32_t>(shared->threads), -1);
  shared->handled = 0;
  ASSERT_NO_FATAL_FAILURE(ends_by_writing(ends[1]));
}

TEST_F(LetGoTest, AWaitThatTheKernelRepeatsIsLetGoAtOnce) {
  Shared* const shared = shared_;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const pid_t pid = at_its_wait([shared, &ends] {
    char byte = 0;
    shared->threads = static_cast<uint32_t>(::read(ends[0], &byte, 1));
    shared->handled = 1;
  });
  ASSERT_TRUE(tracer_->detach_after_calls(pid, [](const Registers&) { return false; }));
  EXPECT_EQ(tracer_of(pid), 0);
  EXPECT_FALSE(tracer_->traced(pid));
  EXPECT_EQ(shared->handled, 0u);
  EXPECT_EQ(::write(ends[1], "x", 1), 1);
  ASSERT_TRUE(until([&] { return shared->handled == 1; }));
  EXPECT_EQ(shared->threads, 1u);
}

}  // namespace
}  // namespace tess::trace
