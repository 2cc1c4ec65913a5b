#include "home/interrupted_call.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include <cerrno>

namespace tess::home {
namespace {

// Kernel-internal results (include/linux/errno.h): never seen by programs, only by tracers.
constexpr int64_t kRestartSys = -512;
constexpr int64_t kRestartNoIntr = -513;
constexpr int64_t kRestartNoHand = -514;
constexpr int64_t kRestartBlock = -516;
constexpr uint64_t kSyscallLength = 2;

bool waits_until_absolute_time(const trace::Registers& registers) {
  const auto operation = static_cast<int>(registers.rsi) & FUTEX_CMD_MASK;
  return operation == FUTEX_WAIT_BITSET || operation == FUTEX_LOCK_PI ||
         operation == FUTEX_WAIT_REQUEUE_PI;
}

void find_timeout(const trace::Registers& registers, InterruptedCall& call) {
  using Timeout = InterruptedCall::Timeout;
  const auto timespec_at = [&](uint64_t address) {
    if (address != 0) {
      call.timeout = Timeout::kTimespec;
      call.timeout_value = address;
    }
  };
  const auto milliseconds = [&](uint64_t value) {
    if (static_cast<int32_t>(value) > 0) {
      call.timeout = Timeout::kMilliseconds;
      call.timeout_value = value & 0x7fffffff;
    }
  };
  // What is left stands in the argument itself.
  const auto updated = [&](uint64_t address, Timeout timeout) {
    if (address != 0) {
      call.timeout = timeout;
      call.timeout_value = call.remainder = address;
    }
  };
  switch (call.number) {
    case SYS_nanosleep:
      timespec_at(registers.rdi);
      call.remainder = registers.rsi;
      break;
    case SYS_clock_nanosleep:
      if ((registers.rsi & TIMER_ABSTIME) == 0) {
        timespec_at(registers.rdx);
        call.remainder = registers.r10;
      }
      break;
    case SYS_poll:
      milliseconds(registers.rdx);
      break;
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
      milliseconds(registers.r10);
      break;
    case SYS_epoll_pwait2:
      timespec_at(registers.r10);
      break;
    case SYS_semtimedop:
      timespec_at(registers.r10);
      break;
    case SYS_rt_sigtimedwait:
      timespec_at(registers.rdx);
      break;
    case SYS_futex:
      if (!waits_until_absolute_time(registers)) {
        timespec_at(registers.r10);
      }
      break;
    case SYS_select:
      updated(registers.r8, Timeout::kTimeval);
      break;
    case SYS_pselect6:
      updated(registers.r8, Timeout::kTimespec);
      break;
    case SYS_ppoll:
      updated(registers.rdx, Timeout::kTimespec);
      break;
    default:
      break;
  }
}

}  // namespace

bool ends_by_timeout_of_socket(int64_t number) {
  switch (number) {
    case SYS_accept:
    case SYS_accept4:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
      return true;
    default:
      return false;
  }
}

bool returns_eintr_when_stopped(int64_t number) {
  switch (number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_rt_sigtimedwait:
    case SYS_io_getevents:
    case SYS_recvmmsg:
    case SYS_read:  // inotify
      return true;
    default:
      return ends_by_timeout_of_socket(number);
  }
}

bool stopped_in_call(const trace::Registers& registers) {
  const auto number = static_cast<int64_t>(registers.orig_rax);
  const auto result = static_cast<int64_t>(registers.rax);
  return number >= 0 &&
         (result == kRestartSys || result == kRestartNoIntr || result == kRestartNoHand ||
          result == kRestartBlock || (result == -EINTR && returns_eintr_when_stopped(number)));
}

bool has_time_limit(const trace::Registers& registers) {
  InterruptedCall call{.number = static_cast<int64_t>(registers.orig_rax)};
  find_timeout(registers, call);
  return call.timeout != InterruptedCall::Timeout::kNone;
}

InterruptedCall undo_interrupted_call(trace::Registers& registers, int64_t restarted, bool cut) {
  InterruptedCall call;
  const bool interrupted = cut || stopped_in_call(registers);
  const bool again = registers.orig_rax == SYS_restart_syscall && restarted != 0;
  const int64_t number = again ? restarted : static_cast<int64_t>(registers.orig_rax);
  registers.orig_rax = ~uint64_t{0};
  if (!interrupted) {
    return call;
  }
  call.number = number;
  call.repeated = true;
  call.may_end = static_cast<int64_t>(registers.rax) != kRestartNoIntr;
  call.ends = static_cast<int64_t>(registers.rax) == -EINTR;
  registers.rip -= kSyscallLength;
  registers.rax = static_cast<uint64_t>(number);
  find_timeout(registers, call);
  return call;
}

void set_gregs(stub::ThreadContext& context, const trace::Registers& r) {
  uint64_t* const g = context.gregs;
  g[stub::kR8] = r.r8;
  g[stub::kR9] = r.r9;
  g[stub::kR10] = r.r10;
  g[stub::kR11] = r.r11;
  g[stub::kR12] = r.r12;
  g[stub::kR13] = r.r13;
  g[stub::kR14] = r.r14;
  g[stub::kR15] = r.r15;
  g[stub::kRdi] = r.rdi;
  g[stub::kRsi] = r.rsi;
  g[stub::kRbp] = r.rbp;
  g[stub::kRbx] = r.rbx;
  g[stub::kRdx] = r.rdx;
  g[stub::kRax] = r.rax;
  g[stub::kRcx] = r.rcx;
  g[stub::kRsp] = r.rsp;
  g[stub::kRip] = r.rip;
  g[stub::kEflags] = r.eflags;
  g[stub::kCsGsFs] = (r.cs & 0xffff) | (r.ss & 0xffff) << 48;
  context.fs_base = r.fs_base;
  context.gs_base = r.gs_base;
}

}  // namespace tess::home
