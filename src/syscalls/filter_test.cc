#include "syscalls/filter.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstring>

#include "syscalls/kinds.h"
#include "syscalls/names.h"

namespace tess::syscalls {
namespace {

constexpr uint64_t kSite = 0x2a00'1234'5678;
constexpr uint64_t kCpSite = 0x2a01'0000'9abc;

struct Outcome {
  uint32_t action;
  int steps;
};

// Classic BPF as the kernel's seccomp_check_filter allows it, for the instructions the filter uses;
// others fail the test.
Outcome run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  uint32_t a = 0;
  int steps = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& at = program[pc];
    ++steps;
    switch (at.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        EXPECT_EQ(at.k % 4, 0U);
        EXPECT_LE(at.k + 4, sizeof(data));
        std::memcpy(&a, reinterpret_cast<const char*>(&data) + at.k, 4);
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= at.k;
        break;
      case BPF_JMP | BPF_JA:
        pc += at.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == at.k ? at.jt : at.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= at.k ? at.jt : at.jf;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        pc += a & at.k ? at.jt : at.jf;
        break;
      case BPF_RET | BPF_K:
        return {at.k, steps};
      default:
        ADD_FAILURE() << "instruction " << at.code;
        return {0, steps};
    }
  }
  ADD_FAILURE() << "the filter ran off its end";
  return {0, steps};
}

seccomp_data call(uint32_t number, uint64_t ip, std::initializer_list<uint64_t> args = {}) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = AUDIT_ARCH_X86_64;
  data.instruction_pointer = ip;
  std::copy(args.begin(), args.end(), data.args);
  return data;
}

class Filter : public testing::Test {
 protected:
  uint32_t action(const seccomp_data& data) { return run(filter_, data).action; }
  std::vector<sock_filter> filter_ = body_filter(kSite, kCpSite);
};

