#include "syscalls/filter.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

#include "base/check.h"
#include "syscalls/kinds.h"

namespace tess::syscalls {
namespace {

// restart_syscall is how the kernel resumes the stub's own clock_nanosleep after a stop.
constexpr auto kStubCalls = std::to_array<uint16_t>({
    SYS_read,
    SYS_write,
    SYS_close,
    SYS_mmap,
    SYS_mprotect,
    SYS_munmap,
    SYS_brk,
    SYS_rt_sigaction,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_pread64,
    SYS_pwrite64,
    SYS_sched_yield,
    SYS_mremap,
    SYS_msync,
    SYS_madvise,
    SYS_getitimer,
    SYS_setitimer,
    SYS_getpid,
    SYS_sendto,
    SYS_recvfrom,
    SYS_sendmsg,
    SYS_recvmsg,
    SYS_socketpair,
    SYS_clone,
    SYS_exit,
    SYS_fcntl,
    SYS_ftruncate,
    SYS_getrusage,
    SYS_sigaltstack,
    SYS_personality,
    SYS_mlock,
    SYS_munlockall,
    SYS_prctl,
    SYS_arch_prctl,
    SYS_gettid,
    SYS_futex,
    SYS_sched_setaffinity,
    SYS_set_tid_address,
    SYS_restart_syscall,
    SYS_timer_create,
    SYS_timer_settime,
    SYS_timer_gettime,
    SYS_timer_delete,
    SYS_clock_gettime,
    SYS_clock_getres,
    SYS_clock_nanosleep,
    SYS_exit_group,
    SYS_tgkill,
    SYS_set_robust_list,
    SYS_dup3,
    SYS_prlimit64,
    SYS_seccomp,
    SYS_getrandom,
    SYS_memfd_create,
    SYS_membarrier,
    SYS_mlock2,
    SYS_rseq,
    SYS_clone3,
});
static_assert(std::is_sorted(kStubCalls.begin(), kStubCalls.end()));

enum class Verdict : uint8_t {
  kTrap,
  kAllow,
  kFromStub,
  kMmap,
  kMunmap,
  kFutex,
  kClockGettime,
  kArchPrctl,
  kGetrandom,
  kMadvise
};
constexpr size_t kVerdicts = 10;

Verdict verdict(uint64_t number) {
  const SyscallInfo* info = syscall_info(number);
  if (info && info->where == Class::kLocal) {
    switch (info->special) {
      case Special::kNone:
        return Verdict::kAllow;
      case Special::kMmap:
        return Verdict::kMmap;
      case Special::kMunmap:
        return Verdict::kMunmap;
      case Special::kFutex:
        return Verdict::kFutex;
      case Special::kClockGettime:
        return Verdict::kClockGettime;
      case Special::kArchPrctl:
        return Verdict::kArchPrctl;
      case Special::kGetrandom:
        return Verdict::kGetrandom;
      case Special::kMadvise:
        return Verdict::kMadvise;
      default:
        break;
    }
  }
  return std::binary_search(kStubCalls.begin(), kStubCalls.end(), number) ? Verdict::kFromStub
                                                                          : Verdict::kTrap;
}

struct Range {  // from `first` to the next range's first
  uint32_t first;
  Verdict verdict;
};

std::vector<Range> ranges() {
  std::vector<Range> result;
  for (uint32_t number = 0; number <= kTableSize; ++number) {
    const Verdict v = number < kTableSize ? verdict(number) : Verdict::kTrap;
    if (result.empty() || result.back().verdict != v) {
      result.push_back({number, v});
    }
  }
  return result;
}

constexpr uint32_t kArgLow(uint32_t i) {
  return offsetof(seccomp_data, args) + 8 * i;
}
constexpr uint32_t kArgHigh(uint32_t i) {
  return kArgLow(i) + 4;
}
constexpr uint32_t kIpLow = offsetof(seccomp_data, instruction_pointer);

// Instructions in order; jumps to the block of a verdict are patched when all blocks are placed.
class Assembler {
 public:
  void load(uint32_t offset) { emit(BPF_LD | BPF_W | BPF_ABS, offset); }
  void mask(uint32_t bits) { emit(BPF_ALU | BPF_AND | BPF_K, bits); }
  void answer(uint32_t action) { emit(BPF_RET | BPF_K, action); }
  // Skips: instructions to jump over if the comparison holds, or not.
  void if_equal(uint32_t value, uint8_t then_skip, uint8_t else_skip) {
    emit(BPF_JMP | BPF_JEQ | BPF_K, value, then_skip, else_skip);
  }
  void if_any(uint32_t bits, uint8_t then_skip, uint8_t else_skip) {
    emit(BPF_JMP | BPF_JSET | BPF_K, bits, then_skip, else_skip);
  }
  void go_to(Verdict target) {
    patches_.push_back({code_.size(), target});
    emit(BPF_JMP | BPF_JA, 0);
  }
  void place(Verdict target) { blocks_[static_cast<size_t>(target)] = code_.size(); }

