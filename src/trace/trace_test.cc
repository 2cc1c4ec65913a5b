// With real children: threads, system calls in them, exec, fork, stops and sudden death.
#include "trace/trace_fixture.h"

namespace tess::trace {
namespace {

// A kick that finds its thread ended must not leave a hold behind, in which later stops are kept.
TEST_F(TraceTest, AThreadThatEndsBeforeItIsStoppedLeavesNoHold) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (true) {
      ++shared->threads;
      std::thread([shared] { ++shared->counter; }).join();
    }
  });
  ASSERT_TRUE(until([&] { return shared_->threads > 0; }));
  ASSERT_TRUE(tracer_->seize(pid, true));
  int missed = 0;
  const auto deadline = after(kTimeout);
  while (missed < 5 && std::chrono::steady_clock::now() < deadline) {
    tracer_->handle_events();
    for (const pid_t tid : tracer_->threads(pid)) {
      if (tid != pid) {
        // Its end is collected here, while the tracer has not heard of it yet. One that has not
        // begun waits for the tracer: next time.
        const std::string path = "/proc/" + std::to_string(tid);
        const auto patience = after(std::chrono::milliseconds(20));
        while (::access(path.c_str(), F_OK) == 0 && std::chrono::steady_clock::now() < patience) {
          (void)tracer_->hub().wait_for_any([](pid_t) { return false; },
                                            after(std::chrono::milliseconds(1)));
        }
        const auto stopped =
            tracer_->with_stopped(tid, kTimeout, [](const Tracee&) { return Result<>(); });
        missed += stopped ? 0 : 1;
        EXPECT_FALSE(tracer_->held(pid));
      }
    }
  }
  EXPECT_GT(missed, 0);
  EXPECT_TRUE(counts());
  EXPECT_TRUE(tracer_->detach(pid));
}

TEST_F(TraceTest, HoldsAndReleasesManyThreads) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 7; ++i) {
      threads.emplace_back([shared] {
        ++shared->threads;
        while (true) {
          ++shared->counter;
        }
      });
    }
    threads[0].join();
  });
  ASSERT_TRUE(until([&] { return shared_->threads == 7; }));
  ASSERT_TRUE(tracer_->seize(pid, true));
  EXPECT_EQ(tracer_->threads(pid).size(), 8u);
  EXPECT_EQ(tracer_->threads(pid)[0], pid);
  for (int round = 0; round < 20; ++round) {
    const auto held = tracer_->hold(pid, kTimeout);
    ASSERT_TRUE(held) << held.error().message();
    const uint64_t before = shared_->counter;
    timespec little{.tv_sec = 0, .tv_nsec = 1'000'000};
    ::nanosleep(&little, nullptr);
    EXPECT_EQ(shared_->counter, before) << "a thread ran while held";
    ASSERT_TRUE(tracer_->release(pid));
    ASSERT_TRUE(counts());
  }
  ASSERT_TRUE(tracer_->detach(pid));
  EXPECT_FALSE(tracer_->traced(pid));
  ASSERT_TRUE(counts());
}

TEST_F(TraceTest, HoldsAProcessThatKeepsMakingThreads) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (true) {
      std::vector<std::thread> threads;
      for (int i = 0; i < 4; ++i) {
        threads.emplace_back([shared] { ++shared->counter; });
      }
      for (std::thread& thread : threads) {
        thread.join();
      }
    }
  });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  for (int round = 0; round < 30; ++round) {
    const auto held = tracer_->hold(pid, kTimeout);
    ASSERT_TRUE(held) << held.error().message();
    // Threads that have ended may stay listed until their exit is collected; none that lives is
    // missing.
    const auto traced = tracer_->threads(pid);
    for (const pid_t tid : list_threads(pid)) {
      EXPECT_NE(std::find(traced.begin(), traced.end(), tid), traced.end());
    }
    ASSERT_TRUE(tracer_->release(pid));
    ASSERT_TRUE(counts());
  }
  ASSERT_TRUE(tracer_->detach(pid));
  ASSERT_TRUE(counts());
}

