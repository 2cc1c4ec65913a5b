#include "migrate/cpu_timers.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <sstream>

namespace tess::migrate {
namespace {

TEST(CpuTimers, TheClocksThatCountCpuTimeOnly) {
  std::istringstream text(
      "ID: 0\nsignal: 14/0000000000000000\nnotify: signal/pid.3398\nClockID: 1\n"
      "ID: 4\nsignal: 10/0000000000000007\nnotify: signal/tid.3399\nClockID: -6\n"
      "ID: 5\nsignal: 12/0000000000000000\nnotify: none/pid.3398\nClockID: -27194\n"
      "ID: 6\nsignal: 12/0000000000000000\nnotify: thread/pid.3398\nClockID: -5\n"
      "ID: 7\nsignal: 34/0000000000000000\nnotify: signal/pid.3398\nClockID: -2\n");
  const auto timers = parse_cpu_timers(text);
  ASSERT_EQ(timers.size(), 3u);
  EXPECT_EQ(timers[0].id, 4);
  EXPECT_EQ(timers[0].signal, 10);
  EXPECT_EQ(timers[0].notified_thread, 3399);
  EXPECT_FALSE(timers[0].of_thread());
  EXPECT_EQ(timers[0].owner(), 0);
  EXPECT_EQ(timers[1].id, 5);
  EXPECT_EQ(timers[1].signal, 0) << "it tells nobody";
  EXPECT_TRUE(timers[1].of_thread());
  EXPECT_EQ(timers[1].owner(), 3399);
  EXPECT_EQ(timers[2].id, 7);
  EXPECT_EQ(timers[2].notified_thread, 0);
  EXPECT_TRUE(timers[2].of_thread());
  EXPECT_EQ(timers[2].owner(), 0) << "the thread that made it";
}

TEST(CpuTimers, NoTextNoTimers) {
  std::istringstream cut("ID: 3\nsignal: ");
  EXPECT_TRUE(parse_cpu_timers(cut).empty());
  EXPECT_TRUE(cpu_timers_of(-1).empty());
}

TEST(CpuTimers, AsThisKernelShowsThem) {
  timer_t plain, cpu;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR2;
  ASSERT_EQ(::timer_create(CLOCK_MONOTONIC, &event, &plain), 0);
  ASSERT_EQ(::timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &cpu), 0);
  const auto timers = cpu_timers_of(::getpid());
  ::timer_delete(plain);
  ::timer_delete(cpu);
  ASSERT_EQ(timers.size(), 1u);
  EXPECT_EQ(timers[0].signal, SIGUSR2);
  EXPECT_FALSE(timers[0].of_thread());
  EXPECT_EQ(timers[0].owner(), 0);
}

}  // namespace
}  // namespace tess::migrate
