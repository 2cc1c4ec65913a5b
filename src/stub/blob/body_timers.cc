// timer_create and its kin. A timer on CPU time has two halves: home's, never armed, which has the
// number and sends the signal, and one of this host's, which runs. When that goes off, home's is
// set to a time that is past: its kernel makes the signal that the program has asked for, for the
// thread that it has asked for.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

using syscalls::SyscallInfo;

inline constexpr uint64_t kAbsolute = 1;
inline constexpr int32_t kReserved = -2;  // an entry whose timer home is being asked for
inline constexpr uint32_t kNobody = ~0u;
inline constexpr int kSiCode = 8, kSiTimer = -2;  // of siginfo

uint32_t entry_of(const ControlBlock& control, int32_t id) {
  for (uint32_t i = 0; i < control.posix_timer_count; ++i) {
    if (control.posix_timers[i].id == id) {
      return i;
    }
  }
  return kNobody;
}

uint32_t reserve_entry(ControlBlock& control) {
  lock(&control.timers_lock);
  uint32_t index = entry_of(control, kNoTimer);
  if (index == kNobody && control.posix_timer_count < kCpuTimersMax) {
    index = control.posix_timer_count++;
  }
  if (index != kNobody) {
    control.posix_timers[index] = CpuTimer{kReserved, 0, 0, kNoTimer, 0, 0, 0, 0};
  }
  unlock(&control.timers_lock);
  return index;
}

void forget_gone_off(Slot* slot, uint32_t index) {
  for_each_slot(control_of(slot), [&](uint32_t other) {
    __atomic_and_fetch(&priv(slot_at(slot, other)).posix_timer_bits, ~(1u << index),
                       __ATOMIC_SEQ_CST);
  });
}

// With the process or thread in it, as seen by whoever asks.
int32_t explicit_clock(const Slot* slot, int32_t clock, const CpuClock& meaning) {
  constexpr int32_t kThreadBit = 4, kKinds = 3, kScheduled = 2;
  const int32_t kind = clock < 0 ? clock & kKinds : kScheduled;
  const int32_t of = !meaning.thread ? 0 : (meaning.id != 0 ? meaning.id : slot->thread.tid);
  return (~of) * 8 | (meaning.thread ? kThreadBit : 0) | kind;
}

Answer create(Trap& trap, const SyscallInfo& info) {
  constexpr int32_t kSigalrm = 14, kNotifyNone = 1;
  Slot* slot = trap.slot;
  ControlBlock& control = control_of(slot);
  const CpuClock clock = cpu_clock_of((int32_t)trap.args[0]);
  if (!clock.valid) {
    return carried_call(trap, info);
  }
  int64_t base = 0;
  const bool own = own_cpu_clock(slot, clock, &base);
  const bool shares_memory = priv(slot).vfork_child != 0;
  const uint32_t index = own && !shares_memory ? reserve_entry(control) : kNobody;
  if (index == kNobody) {
    return homeward_call(trap, kEperm);
  }
  CpuTimer& timer = control.posix_timers[index];
  int32_t event[16] = {0, 0, kSigalrm, 0};
  if (trap.args[1] != 0) {
    copy_from_app(event, trap.args[1], sizeof(event));  // if it is bad, home's answer says so
  }
  const Answer made = carried_call(trap, info);
  int32_t id = 0;
  if (made.outcome != Outcome::kResult || made.result != 0 ||
      !copy_from_app(&id, trap.args[2], sizeof(id))) {
    timer.id = kNoTimer;
    return made;
  }
  timer.clock = explicit_clock(slot, (int32_t)trap.args[0], clock);
  timer.signal = event[3] == kNotifyNone ? 0 : event[2];
  timer.local = make_host_timer(timer.clock, timer.signal, index);
  timer.id = id;
  return made;
}

// A point in time by the program's clock, by this host's.
Timespec by_local_clock(Slot* slot, const CpuTimer& timer, const Timespec& at) {
  int64_t base = 0;
  own_cpu_clock(slot, cpu_clock_of(timer.clock), &base);
  const int64_t left = length_of(at) - base;
  return timespec_of(left > 0 ? left : 1);
}

int64_t set_at_home(Slot* slot, const CpuTimer& timer, uint64_t flags, const Timespec& value) {
  const TimerSpec spec{{0, 0}, value};
  const uint64_t args[6] = {(uint64_t)timer.id, flags, 0, 0, 0, 0};
  const OwnSegment segment{&spec, sizeof(spec), nullptr, 0, kTrimNone, 2};
  return own_request(slot, __NR_timer_settime, args, &segment, 1, 0);
}

