// Children of a test, and a tracer for them.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "trace/remote_calls.h"
#include "trace/tracer.h"

namespace tess::trace {

using std::chrono::milliseconds;
inline constexpr milliseconds kTimeout(60'000);

struct Shared {
  std::atomic<uint64_t> counter;
  std::atomic<uint32_t> threads;
  std::atomic<uint32_t> go;
  std::atomic<uint32_t> handled;
};

struct Heard : TraceListener {
  std::vector<std::pair<pid_t, pid_t>> forks;
  std::vector<pid_t> execs;
  std::vector<pid_t> stops;
  std::vector<pid_t> continues;
  std::vector<std::pair<pid_t, int>> exits;
  bool hold_at_exec = false;
  uint64_t ended_by_our_stops = ~uint64_t{0};  // which call
  bool has_limit = false;                      // that call
  bool watching = false;
  uint64_t kept_at = ~uint64_t{0};  // the end of which call
  int kept = 0;
  uint64_t put_off_at = ~uint64_t{0};  // the first call of that number
  int put_offs = 0;

  void forked(pid_t parent, pid_t, pid_t child) override { forks.emplace_back(parent, child); }
  bool executed(pid_t pid) override {
    execs.push_back(pid);
    return hold_at_exec;
  }
  void group_stopped(pid_t pid, int) override { stops.push_back(pid); }
  void group_continued(pid_t pid) override { continues.push_back(pid); }
  void exited(pid_t pid, int status) override { exits.emplace_back(pid, status); }
  bool ended_by_stop(const Registers& registers) override {
    return registers.orig_rax == ended_by_our_stops;
  }
  bool waits_without_limit(pid_t, const Registers& registers) override {
    return !has_limit && ended_by_stop(registers);
  }
  bool watches(pid_t) override { return watching; }
  bool postpones(pid_t, pid_t, const Registers& registers) override {
    const bool put_off = registers.orig_rax == put_off_at && put_offs == 0;
    put_offs += put_off ? 1 : 0;
    return put_off;
  }
  bool keeps_at_call_end(pid_t, pid_t, const Registers& registers) override {
    constexpr int64_t kNotImplemented = -38;  // it begins
    const bool keep = kept_at != ~uint64_t{0} && registers.orig_rax == kept_at &&
                      static_cast<int64_t>(registers.rax) != kNotImplemented;
    kept += keep ? 1 : 0;
    return keep;
  }
};

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto hub = WaitHub::create();
    ASSERT_TRUE(hub) << hub.error().message();
    hub_ = std::make_unique<WaitHub>(std::move(*hub));
    tracer_ = std::make_unique<Tracer>(*hub_, heard_);
    void* const page =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    shared_ = new (page) Shared();
  }
  void TearDown() override {
    for (const pid_t pid : children_) {
      ::kill(pid, SIGKILL);
    }
    // The hub reaps; waiting ends when there is no child left.
    int status = 0;
    pid_t tid = 0;
    while ((tid = ::waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
      if (tid > 0 && WIFSTOPPED(status)) {
        (void)::ptrace(PTRACE_DETACH, tid, nullptr, nullptr);  // killed: a stop before its end
      }
    }
    ::munmap(shared_, sizeof(Shared));
  }
  pid_t child(const std::function<void()>& body) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      sigset_t none;
      sigemptyset(&none);
      ::sigprocmask(SIG_SETMASK, &none, nullptr);
      body();
      ::_exit(0);
    }
    children_.push_back(pid);
    return pid;
  }
  template <typename Condition>
  ::testing::AssertionResult until(Condition condition) {
    const Deadline deadline = after(kTimeout);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) {
        return ::testing::AssertionFailure() << "condition not reached";
      }
      tracer_->handle_events();
      std::this_thread::yield();
    }
    return ::testing::AssertionSuccess();
  }
  // An epoll that waits for the reading end of a pipe.
  static int epoll_of_a_pipe(int (&ends)[2]) {
    EXPECT_EQ(::pipe(ends), 0);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{.events = EPOLLIN, .data = {}};
    EXPECT_EQ(::epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event), 0);
    return epoll;
  }
  // In the child: tells how many events the wait has had, and that it is over.
  static void wait_once(Shared* shared, int epoll, int limit_ms = -1) {
    epoll_event happened{};
    shared->threads = static_cast<uint32_t>(::epoll_wait(epoll, &happened, 1, limit_ms));
    shared->handled = 1;
  }
  // The wait goes on: it ends by what is written, and by nothing else.
  void ends_by_writing(int end) {
    EXPECT_EQ(::write(end, "x", 1), 1);
    ASSERT_TRUE(until([&] { return shared_->handled == 1; }));
    EXPECT_EQ(shared_->threads, 1u) << "something else has ended the wait";
  }
  static bool waits_in(pid_t pid, long call) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/syscall");
    long number = -1;
    return (file >> number) && number == call;
  }
  bool counts() {
    const uint64_t before = shared_->counter;
    return static_cast<bool>(until([&] { return shared_->counter != before; }));
  }

  Heard heard_;
  std::unique_ptr<WaitHub> hub_;
  std::unique_ptr<Tracer> tracer_;
  Shared* shared_ = nullptr;
  std::vector<pid_t> children_;
};

}  // namespace tess::trace
