#include "home/thread_capture.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "home/cut_call.h"
#include "home/injector.h"
#include "migrate/cpu_timers.h"
#include "stub/repeat.h"
#include "sys/clock.h"

namespace tess::home {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

// End of a relative sleep that was interrupted, on the home's CLOCK_MONOTONIC; 0: not known, the
// call starts afresh.
uint64_t deadline_of(const InterruptedCall& call, const stub::RemoteMemory& memory,
                     uint64_t sleep_started_ns) {
  int64_t length = static_cast<int64_t>(call.timeout_value) * 1'000'000;
  if (call.timeout != InterruptedCall::Timeout::kMilliseconds) {
    const bool timeval = call.timeout == InterruptedCall::Timeout::kTimeval;
    struct {
      int64_t seconds;
      int64_t nanoseconds;  // or microseconds
    } time{};
    static_assert(sizeof(time) == 16);
    const bool left_known = call.remainder != 0;
    const auto read = memory.read(left_known ? call.remainder : call.timeout_value,
                                  std::as_writable_bytes(std::span(&time, 1)));
    if (!read || time.seconds < 0 || time.seconds > (int64_t{1} << 32)) {
      return 0;
    }
    length = time.seconds * kSecond + time.nanoseconds * (timeval ? 1000 : 1);
    if (left_known) {
      return static_cast<uint64_t>(sys::clock_ns(CLOCK_MONOTONIC) + length);
    }
  }
  return sleep_started_ns == 0 ? 0 : sleep_started_ns + static_cast<uint64_t>(length);
}

Result<> capture_altstack(trace::RemoteCalls& calls, const stub::RemoteMemory& memory,
                          uint64_t scratch, stub::ThreadContext& context) {
  static_assert(sizeof(stack_t) == 24);
  stack_t stack{};
  TESS_TRY(calls.call("sigaltstack", SYS_sigaltstack, {0, scratch}));
  TESS_TRY_ASSIGN(stack, memory.get<stack_t>(scratch));
  context.altstack_sp = reinterpret_cast<uint64_t>(stack.ss_sp);
  context.altstack_size = stack.ss_size;
  // The kernel answers SS_ONSTACK by looking at rsp, which is not where the application's is during
  // a remote call only by chance: remote calls keep rsp. It must not go into a later sigaltstack
  // call.
  context.altstack_flags = static_cast<uint32_t>(stack.ss_flags) & ~uint32_t{SS_ONSTACK};
  return {};
}

// A thread in whose process AMX may be used at any moment, by permission that a move would lose.
bool may_use_amx(trace::RemoteCalls& calls, const stub::RemoteMemory& memory, uint64_t scratch) {
  constexpr uint64_t kGetXcompPerm = 0x1022;  // ARCH_GET_XCOMP_PERM of asm/prctl.h
  constexpr uint64_t kTiles = uint64_t{1} << 18;
  if (!calls.call("arch_prctl", SYS_arch_prctl, {kGetXcompPerm, scratch})) {
    return false;  // a kernel that gives it to nobody
  }
  const auto permitted = memory.get<uint64_t>(scratch);
  return permitted && (*permitted & kTiles) != 0;
}

}  // namespace

Result<> capture_thread(const trace::Tracee& tracee, trace::RemoteCalls& calls,
                        const stub::RemoteMemory& memory, uint64_t scratch,
                        const SleepClock& sleeps, stub::ThreadContext& context) {
  TESS_TRY_ASSIGN(const std::vector<std::byte> xstate, tracee.xstate());
  if (!stub::set_xsave(context, xstate) || may_use_amx(calls, memory, scratch)) {
    return fail(
        ErrorKind::kNotPossible,
        "thread {} uses AMX, or has asked for it, which does not move ({} bytes of extended "
        "CPU state)",
        tracee.tid(), xstate.size());
  }
  if (tracee.dispatches_calls()) {
    return fail(
        ErrorKind::kNotPossible,
        "thread {} has its system calls dispatched by itself (PR_SET_SYSCALL_USER_DISPATCH), "
        "which does not move",
        tracee.tid());
  }
  trace::Registers registers = calls.registers();
  const uint64_t transferred = transferred_when_cut(registers, calls, memory, scratch);
  const InterruptedCall call =
      undo_interrupted_call(registers, sleeps.restarted(tracee.tid()), transferred != 0);
  set_gregs(context, registers);
  context.repeat_number = -1;
  context.repeat_done = transferred;
  context.repeat_ends = call.ends ? 1 : 0;
  if (call.repeated && call.timeout != InterruptedCall::Timeout::kNone) {
    context.repeat_deadline_ns = deadline_of(call, memory, sleeps.started(tracee.tid()));
    if (context.repeat_deadline_ns != 0) {
      context.repeat_number = static_cast<int32_t>(call.number);
      context.repeat_rip = registers.rip;
    }
  } else if (call.may_end) {
    context.repeat_deadline_ns = 0;
    context.repeat_number = static_cast<int32_t>(call.number);
    context.repeat_rip = registers.rip;
  }
  context.signal_mask = calls.signal_mask();
  TESS_TRY(capture_altstack(calls, memory, scratch, context));

  uint64_t head = 0;
  size_t size = 0;
  if (::syscall(SYS_get_robust_list, tracee.tid(), &head, &size) < 0) {
    return fail_errno("get_robust_list of thread {}", tracee.tid());
  }
  context.robust_list_head = head;
  context.robust_list_size = size;
  if (const auto rseq = tracee.rseq(); rseq) {
    context.rseq_address = rseq->address;
    context.rseq_size = rseq->size;
    context.rseq_signature = rseq->signature;
  }
  std::ifstream comm("/proc/" + std::to_string(tracee.tid()) + "/comm");
  std::string name;
  std::getline(comm, name);
  std::memset(context.comm, 0, sizeof(context.comm));
  std::memcpy(context.comm, name.data(), std::min(name.size(), sizeof(context.comm) - 1));
  return {};
}

void capture_cpu_timers(pid_t pid, stub::ThreadContext& context) {
  static_assert(migrate::kMostCpuTimers == stub::kCpuTimersMax);
  for (const migrate::CpuTimer& timer : migrate::cpu_timers_of(pid)) {
    if (context.posix_timer_count == stub::kCpuTimersMax) {
      return;
    }
    int32_t owner = timer.of_thread() ? timer.owner() : 0;
    if (timer.of_thread() && owner == 0) {
      owner = innermost_id(pid, timer.notified_thread != 0 ? timer.notified_thread : pid);
    }
    const int32_t kind = timer.clock & (2 * migrate::kCpuClockThreadBit - 1);
    context.posix_timers[context.posix_timer_count++] = {.id = timer.id,
                                                         .clock = ~owner * 8 | kind,
                                                         .signal = timer.signal,
                                                         .local = stub::kNoTimer,
                                                         .interval_ns = 0,
                                                         .left_ns = 0,
                                                         .overrun = 0,
                                                         .reserved = 0};
  }
}

}  // namespace tess::home