TEST_F(TraceTest, RemoteCallsLeaveNoTrace) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (true) {
      ++shared->counter;
    }
  });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  const auto site = find_syscall_site(pid);
  ASSERT_TRUE(site);
  const Tracee tracee = Tracee::attached(pid);
  const auto before = tracee.registers();
  {
    auto calls = RemoteCalls::begin(*hub_, tracee, *site);
    ASSERT_TRUE(calls);
    const auto answer = calls->call("getpid", SYS_getpid, {});
    ASSERT_TRUE(answer) << answer.error().message();
    EXPECT_EQ(*answer, static_cast<uint64_t>(pid));
    const auto bad = calls->call("close", SYS_close, {~uint64_t{0}});
    ASSERT_FALSE(bad);
    EXPECT_EQ(bad.error().sys_errno(), EBADF);
    const auto map = calls->call(
        "mmap", SYS_mmap, {0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, ~uint64_t{0}, 0});
    ASSERT_TRUE(map);
    ASSERT_TRUE(calls->call("munmap", SYS_munmap, {*map, 4096}));
  }
  const auto after_calls = tracee.registers();
  ASSERT_TRUE(before && after_calls);
  EXPECT_EQ(before->rip, after_calls->rip);
  EXPECT_EQ(before->rsp, after_calls->rsp);
  EXPECT_EQ(before->rax, after_calls->rax);
  EXPECT_EQ(tracee.signal_mask().value(), 0u);
  ASSERT_TRUE(tracer_->release(pid));
  ASSERT_TRUE(counts());
}

TEST_F(TraceTest, AnInterruptedSleepStillTakesItsTime) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    timespec start{};
    timespec end{};
    ::clock_gettime(CLOCK_MONOTONIC, &start);
    shared->go = 1;
    timespec time{.tv_sec = 0, .tv_nsec = 300'000'000};
    const int result = ::nanosleep(&time, nullptr);
    ::clock_gettime(CLOCK_MONOTONIC, &end);
    const int64_t ns = (end.tv_sec - start.tv_sec) * 1'000'000'000 + end.tv_nsec - start.tv_nsec;
    ::_exit(result == 0 && ns >= 300'000'000 && ns < 60'000'000'000 ? 7 : 8);
  });
  ASSERT_TRUE(until([&] { return shared_->go == 1; }));
  ASSERT_TRUE(tracer_->seize(pid, true));
  for (int round = 0; round < 5; ++round) {
    ASSERT_TRUE(tracer_->hold(pid, kTimeout));
    const auto site = find_syscall_site(pid);
    ASSERT_TRUE(site);
    auto calls = RemoteCalls::begin(*hub_, Tracee::attached(pid), *site);
    ASSERT_TRUE(calls);
    ASSERT_TRUE(calls->call("getpid", SYS_getpid, {}));
    ASSERT_TRUE(calls->finish());
    ASSERT_TRUE(tracer_->release(pid));
  }
  ASSERT_TRUE(until([&] { return !heard_.exits.empty(); }));
  EXPECT_EQ(WEXITSTATUS(heard_.exits[0].second), 7);
}

TEST_F(TraceTest, SignalsArriveWhileTracedAndWhileHeld) {
  Shared* const shared = shared_;
  static Shared* in_handler = nullptr;
  in_handler = shared;
  const pid_t pid = child([shared] {
    ::signal(SIGRTMIN + 1, [](int) { ++in_handler->handled; });
    shared->go = 1;
    while (true) {
      ++shared->counter;
    }
  });
  ASSERT_TRUE(until([&] { return shared_->go == 1; }));
  ASSERT_TRUE(tracer_->seize(pid, true));
  for (uint32_t round = 1; round <= 20; ++round) {
    ::kill(pid, SIGRTMIN + 1);  // queues, unlike SIGUSR1
    ASSERT_TRUE(tracer_->hold(pid, kTimeout));
    const auto site = find_syscall_site(pid);
    auto calls = RemoteCalls::begin(*hub_, Tracee::attached(pid), *site);
    ASSERT_TRUE(calls);
    ::kill(pid, SIGRTMIN + 1);  // while signals are blocked
    ASSERT_TRUE(calls->call("getpid", SYS_getpid, {}));
    ASSERT_TRUE(calls->finish());
    ASSERT_TRUE(tracer_->release(pid));
    ASSERT_TRUE(until([&] { return shared_->handled >= round * 2; }));
  }
}

TEST_F(TraceTest, DeathDuringACallIsANormalResult) {
  const pid_t pid = child([] { ::pause(); });
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  const auto site = find_syscall_site(pid);
  ASSERT_TRUE(site);
  auto calls = RemoteCalls::begin(*hub_, Tracee::attached(pid), *site);
  ASSERT_TRUE(calls);
  ::kill(pid, SIGKILL);
  const auto answer = calls->call("getpid", SYS_getpid, {});
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind(), ErrorKind::kDisconnected);
  ASSERT_TRUE(until([&] { return !heard_.exits.empty(); }));
  EXPECT_FALSE(tracer_->traced(pid));
}

