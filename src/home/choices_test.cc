// The pure decisions: what becomes of an interrupted call, where the region goes, which descriptors
// the stub takes.
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "home/injector.h"
#include "home/interrupted_call.h"

namespace tess::home {
namespace {

trace::Registers stopped_in(int64_t number, int64_t result) {
  trace::Registers registers{};
  registers.rip = 0x1002;
  registers.orig_rax = static_cast<uint64_t>(number);
  registers.rax = static_cast<uint64_t>(result);
  return registers;
}

TEST(InterruptedCall, NotInACall) {
  trace::Registers registers = stopped_in(-1, -512);
  EXPECT_FALSE(undo_interrupted_call(registers).repeated);
  EXPECT_EQ(registers.rip, 0x1002u);
  EXPECT_EQ(static_cast<int64_t>(registers.rax), -512);
}

TEST(InterruptedCall, AFinishedCallKeepsItsResult) {
  trace::Registers registers = stopped_in(SYS_write, 7);
  EXPECT_FALSE(undo_interrupted_call(registers).repeated);
  EXPECT_EQ(registers.rip, 0x1002u);
  EXPECT_EQ(registers.rax, 7u);
  EXPECT_EQ(registers.orig_rax, ~uint64_t{0});
}

TEST(InterruptedCall, RestartsAreUndone) {
  for (const int64_t result : {-512, -513, -514, -516}) {
    trace::Registers registers = stopped_in(SYS_wait4, result);
    EXPECT_TRUE(undo_interrupted_call(registers).repeated) << result;
    EXPECT_EQ(registers.rip, 0x1000u);
    EXPECT_EQ(registers.rax, static_cast<uint64_t>(SYS_wait4));
  }
}

TEST(InterruptedCall, ARestartBecomesTheCallThatItGoesOnWith) {
  trace::Registers registers{};
  registers.orig_rax = SYS_restart_syscall;
  registers.rax = static_cast<uint64_t>(-516);
  registers.rip = 0x1002;
  registers.rdx = 1'000;
  const InterruptedCall call = undo_interrupted_call(registers, SYS_poll);
  EXPECT_TRUE(call.repeated);
  EXPECT_EQ(registers.rax, uint64_t{SYS_poll});
  EXPECT_EQ(registers.rip, 0x1000u);
  EXPECT_EQ(call.timeout, InterruptedCall::Timeout::kMilliseconds);
}

TEST(InterruptedCall, EintrIsUndoneOnlyWhereAStopCausesIt) {
  trace::Registers registers = stopped_in(SYS_epoll_wait, -EINTR);
  EXPECT_TRUE(undo_interrupted_call(registers).repeated);
  registers = stopped_in(SYS_connect, -EINTR);
  EXPECT_FALSE(undo_interrupted_call(registers).repeated);
}

TEST(InterruptedCall, TimeoutsAreFound) {
  trace::Registers registers = stopped_in(SYS_poll, -516);
  registers.rdx = 1500;
  InterruptedCall call = undo_interrupted_call(registers);
  EXPECT_EQ(call.timeout, InterruptedCall::Timeout::kMilliseconds);
  EXPECT_EQ(call.timeout_value, 1500u);

  registers = stopped_in(SYS_poll, -516);
  registers.rdx = 0xffffffff;
  EXPECT_EQ(undo_interrupted_call(registers).timeout, InterruptedCall::Timeout::kNone);

  registers = stopped_in(SYS_clock_nanosleep, -516);
  registers.rdx = 0x7000;
  registers.r10 = 0x8000;
  call = undo_interrupted_call(registers);
  EXPECT_EQ(call.timeout, InterruptedCall::Timeout::kTimespec);
  EXPECT_EQ(call.timeout_value, 0x7000u);
  EXPECT_EQ(call.remainder, 0x8000u);

  registers = stopped_in(SYS_clock_nanosleep, -516);
  registers.rsi = TIMER_ABSTIME;
  registers.rdx = 0x7000;
  EXPECT_EQ(undo_interrupted_call(registers).timeout, InterruptedCall::Timeout::kNone);
}

TEST(InterruptedCall, ARelativeFutexWaitGoesOnWithWhatIsLeft) {
  trace::Registers registers = stopped_in(SYS_futex, -516);
  registers.rsi = FUTEX_WAIT_PRIVATE;
  registers.r10 = 0x7000;
  InterruptedCall call = undo_interrupted_call(registers);
  EXPECT_TRUE(call.repeated);
  EXPECT_EQ(call.timeout, InterruptedCall::Timeout::kTimespec);
  EXPECT_EQ(call.timeout_value, 0x7000u);
  registers = stopped_in(SYS_futex, -516);
  registers.rsi = FUTEX_WAIT_BITSET_PRIVATE;
  registers.r10 = 0x7000;
  call = undo_interrupted_call(registers);
  EXPECT_TRUE(call.repeated);
  EXPECT_EQ(call.timeout, InterruptedCall::Timeout::kNone);
}

TEST(Region, LiesInAHole) {
  const std::vector<std::pair<uint64_t, uint64_t>> used = {
      {0x400000, 0x500000}, {0x300000000000, 0x300000001000}, {0x7f0000000000, 0x7f0000100000}};
  for (uint64_t random = 0; random < 20'000'000; random += 77'777) {
    const auto base = choose_region(used, random * 0x9e3779b97f4a7c15);
    ASSERT_TRUE(base);
    EXPECT_EQ(*base % (2 << 20), 0u);
    EXPECT_GE(*base, stub::kRegionLowest);
    EXPECT_LE(*base + stub::kRegionSize, stub::kRegionHighest);
    for (const auto& [start, end] : used) {
      EXPECT_TRUE(*base >= end || *base + stub::kRegionSize <= start);
    }
  }
}

TEST(Region, RefusedWhenThereIsNoHole) {
  const auto base = choose_region({{0x1000, 0x7fffffff0000}}, 1);
  ASSERT_FALSE(base);
  EXPECT_EQ(base.error().kind(), ErrorKind::kNotPossible);
}

TEST(FdBase, AboveTheSoftLimitWhereThereIsRoom) {
  EXPECT_EQ(choose_fd_base({.soft = 1024, .hard = 1048576, .highest_open = 9}, 1).value(), 1024);
  EXPECT_EQ(choose_fd_base({.soft = 1024, .hard = 1048576, .highest_open = 2000}, 1).value(), 2001);
}

TEST(FdBase, HighBelowTheLimitOtherwise) {
  EXPECT_EQ(choose_fd_base({.soft = 1048576, .hard = 1048576, .highest_open = 9}, 1).value(), 4096);
  EXPECT_EQ(choose_fd_base({.soft = 1048576, .hard = 1048576, .highest_open = 9000}, 1).value(),
            10025);
  EXPECT_EQ(choose_fd_base({.soft = 5000, .hard = 5000, .highest_open = 9}, 1).value(), 3750);
  EXPECT_EQ(choose_fd_base({.soft = 1024, .hard = 1024, .highest_open = 9}, 1).value(), 768);
  EXPECT_EQ(choose_fd_base({.soft = 1024, .hard = 1024, .highest_open = 9}, 700).value(), 10);
  EXPECT_EQ(choose_fd_base({.soft = 80, .hard = 80, .highest_open = 9}, 1).value(), 14);
}

TEST(FdBase, RefusedWhenNothingIsFree) {
  const auto base = choose_fd_base({.soft = 1024, .hard = 1024, .highest_open = 1020}, 1);
  ASSERT_FALSE(base);
  EXPECT_EQ(base.error().kind(), ErrorKind::kNotPossible);
}

}  // namespace
}  // namespace tess::home