  void decide(std::span<const Range> part) {
    if (part.size() == 1) {
      go_to_or_answer(part[0].verdict);
      return;
    }
    const size_t middle = part.size() / 2;
    const size_t jump = code_.size();
    emit(BPF_JMP | BPF_JGE | BPF_K, part[middle].first, 0, 1);
    emit(BPF_JMP | BPF_JA, 0);
    decide(part.first(middle));
    code_[jump + 1].k = static_cast<uint32_t>(code_.size() - jump - 2);
    decide(part.subspan(middle));
  }

  std::vector<sock_filter> finish() && {
    for (const Patch& patch : patches_) {
      const size_t target = blocks_[static_cast<size_t>(patch.target)];
      TESS_CHECK(target > patch.at, "a filter jumps forward only");
      code_[patch.at].k = static_cast<uint32_t>(target - patch.at - 1);
    }
    TESS_CHECK(code_.size() <= BPF_MAXINSNS, "filter of {} instructions", code_.size());
    return std::move(code_);
  }

 private:
  struct Patch {
    size_t at;
    Verdict target;
  };
  void emit(uint32_t code, uint32_t k, uint8_t jt = 0, uint8_t jf = 0) {
    code_.push_back({static_cast<uint16_t>(code), jt, jf, k});
  }
  void go_to_or_answer(Verdict v) {
    if (v == Verdict::kAllow) {
      answer(SECCOMP_RET_ALLOW);
    } else if (v == Verdict::kTrap) {
      answer(SECCOMP_RET_TRAP);
    } else {
      go_to(v);
    }
  }