TEST_F(TraceTest, ForksAreTakenInAndExitsReported) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (shared->go == 0) {
    }
    for (int i = 0; i < 20; ++i) {
      const pid_t grandchild = ::fork();
      if (grandchild == 0) {
        ::_exit(3);
      }
      int status = 0;
      if (::waitpid(grandchild, &status, 0) != grandchild || WEXITSTATUS(status) != 3) {
        ::_exit(1);
      }
    }
    ::_exit(5);
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  shared_->go = 1;
  ASSERT_TRUE(until([&] { return !heard_.exits.empty() && heard_.exits.back().first == pid; }));
  EXPECT_EQ(WEXITSTATUS(heard_.exits.back().second), 5);
  EXPECT_EQ(heard_.exits.size(), 21u);
  EXPECT_LE(heard_.forks.size(), 20u);
  EXPECT_TRUE(tracer_->processes().empty());
}

TEST_F(TraceTest, AThreadInVforkIsHeldWhenItsChildHasGoneOn) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (shared->go != 2) {
      const pid_t grandchild = ::vfork();
      if (grandchild == 0) {
        ::_exit(3);
      }
      int status = 0;
      if (::waitpid(grandchild, &status, 0) != grandchild || WEXITSTATUS(status) != 3) {
        ::_exit(1);
      }
      ++shared->counter;
    }
    ::_exit(5);
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  for (int i = 0; i < 100; ++i) {
    const Result<> held = tracer_->hold(pid, kTimeout);
    ASSERT_TRUE(held) << held.error().message();
    ASSERT_TRUE(tracer_->release(pid));
  }
  shared_->go = 2;
  ASSERT_TRUE(until([&] { return !heard_.exits.empty() && heard_.exits.back().first == pid; }));
  EXPECT_EQ(WEXITSTATUS(heard_.exits.back().second), 5);
}

TEST_F(TraceTest, GroupStopsAreHonoured) {
  Shared* const shared = shared_;
  const pid_t pid = child([shared] {
    while (true) {
      ++shared->counter;
    }
  });
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->seize(pid, true));
  ::kill(pid, SIGSTOP);
  ASSERT_TRUE(until([&] { return heard_.stops.size() == 1; }));
  const auto held = tracer_->hold(pid, kTimeout);
  ASSERT_FALSE(held);
  EXPECT_EQ(held.error().kind(), ErrorKind::kNotPossible);
  ::kill(pid, SIGCONT);
  ASSERT_TRUE(until([&] { return heard_.continues.size() == 1; }));
  ASSERT_TRUE(counts());
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  ASSERT_TRUE(tracer_->detach(pid));
  ASSERT_TRUE(counts());
}

TEST_F(TraceTest, ExecFromAThreadIsHeldBeforeItsFirstInstruction) {
  heard_.hold_at_exec = true;
  const pid_t pid = child([] {
    ::raise(SIGSTOP);
    std::thread([] { ::execl("/bin/sh", "sh", "-c", "exit 9", nullptr); }).join();
  });
  ASSERT_TRUE(tracer_->seize(pid, true));
  ASSERT_TRUE(until([&] { return heard_.stops.size() == 1; }));
  ::kill(pid, SIGCONT);
  ASSERT_TRUE(until([&] { return heard_.execs.size() == 1; }));
  ASSERT_TRUE(tracer_->hold(pid, kTimeout));
  ASSERT_EQ(tracer_->threads(pid), std::vector<pid_t>{pid});
  {
    const auto site = find_syscall_site(pid);
    ASSERT_TRUE(site);
    auto calls = RemoteCalls::begin(*hub_, Tracee::attached(pid), *site);
    ASSERT_TRUE(calls);
    EXPECT_EQ(calls->call("getpid", SYS_getpid, {}).value(), static_cast<uint64_t>(pid));
  }
  ASSERT_TRUE(tracer_->release(pid));
  ASSERT_TRUE(until([&] { return !heard_.exits.empty(); }));
  EXPECT_EQ(WEXITSTATUS(heard_.exits.back().second), 9);
}

TEST_F(TraceTest, SeizingNobodyFails) {
  const auto result = tracer_->seize(0x3ffffff, false);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind(), ErrorKind::kDisconnected);
}

}  // namespace
}  // namespace tess::trace