Answer set(Trap& trap, uint32_t index) {
  Slot* slot = trap.slot;
  CpuTimer& timer = control_of(slot).posix_timers[index];
  TimerSpec wanted;
  TimerSpec before{};
  if (trap.args[2] == 0) {
    return answer(kEinval);
  }
  if (!copy_from_app(&wanted, trap.args[2], sizeof(wanted))) {
    return answer(kEfault);
  }
  if (!is_time(wanted.interval) || !is_time(wanted.value)) {
    return answer(kEinval);
  }
  // Whatever of it was on its way to the program is forgotten, as a new setting does.
  const int64_t stopped = set_at_home(slot, timer, 0, {0, 0});
  if (is_unfinished(stopped)) {
    return again();
  }
  if (stopped < 0) {
    return answer(stopped);
  }
  const bool armed = (wanted.value.seconds | wanted.value.nanoseconds) != 0;
  const bool absolute = (trap.args[1] & kAbsolute) != 0 && armed;
  if (absolute) {
    wanted.value = by_local_clock(slot, timer, wanted.value);
  }
  forget_gone_off(slot, index);
  timer.overrun = 0;
  sys(__NR_timer_settime, timer.local, absolute ? kAbsolute : 0, &wanted, &before);
  const bool told = trap.args[3] == 0 || copy_to_app(trap.args[3], &before, sizeof(before));
  return answer(told ? 0 : kEfault);
}

Answer get(Trap& trap, uint32_t index) {
  TimerSpec now{};
  sys(__NR_timer_gettime, control_of(trap.slot).posix_timers[index].local, &now);
  return answer(copy_to_app(trap.args[1], &now, sizeof(now)) ? 0 : kEfault);
}

Answer remove(Trap& trap, const SyscallInfo& info, uint32_t index) {
  CpuTimer& timer = control_of(trap.slot).posix_timers[index];
  const Answer removed = carried_call(trap, info);
  if (removed.outcome == Outcome::kResult && removed.result == 0) {
    const int32_t local = timer.local;
    timer.id = kNoTimer;
    sys(__NR_timer_delete, local);
    forget_gone_off(trap.slot, index);
  }
  return removed;
}

bool is_pending_at_home(Slot* slot, int32_t signal) {
  uint64_t pending = 0;
  const uint64_t args[6] = {0, sizeof(pending), 0, 0, 0, 0};
  const OwnSegment segment{nullptr, 0, &pending, sizeof(pending), kTrimNone, 0};
  return own_request(slot, __NR_rt_sigpending, args, &segment, 1, 0) == 0 &&
         (pending >> (signal - 1) & 1) != 0;
}

// False if it has to be done again.
bool tell_home(Slot* slot, CpuTimer& timer) {
  if (is_pending_at_home(slot, timer.signal)) {
    ++timer.overrun;
    return true;
  }
  timer.overrun = 0;
  constexpr Timespec kPast{0, 1};
  return !is_unfinished(set_at_home(slot, timer, kAbsolute, kPast));
}

}  // namespace

Answer timer_call(Trap& trap, const SyscallInfo& info) {
  if (trap.number == __NR_timer_create) {
    return create(trap, info);
  }
  const ControlBlock& control = control_of(trap.slot);
  const auto id = (int32_t)trap.args[0];
  const uint32_t index =
      id >= 0 && priv(trap.slot).vfork_child == 0 ? entry_of(control, id) : kNobody;
  if (index == kNobody) {
    return carried_call(trap, info);
  }
  switch (trap.number) {
    case __NR_timer_settime:
      return set(trap, index);
    case __NR_timer_gettime:
      return get(trap, index);
    case __NR_timer_getoverrun:
      return answer(control.posix_timers[index].overrun);
    default:
      return remove(trap, info, index);
  }
}

void note_local_timer(Slot* slot, const uint8_t* siginfo) {
  constexpr int kSiValue = 24;
  int32_t code = 0;
  uint32_t index = 0;
  memcpy(&code, siginfo + kSiCode, sizeof(code));
  memcpy(&index, siginfo + kSiValue, sizeof(index));
  if (code == kSiTimer && index == kCpuLimitTimer) {
    __atomic_or_fetch(&priv(slot).timer_bits, 1u, __ATOMIC_SEQ_CST);
  } else if (code == kSiTimer && index < kCpuTimersMax) {
    __atomic_or_fetch(&priv(slot).posix_timer_bits, 1u << index, __ATOMIC_SEQ_CST);
  }
}

void tell_overrun(Slot* slot, uint8_t* siginfo) {
  constexpr int kSiTimerid = 16, kSiOverrun = 20;
  int32_t code = 0, id = 0;
  memcpy(&code, siginfo + kSiCode, sizeof(code));
  memcpy(&id, siginfo + kSiTimerid, sizeof(id));
  const uint32_t index = code == kSiTimer && id >= 0 ? entry_of(control_of(slot), id) : kNobody;
  if (index != kNobody) {
    const uint32_t overrun = control_of(slot).posix_timers[index].overrun;
    memcpy(siginfo + kSiOverrun, &overrun, sizeof(overrun));
  }
}

void raise_posix_timers(Slot* slot) {
  uint32_t bits = __atomic_exchange_n(&priv(slot).posix_timer_bits, 0, __ATOMIC_SEQ_CST);
  for (; bits != 0; bits &= bits - 1) {
    const auto index = (uint32_t)__builtin_ctz(bits);
    CpuTimer& timer = control_of(slot).posix_timers[index];
    if (timer.id >= 0 && !tell_home(slot, timer)) {
      __atomic_or_fetch(&priv(slot).posix_timer_bits, 1u << index, __ATOMIC_SEQ_CST);
      slot->signal_count = 1;  // after the handlers, or the rest, that come first
    }
  }
}

}  // namespace tess::stub
