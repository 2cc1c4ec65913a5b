// Time: CPU clocks and CPU times count what the process has used here and elsewhere; waits end at a
// point in time, so that a move does not make them longer.
#include "stub/blob/body.h"
#include "stub/proc_text.h"

namespace tess::stub {
namespace {

using syscalls::SyscallInfo;

// CPU time that another process has used on this host; 0 if it is not here.
int64_t used_here(Slot* slot, int32_t pid) {
  constexpr int64_t kTickNs = 10'000'000;
  constexpr int kUtime = 14, kStime = 15;
  const long fd = host_file(slot, kProcStat, pid, 0);
  char text[512];
  const long n = fd >= 0 ? sys(__NR_read, fd, text, sizeof(text)) : 0;
  if (fd >= 0) {
    sys(__NR_close, fd);
  }
  long at = n;
  while (at > 0 && text[at - 1] != ')') {
    --at;
  }
  int64_t ticks = 0;
  for (int field = 2; at < n && field <= kStime; ++at) {
    if (text[at] == ' ') {
      ++field;
      int64_t value = 0;
      for (long digit = at + 1; digit < n && text[digit] >= '0' && text[digit] <= '9'; ++digit) {
        value = value * 10 + (text[digit] - '0');
      }
      ticks += field == kUtime || field == kStime ? value : 0;
    }
  }
  return ticks * kTickNs;
}

Answer put_time(uint64_t to, int64_t ns) {
  const Timespec value = timespec_of(ns);
  return answer(copy_to_app(to, &value, sizeof(value)) ? 0 : kEfault);
}

struct Timeval {
  int64_t seconds;
  int64_t microseconds;
};

// User and system time of the thread or process, here and before.
void cpu_times(const Slot* slot, bool thread, Timeval times[2]) {
  uint64_t local[18] = {};
  sys(__NR_getrusage, thread ? 1 : 0, local);
  const int64_t base = thread ? priv(const_cast<Slot*>(slot)).thread_cpu_base_ns
                              : control_of(slot).process_cpu_base_ns;
  const int64_t total = clock_ns(thread ? kClockThreadCpu : kClockProcessCpu) + base;
  times[1] = {(int64_t)local[2], (int64_t)local[3]};
  const int64_t user = total - (times[1].seconds * kSecondNs + times[1].microseconds * 1000);
  const int64_t positive = user > 0 ? user : 0;
  times[0] = {positive / kSecondNs, positive % kSecondNs / 1000};
}

// Waits in a call of the host's kernel. A repeat after a rest is told `deadline_ns`. The result is
// kEintr only if there are signals for the application.
Answer wait_here(Trap& trap, long number, const uint64_t args[7], int64_t deadline_ns) {
  while (true) {
    const long result = tess_cp_syscall(&trap.slot->pending, number, args);
    if (result != kAborted && result != kEintr) {
      return answer(result);
    }
    if (must_park(trap.slot)) {
      remember_repeat(trap, (uint64_t)deadline_ns, true);
      return again();
    }
    if (trap.slot->signal_count != 0) {
      fetch_signals(trap.slot);
    }
    if (received_signals(trap.slot) != 0) {
      return answer(kEintr);
    }
  }
}

bool cut_short(const Answer& waited) {
  return waited.outcome == Outcome::kResult && waited.result == kEintr;
}

// A relative sleep that a signal has ended tells what was left of it, if asked.
Answer with_rest(const Answer& waited, uint64_t rest_at, int64_t left_ns) {
  if (rest_at == 0) {
    return waited;
  }
  const Answer put = put_time(rest_at, left_ns > 0 ? left_ns : 0);
  return put.result != 0 ? put : waited;
}

// Sleeps until the process has used so much CPU time.
Answer cpu_sleep(Trap& trap, const Timespec& wanted, bool absolute, uint64_t rest_at) {
  const int64_t base = control_of(trap.slot).process_cpu_base_ns;
  const int64_t length = length_of(wanted);
  const int64_t end = absolute ? length - base : clock_ns(kClockProcessCpu) + length;
  const Timespec until = timespec_of(end > 0 ? end : 0);
  const uint64_t args[7] = {kClockProcessCpu, 1, (uint64_t)&until, 0, 0, 0, ~uint64_t{0}};
  const Answer waited = wait_here(trap, __NR_clock_nanosleep, args, 0);
  return cut_short(waited) && !absolute
             ? with_rest(waited, rest_at, end - clock_ns(kClockProcessCpu))
             : waited;
}

}  // namespace

CpuClock cpu_clock_of(int clock) {
  constexpr int kThreadBit = 4, kKinds = 3, kDescriptor = 3;
  if (clock == kClockProcessCpu || clock == kClockThreadCpu) {
    return {true, clock == kClockThreadCpu, 0};
  }
  if (clock < 0 && (clock & kKinds) != kDescriptor) {
    return {true, (clock & kThreadBit) != 0, ~(clock >> 3)};
  }
  return {};
}

bool is_own_process(Slot* slot, const CpuClock& clock) {
  return clock.valid && !clock.thread && (clock.id == 0 || clock.id == control_of(slot).pid);
}

bool own_cpu_clock(Slot* slot, const CpuClock& clock, int64_t* base_ns) {
  if (is_own_process(slot, clock)) {
    *base_ns = control_of(slot).process_cpu_base_ns;
    return true;
  }
  const int32_t tid = clock.id == 0 ? slot->thread.tid : clock.id;
  Slot* const of = clock.thread ? slot_of_thread(slot, tid) : nullptr;
  *base_ns = of != nullptr ? priv(of).thread_cpu_base_ns : 0;
  return of != nullptr;
}

bool is_time(const Timespec& value) {
  return value.seconds >= 0 && value.nanoseconds >= 0 && value.nanoseconds < kSecondNs;
}

int64_t length_of(const Timespec& value) {
  constexpr int64_t kForever = int64_t{9'000'000'000};  // seconds
  return (value.seconds < kForever ? value.seconds : kForever) * kSecondNs + value.nanoseconds;
}

void process_cpu_times(Slot* slot, int64_t* user_ns, int64_t* system_ns) {
  Timeval times[2];
  cpu_times(slot, false, times);
  *user_ns = times[0].seconds * kSecondNs + times[0].microseconds * 1000;
  *system_ns = times[1].seconds * kSecondNs + times[1].microseconds * 1000;
}

uint64_t maxrss_kb() {
  uint64_t usage[18] = {};
  constexpr int kMaxrss = 4;
  sys(__NR_getrusage, 0, usage);
  return usage[kMaxrss];
}

// The rest of the clocks is the host's own, set right by the time namespace; a clock of another
// process counts at home and here.
Answer clock_gettime_call(Trap& trap, const SyscallInfo& info) {
  const auto id = (int)trap.args[0];
  const CpuClock clock = cpu_clock_of(id);
  int64_t base = 0;
  if (trap.number != __NR_clock_gettime || !clock.valid) {
    return carried_call(trap, info);
  }
  if (own_cpu_clock(trap.slot, clock, &base)) {
    return put_time(trap.args[1], clock_ns(clock.thread ? id : kClockProcessCpu) + base);
  }
  const Answer home = carried_call(trap, info);
  Timespec value;
  if (home.outcome != Outcome::kResult || home.result != 0 || clock.thread ||
      !copy_from_app(&value, trap.args[1], sizeof(value))) {
    return home;
  }
  return put_time(trap.args[1], ns_of(value) + used_here(trap.slot, clock.id));
}

// Memory, faults and switches of the body, on top of the deputy's.
static void add_local_usage(bool thread, uint8_t* usage) {
  constexpr uint32_t kFields = 18, kMaxrss = 4, kMinflt = 8, kMajflt = 9, kNvcsw = 16, kNivcsw = 17;
  constexpr uint32_t kSummed[] = {kMinflt, kMajflt, kNvcsw, kNivcsw};
  uint64_t here[kFields] = {}, all[kFields];
  sys(__NR_getrusage, thread ? 1 : 0, here);
  memcpy(all, usage, sizeof(all));
  all[kMaxrss] = here[kMaxrss] > all[kMaxrss] ? here[kMaxrss] : all[kMaxrss];
  for (const uint32_t field : kSummed) {
    all[field] += here[field];
  }
  memcpy(usage, all, sizeof(all));
}

Answer rusage_call(Trap& trap, const SyscallInfo& info) {
  const int who = (int)trap.args[0];
  if (who != 0 && who != 1) {
    return carried_call(trap, info);
  }
  uint8_t usage[144] = {};
  const uint64_t args[6] = {trap.args[0], 0, 0, 0, 0, 0};
  const OwnSegment out{nullptr, 0, usage, sizeof(usage), kTrimNone, 1};
  const int64_t result = own_request(trap.slot, __NR_getrusage, args, &out, 1, 0);
  if (is_unfinished(result)) {
    return again();
  }
  Timeval times[2];
  cpu_times(trap.slot, who == 1, times);
  memcpy(usage, times, sizeof(times));
  add_local_usage(who == 1, usage);
  return answer(copy_to_app(trap.args[1], usage, sizeof(usage)) ? result : kEfault);
}

Answer times_call(Trap& trap) {
  constexpr int64_t kTicksPerSecond = 100;
  int64_t ticks[4] = {};
  const uint64_t args[6] = {};
  const OwnSegment out{nullptr, 0, ticks, sizeof(ticks), kTrimNone, 0};
  const int64_t result = own_request(trap.slot, __NR_times, args, &out, 1, 0);
  if (is_unfinished(result)) {
    return again();
  }
  Timeval times[2];
  cpu_times(trap.slot, false, times);
  for (int i = 0; i < 2; ++i) {
    ticks[i] =
        times[i].seconds * kTicksPerSecond + times[i].microseconds * kTicksPerSecond / 1'000'000;
  }
  const bool good = trap.args[0] == 0 || copy_to_app(trap.args[0], ticks, sizeof(ticks));
  return answer(good ? result : kEfault);
}

Answer itimer_call(Trap& trap, const SyscallInfo& info) {
  const auto which = (int)trap.args[0];
  if (which != 1 && which != 2) {
    return carried_call(trap, info);
  }
  uint64_t value[4] = {};
  uint64_t before[4] = {};
  if (trap.number == __NR_getitimer) {
    const int64_t result = sys(__NR_getitimer, which, before);
    return answer(copy_to_app(trap.args[1], before, sizeof(before)) ? result : kEfault);
  }
  if (trap.args[1] != 0 && !copy_from_app(value, trap.args[1], sizeof(value))) {
    return answer(kEfault);
  }
  const int64_t result = sys(__NR_setitimer, which, value, before);
  if (result == 0 && trap.args[2] != 0 && !copy_to_app(trap.args[2], before, sizeof(before))) {
    return answer(kEfault);
  }
  return answer(result);
}

bool has_cpu_interval_timer() {
  uint64_t timers[2][4] = {};
  sys(__NR_getitimer, 1, timers[0]);
  sys(__NR_getitimer, 2, timers[1]);
  return (timers[0][2] | timers[0][3] | timers[1][2] | timers[1][3]) != 0;
}

// As those here are, or off: home's stand still while the program is away.
int64_t set_interval_timers_at_home(Slot* slot, bool run) {
  int64_t result = 0;
  for (uint64_t which = 1; which <= 2 && !is_unfinished(result); ++which) {
    uint64_t timer[4] = {};
    if (run) {
      sys(__NR_getitimer, which, timer);
    }
    const uint64_t args[6] = {which, 0, 0, 0, 0, 0};
    const OwnSegment segment{timer, sizeof(timer), nullptr, 0, kTrimNone, 1};
    result = own_request(slot, __NR_setitimer, args, &segment, 1, 0);
  }
  return result;
}

// Whether the machine has such a clock, and the program may use it, is home's to say: by a wait
// that is over already.
int64_t may_set_alarm_clock(Slot* slot, int clock) {
  const Timespec over{0, 1};
  const uint64_t args[6] = {(uint64_t)clock, 1, 0, 0, 0, 0};
  const OwnSegment segment{&over, sizeof(over), nullptr, 0, kTrimNone, 2};
  return own_request(slot, __NR_clock_nanosleep, args, &segment, 1, 0);
}

Answer sleep_call(Trap& trap) {
  const bool plain = trap.number == __NR_nanosleep;
  const int clock = plain ? 1 : (int)trap.args[0];
  const bool absolute = !plain && (trap.args[1] & 1) != 0;
  const uint64_t request_at = plain ? trap.args[0] : trap.args[2];
  const uint64_t rest_at = plain ? trap.args[1] : trap.args[3];
  const bool on_cpu = is_own_process(trap.slot, cpu_clock_of(clock));
  constexpr int kThreadCpu = 3, kMonotonicCoarse = 6;  // and between them the raw and coarse ones
  constexpr int kRealtimeAlarm = 8, kBoottimeAlarm = 9;
  if (!on_cpu && (clock < 0 || (clock >= kThreadCpu && clock <= kMonotonicCoarse))) {
    return answer(kEnotsup);
  }
  if (!on_cpu && clock != 0 && clock != 1 && clock != 7 && clock != kRealtimeAlarm &&
      clock != kBoottimeAlarm && clock != 11) {
    return answer(kEinval);
  }
  Timespec wanted;
  if (!copy_from_app(&wanted, request_at, sizeof(wanted))) {
    return answer(kEfault);
  }
  if (!is_time(wanted)) {
    return answer(kEinval);
  }
  if (on_cpu) {
    return cpu_sleep(trap, wanted, absolute, rest_at);
  }
  const bool alarm = clock == kRealtimeAlarm || clock == kBoottimeAlarm;
  const int64_t allowed = alarm ? may_set_alarm_clock(trap.slot, clock) : 0;
  if (allowed < 0) {
    return is_unfinished(allowed) ? again() : answer(allowed);
  }
  int64_t deadline = 0;
  Timespec until = wanted;
  if (!absolute) {
    deadline = trap.repeat ? (int64_t)trap.deadline_ns : monotonic_ns() + length_of(wanted);
    until = timespec_of(deadline);
  }
  const int plain_clock = clock == kRealtimeAlarm ? 0 : clock == kBoottimeAlarm ? 7 : clock;
  const int on_clock = absolute ? plain_clock : 1;
  const uint64_t args[7] = {(uint64_t)on_clock, 1, (uint64_t)&until, 0, 0, 0, ~uint64_t{0}};
  const Answer waited = wait_here(trap, __NR_clock_nanosleep, args, deadline);
  return cut_short(waited) && !absolute ? with_rest(waited, rest_at, deadline - monotonic_ns())
                                        : waited;
}

// Only waiting operations with a timeout come here; the others run natively.
Answer futex_call(Trap& trap) {
  constexpr int kWait = 0, kWaitBitset = 9, kClockRealtime = 256;
  const int op = (int)trap.args[1] & 0x7f;
  uint64_t args[7] = {trap.args[0], trap.args[1], trap.args[2], trap.args[3],
                      trap.args[4], trap.args[5], ~uint64_t{0}};
  Timespec until;
  int64_t deadline = 0;
  if (!copy_from_app(&until, trap.args[3], sizeof(until))) {
    return answer(kEfault);
  }
  if (op == kWait) {
    if (!is_time(until)) {
      return answer(kEinval);
    }
    if ((trap.args[1] & kClockRealtime) != 0) {
      return answer(kEnosys);  // the clock is to be chosen for moments only
    }
    deadline = trap.repeat ? (int64_t)trap.deadline_ns : monotonic_ns() + length_of(until);
    until = timespec_of(deadline);
    args[1] = (trap.args[1] & ~uint64_t{0x7f}) | kWaitBitset;
    args[5] = 0xffffffff;
  }
  args[3] = (uint64_t)&until;
  return wait_here(trap, __NR_futex, args, deadline);
}

}  // namespace tess::stub
