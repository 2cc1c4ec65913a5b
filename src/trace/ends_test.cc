// The end of traced processes, as their parents see it.
#include <poll.h>
#include <pthread.h>

#include <algorithm>

#include "sys/process.h"
#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

class EndsTest : public TraceTest {
 protected:
  // Its first thread is over, another one counts, and does `at_go` when it is told to.
  pid_t without_leader(const std::function<void()>& at_go) {
    Shared* const shared = shared_;
    const pid_t pid = child([shared, &at_go] {
      std::thread([shared, &at_go] {
        while (shared->go == 0) {
          ++shared->counter;
        }
        at_go();
      }).detach();
      ::syscall(SYS_exit, 0);
    });
    return pid;
  }
  static bool leader_is_over(pid_t pid) { return ::kill(pid, 0) == 0 && sys::has_ended(pid, pid); }
  bool exit_told(pid_t pid) {
    return std::any_of(heard_.exits.begin(), heard_.exits.end(),
                       [pid](const auto& exit) { return exit.first == pid; });
  }
};

// GLib looks at once, with WNOHANG, and takes nothing for status 0.
TEST_F(EndsTest, AParentToldByAPidfdFindsItsChild) {
  constexpr int kRounds = 100;
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (shared->go == 0) {
    }
    for (int round = 0; round < kRounds; ++round) {
      const pid_t made = ::fork();
      if (made == 0) {
        ::_exit(round);
      }
      pollfd ended{.fd = static_cast<int>(::syscall(SYS_pidfd_open, made, 0)),
                   .events = POLLIN,
                   .revents = 0};
      while (::poll(&ended, 1, -1) != 1) {
      }
      siginfo_t info{};
      ::waitid(P_PID, static_cast<id_t>(made), &info, WEXITED | WNOHANG);
      shared->handled += info.si_pid == made && info.si_status == round ? 1 : 0;
      ::close(ended.fd);
      ++shared->threads;
    }
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  shared->go = 1;
  ASSERT_TRUE(until([&] { return shared->threads == kRounds; }));
  EXPECT_EQ(shared->handled, static_cast<uint32_t>(kRounds));
  ASSERT_TRUE(until([&] { return exit_told(pid); }));
  EXPECT_EQ(heard_.exits.size(), static_cast<size_t>(kRounds) + 1) << "each end is told once";
}

TEST_F(EndsTest, AProcessWhoseLeaderEndedWhileTracedIsHeldAndTheEndIsToldLast) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    std::thread([shared] {
      while (shared->go < 2) {
        ++shared->counter;
      }
      ::_exit(3);
    }).detach();
    while (shared->go == 0) {
    }
    ::syscall(SYS_exit, 0);
  });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  shared->go = 1;
  ASSERT_TRUE(until([&] { return leader_is_over(pid); }));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  const auto left = tracer_->threads(pid);
  ASSERT_EQ(left.size(), 1u);
  EXPECT_NE(left[0], pid);
  EXPECT_FALSE(exit_told(pid));
  ASSERT_TRUE(tracer_->release(pid));
  ASSERT_TRUE(counts());
  shared->go = 2;
  ASSERT_TRUE(until([&] { return exit_told(pid); }));
  EXPECT_FALSE(tracer_->traced(pid));
}

TEST_F(EndsTest, TheEndOfAProcessTakenAfterItsLeadersEndIsToldToo) {
  const pid_t pid = without_leader([] { ::_exit(0); });
  ASSERT_TRUE(until([&] { return leader_is_over(pid); }));
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  ASSERT_TRUE(tracer_->release(pid));
  shared_->go = 1;
  ASSERT_TRUE(until([&] { return exit_told(pid); }));
  EXPECT_FALSE(tracer_->traced(pid));
}

TEST_F(EndsTest, AnotherThreadThatExecutesAProgramTakesTheLeadersPlace) {
  const pid_t pid = without_leader([] { ::execl("/bin/sleep", "sleep", "1000", nullptr); });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  shared_->go = 1;
  ASSERT_TRUE(until([&] { return !heard_.execs.empty(); }));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  EXPECT_EQ(tracer_->threads(pid), std::vector<pid_t>{pid});
  EXPECT_FALSE(exit_told(pid));
  ASSERT_TRUE(tracer_->release(pid));
  ::kill(pid, SIGTERM);
  ASSERT_TRUE(until([&] { return exit_told(pid); }));
}

TEST_F(EndsTest, AKilledProcessIsToldOfWhileItsThreadsAreHeld) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    std::thread([shared] {
      while (true) {
        ++shared->counter;
      }
    }).join();
  });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(until([&] { return exit_told(pid); }));
  EXPECT_TRUE(WIFSIGNALED(heard_.exits.back().second));
  EXPECT_EQ(WTERMSIG(heard_.exits.back().second), SIGKILL);
}

}  // namespace
}  // namespace tess::trace