  std::vector<sock_filter> code_;
  std::vector<Patch> patches_;
  std::array<size_t, kVerdicts> blocks_{};
};

void emit_mmap(Assembler& a) {
  a.place(Verdict::kMmap);
  a.load(kArgLow(3));
  // Shared memory is known to home, anonymous or not; pages of the hugetlb pool are home's.
  a.if_any(MAP_SHARED | MAP_HUGETLB, 2, 0);
  a.if_any(MAP_ANONYMOUS, 0, 1);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

// Who unmaps this much may mean everything there is, and the stub must stay.
void emit_munmap(Assembler& a) {
  a.place(Verdict::kMunmap);
  a.load(kArgHigh(1));
  a.if_equal(0, 0, 1);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

// A wait with a timeout traps (a move has to know what is left of it); argument 3 is a timeout only
// for those that wait.
void emit_futex(Assembler& a) {
  constexpr uint32_t kLockPi2 = 13;
  constexpr std::array<uint32_t, 5> kWaits = {FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI,
                                              FUTEX_WAIT_REQUEUE_PI, kLockPi2};
  a.place(Verdict::kFutex);
  a.load(kArgLow(1));
  a.mask(static_cast<uint32_t>(FUTEX_CMD_MASK));
  for (size_t i = 0; i < kWaits.size(); ++i) {
    a.if_equal(kWaits[i], static_cast<uint8_t>(kWaits.size() - i), 0);
  }
  a.answer(SECCOMP_RET_ALLOW);
  a.load(kArgLow(3));
  a.if_equal(0, 0, 3);
  a.load(kArgHigh(3));
  a.if_equal(0, 0, 1);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

// Clocks that are the same on every node; CPU-time clocks are not.
void emit_clock_gettime(Assembler& a) {
  constexpr std::array<uint32_t, 7> kClocks = {CLOCK_REALTIME,
                                               CLOCK_MONOTONIC,
                                               CLOCK_MONOTONIC_RAW,
                                               CLOCK_REALTIME_COARSE,
                                               CLOCK_MONOTONIC_COARSE,
                                               CLOCK_BOOTTIME,
                                               CLOCK_TAI};
  a.place(Verdict::kClockGettime);
  a.load(kArgLow(0));
  for (size_t i = 0; i < kClocks.size(); ++i) {
    a.if_equal(kClocks[i], static_cast<uint8_t>(kClocks.size() - i), 0);
  }
  a.go_to(Verdict::kFromStub);
  a.answer(SECCOMP_RET_ALLOW);
}

// Permission to use AMX is the process's, and a move would lose it. Faults of CPUID are set at home
// too: the thread may go on there.
void emit_arch_prctl(Assembler& a) {
  constexpr uint32_t kReqXcompPerm = 0x1023, kSetCpuid = 0x1012;  // asm/prctl.h
  a.place(Verdict::kArchPrctl);
  a.load(kArgLow(0));
  a.if_equal(kReqXcompPerm, 2, 0);
  a.if_equal(kSetCpuid, 1, 0);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

// The kernel looks for signals, our doorbell among them, at the end of each page.
void emit_getrandom(Assembler& a) {
  constexpr uint32_t kBeyondPage = ~uint32_t{4095};
  a.place(Verdict::kGetrandom);
  a.load(kArgHigh(1));
  a.if_equal(0, 0, 3);
  a.load(kArgLow(1));
  a.if_any(kBeyondPage, 1, 0);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

// Guard pages cannot be carried, and not every kernel has them.
void emit_madvise(Assembler& a) {
  constexpr uint32_t kGuardInstall = 102, kGuardRemove = 103;
  a.place(Verdict::kMadvise);
  a.load(kArgLow(2));
  a.if_equal(kGuardInstall, 2, 0);
  a.if_equal(kGuardRemove, 1, 0);
  a.answer(SECCOMP_RET_ALLOW);
  a.go_to(Verdict::kFromStub);
}

void emit_from_stub(Assembler& a, uint64_t syscall_site, uint64_t cp_site) {
  a.place(Verdict::kFromStub);
  for (const uint64_t site : {syscall_site, cp_site}) {
    a.load(kIpLow);
    a.if_equal(static_cast<uint32_t>(site), 0, 3);
    a.load(kIpLow + 4);
    a.if_equal(static_cast<uint32_t>(site >> 32), 0, 1);
    a.answer(SECCOMP_RET_ALLOW);
  }
  a.answer(SECCOMP_RET_TRAP);
}

}  // namespace

std::span<const uint16_t> stub_calls() {
  return kStubCalls;
}

std::vector<sock_filter> body_filter(uint64_t syscall_site, uint64_t cp_site) {
  Assembler a;
  a.load(offsetof(seccomp_data, arch));
  a.if_equal(AUDIT_ARCH_X86_64, 1, 0);
  a.answer(SECCOMP_RET_TRAP);
  a.load(offsetof(seccomp_data, nr));
  a.decide(ranges());
  emit_mmap(a);
  emit_munmap(a);
  emit_futex(a);
  emit_clock_gettime(a);
  emit_arch_prctl(a);
  emit_getrandom(a);
  emit_madvise(a);
  emit_from_stub(a, syscall_site, cp_site);
  return std::move(a).finish();
}

}  // namespace tess::syscalls