TEST_F(Filter, follows_the_table_for_every_number) {
  for (uint32_t number = 0; number < 600; ++number) {
    const SyscallInfo* info = syscall_info(number);
    SCOPED_TRACE(syscall_name(number));
    const bool local = info && info->where == Class::kLocal && info->special == Special::kNone;
    const auto listed = stub_calls();
    const bool stub = std::binary_search(listed.begin(), listed.end(), number);
    // Arguments on which the conditional calls are not let through: a file, a timeout, a CPU-time
    // clock, a size, a permission, a guard page.
    const bool large = number == SYS_munmap || number == SYS_getrandom;
    const uint64_t second = number == SYS_futex ? 0 : large ? uint64_t{2} << 32 : 2;
    const uint64_t first = number == SYS_arch_prctl ? 0x1023 : 2;
    const uint64_t third = number == SYS_madvise ? 102 : 0;
    const std::initializer_list<uint64_t> args = {first, second, third, 2, 2, 2};
    EXPECT_EQ(action(call(number, 0x401000, args)), local ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
    for (const uint64_t site : {kSite, kCpSite}) {
      EXPECT_EQ(action(call(number, site, args)),
                local || stub ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
      // An address with the same low half, and one beside it, are not the stub's.
      EXPECT_EQ(action(call(number, site + (uint64_t{1} << 32), args)),
                local ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
      EXPECT_EQ(action(call(number, site + 1, args)), local ? SECCOMP_RET_ALLOW : SECCOMP_RET_TRAP);
    }
  }
}

TEST_F(Filter, traps_numbers_of_no_call_and_x32) {
  EXPECT_EQ(action(call(0xffffffff, kSite)), SECCOMP_RET_TRAP);
  EXPECT_EQ(action(call(0x40000000 + SYS_getpid, kSite)), SECCOMP_RET_TRAP);
}

TEST_F(Filter, traps_all_of_another_architecture) {
  seccomp_data data = call(SYS_getpid, kSite);
  data.arch = AUDIT_ARCH_I386;
  EXPECT_EQ(action(data), SECCOMP_RET_TRAP);
}

TEST_F(Filter, lets_through_anonymous_memory_only) {
  const uint64_t anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
  EXPECT_EQ(action(call(SYS_mmap, 1, {0, 4096, 3, anonymous, ~uint64_t{0}, 0})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(action(call(SYS_mmap, 1, {0, 4096, 3, MAP_PRIVATE, 3, 0})), SECCOMP_RET_TRAP);
  EXPECT_EQ(action(call(SYS_munmap, 1, {4096, 0xffffffff})), SECCOMP_RET_ALLOW);
  EXPECT_EQ(action(call(SYS_munmap, 1, {4096, uint64_t{1} << 32})), SECCOMP_RET_TRAP);
}

TEST_F(Filter, traps_guard_pages_only) {
  for (const uint64_t advice : {0, 4, 8, 14, 25, 100, 101, 104}) {
    EXPECT_EQ(action(call(SYS_madvise, 1, {4096, 4096, advice})), SECCOMP_RET_ALLOW) << advice;
  }
  for (const uint64_t advice : {102, 103}) {
    EXPECT_EQ(action(call(SYS_madvise, 1, {4096, 4096, advice})), SECCOMP_RET_TRAP) << advice;
  }
}

TEST_F(Filter, traps_getrandom_of_more_than_a_page) {
  for (const uint64_t size : {0, 1, 256, 4095}) {
    EXPECT_EQ(action(call(SYS_getrandom, 1, {1, size, 0})), SECCOMP_RET_ALLOW) << size;
  }
  for (const uint64_t size :
       {uint64_t{4096}, uint64_t{8191}, uint64_t{1} << 31, uint64_t{1} << 32}) {
    EXPECT_EQ(action(call(SYS_getrandom, 1, {1, size, 0})), SECCOMP_RET_TRAP) << size;
    EXPECT_EQ(action(call(SYS_getrandom, kSite, {1, size, 0})), SECCOMP_RET_ALLOW) << size;
  }
}

TEST_F(Filter, traps_futex_waits_with_a_timeout_only) {
  const uint64_t high = uint64_t{1} << 40;
  for (const uint64_t flags : {0, FUTEX_PRIVATE_FLAG, FUTEX_CLOCK_REALTIME}) {
    for (const uint64_t op : {0, 6, 9, 11, 13}) {
      EXPECT_EQ(action(call(SYS_futex, 1, {1, op | flags, 0, 0})), SECCOMP_RET_ALLOW) << op;
      EXPECT_EQ(action(call(SYS_futex, 1, {1, op | flags, 0, 16})), SECCOMP_RET_TRAP) << op;
      EXPECT_EQ(action(call(SYS_futex, 1, {1, op | flags, 0, high})), SECCOMP_RET_TRAP) << op;
      EXPECT_EQ(action(call(SYS_futex, kSite, {1, op | flags, 0, 16})), SECCOMP_RET_ALLOW) << op;
    }
    for (const uint64_t op : {1, 3, 4, 5, 7, 8, 10, 12}) {
      EXPECT_EQ(action(call(SYS_futex, 1, {1, op | flags, 0, 16})), SECCOMP_RET_ALLOW) << op;
    }
  }
}

TEST_F(Filter, lets_through_clocks_that_are_the_same_everywhere) {
  for (const uint64_t clock : {0, 1, 4, 5, 6, 7, 11}) {
    EXPECT_EQ(action(call(SYS_clock_gettime, 1, {clock})), SECCOMP_RET_ALLOW) << clock;
  }
  for (const uint64_t clock : {2U, 3U, 8U, 9U, 10U, 12U, 0xfffffffeU}) {
    EXPECT_EQ(action(call(SYS_clock_gettime, 1, {clock})), SECCOMP_RET_TRAP) << clock;
  }
}

TEST_F(Filter, traps_requests_for_amx_and_cpuid_faults_only) {
  for (const uint64_t code : {0x1001, 0x1002, 0x1003, 0x1004, 0x1011, 0x1021, 0x1022}) {
    EXPECT_EQ(action(call(SYS_arch_prctl, 1, {code, 18})), SECCOMP_RET_ALLOW) << code;
  }
  EXPECT_EQ(action(call(SYS_arch_prctl, 1, {0x1012, 0})), SECCOMP_RET_TRAP);
  EXPECT_EQ(action(call(SYS_arch_prctl, 1, {0x1023, 18})), SECCOMP_RET_TRAP);
}

TEST_F(Filter, stays_short) {
  EXPECT_LT(filter_.size(), 600U);
  int longest = 0;
  for (uint32_t number = 0; number < kTableSize; ++number) {
    longest = std::max(longest, run(filter_, call(number, 1)).steps);
  }
  EXPECT_LT(longest, 50);
}

// Calls without a look at anything but the number are what the kernel can cache.
TEST_F(Filter, decides_unconditional_calls_by_number_alone) {
  std::vector<sock_filter> cut;
  for (const sock_filter& at : filter_) {
    const bool looks_further = at.code == (BPF_LD | BPF_W | BPF_ABS) &&
                               at.k != offsetof(seccomp_data, nr) &&
                               at.k != offsetof(seccomp_data, arch);
    cut.push_back(looks_further ? sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS}
                                : at);
  }
  for (const uint32_t number : {SYS_mprotect, SYS_getpid, SYS_mincore, SYS_sched_yield}) {
    EXPECT_EQ(run(cut, call(number, 1)).action, SECCOMP_RET_ALLOW);
  }
}

volatile std::sig_atomic_t trapped_number = -1;
void on_trap(int, siginfo_t* info, void*) {
  trapped_number = info->si_syscall;
}

// The one place in this program from which the stub's calls are let through.
asm(R"(
  .pushsection .text
test_restorer:
  mov $15, %eax
  syscall
test_site:
  ud2
  .popsection
)");
extern "C" const char test_restorer[];
extern "C" const char test_site[];

bool handle_traps() {
  struct {
    void (*handler)(int, siginfo_t*, void*);
    uint64_t flags;
    const char* restorer;
    uint64_t mask;
  } const action = {on_trap, SA_SIGINFO | 0x04000000 /* SA_RESTORER */, test_restorer, 0};
  return ::syscall(SYS_rt_sigaction, SIGSYS, &action, nullptr, 8) == 0;
}

// In a child: the kernel takes the filter, and does with it what the interpreter says.
int filtered_child() {
  const std::vector<sock_filter> code = body_filter(reinterpret_cast<uint64_t>(test_site), kCpSite);
  const sock_fprog program = {static_cast<unsigned short>(code.size()),
                              const_cast<sock_filter*>(code.data())};
  if (!handle_traps() || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
    return 1;
  }
  if (::syscall(SYS_getpid) <= 0 || trapped_number != -1) {
    return 2;
  }
  void* memory = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || ::mprotect(memory, 4096, PROT_NONE) != 0 || trapped_number != -1) {
    return 3;
  }
  ::syscall(SYS_getppid);
  if (trapped_number != SYS_getppid) {
    return 4;
  }
  ::syscall(SYS_exit_group, 0);  // traps: the child has no stub, so the call has no effect
  return trapped_number == SYS_exit_group ? 0 : 5;
}

TEST(FilterInKernel, works) {
  const pid_t child = ::fork();
  if (child == 0) {
    // exit traps too: the way out is a fault, whose signal and nothing else tells.
    if (filtered_child() == 0) {
      __builtin_trap();  // SIGILL: all as expected
    }
    *static_cast<volatile int*>(nullptr) = 1;
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGILL);
}

}  // namespace
}  // namespace tess::syscalls
