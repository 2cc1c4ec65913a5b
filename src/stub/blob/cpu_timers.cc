// CPU time through moves, and the timers on it: setitimer's two and those of timer_create on a CPU
// clock. They belong to the process: the thread in the lowest slot carries them.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

inline constexpr int64_t kAtOnce = 1;  // nanosecond

Slot* carrier(Slot* any) {
  Slot* lowest = any;
  for_each_slot(control_of(any), [&](uint32_t index) {
    lowest = index < lowest->index ? slot_at(any, index) : lowest;
  });
  return lowest;
}

void read_timer(int32_t id, CpuTimer* timer) {
  TimerSpec spec{};
  sys(__NR_timer_gettime, id, &spec);
  timer->interval_ns = ns_of(spec.interval);
  timer->left_ns = ns_of(spec.value);
}

void set_timer(int32_t id, int64_t interval_ns, int64_t left_ns) {
  const TimerSpec spec{timespec_of(interval_ns), timespec_of(left_ns)};
  sys(__NR_timer_settime, id, 0, &spec, 0);
}

// Its signal is sent before this returns; else that waits for the next tick.
void set_off(const CpuTimer& timer) {
  constexpr int kAbsolute = 1;
  const TimerSpec spec{timespec_of(timer.interval_ns), timespec_of(clock_ns(timer.clock))};
  sys(__NR_timer_settime, timer.id, kAbsolute, &spec, 0);
}

// What goes for all threads of the body: timers that went off, of which home has not been told.
template <typename Bits>
uint32_t gone_off(const Slot* any, Bits bits) {
  uint32_t all = 0;
  for_each_slot(control_of(any), [&](uint32_t index) { all |= bits(priv(slot_at(any, index))); });
  return all;
}

// Those go off again at once where the process is next.
void save_interval_timers(Slot* slot) {
  constexpr uint32_t kVirtualBit = 2;
  uint64_t(&timers)[2][4] = slot->thread.cpu_timers;
  sys(__NR_getitimer, 1, timers[0]);
  sys(__NR_getitimer, 2, timers[1]);
  const uint32_t bits = gone_off(slot, [](const SlotPrivate& p) { return p.timer_bits; });
  for (uint32_t i = 0; i < 2; ++i) {
    if ((bits >> (kVirtualBit + i) & 1) != 0) {
      timers[i][2] = 0;
      timers[i][3] = 1;  // microsecond
    }
  }
}

void set_interval_timers(const Slot* slot, bool run) {
  const uint64_t off[4] = {};
  for (uint32_t i = 0; i < 2; ++i) {
    const uint64_t* timer = slot->thread.cpu_timers[i];
    if ((timer[2] | timer[3]) != 0) {
      sys(__NR_setitimer, i + 1, run ? timer : off, 0);
    }
  }
}

void save_body_timers(Slot* slot) {
  const ControlBlock& control = control_of(slot);
  ThreadContext& t = slot->thread;
  const uint32_t bits = gone_off(slot, [](const SlotPrivate& p) { return p.posix_timer_bits; });
  t.posix_timer_count = 0;
  for (uint32_t i = 0; i < control.posix_timer_count; ++i) {
    CpuTimer timer = control.posix_timers[i];
    if (timer.id < 0) {  // or being made just now
      continue;
    }
    if (timer.local != kNoTimer) {
      read_timer(timer.local, &timer);
    }
    timer.left_ns = (bits >> i & 1) != 0 ? kAtOnce : timer.left_ns;
    t.posix_timers[t.posix_timer_count++] = timer;
  }
}

}  // namespace

void save_cpu_times(Slot* any) {
  Slot* const slot = carrier(any);
  const bool is_body = control_of(any).role == kRoleBody;
  const int64_t base_ns = is_body ? control_of(any).process_cpu_base_ns : 0;
  slot->thread.process_cpu_ns = (uint64_t)(clock_ns(kClockProcessCpu) + base_ns);
  save_interval_timers(slot);
  if (is_body) {
    save_body_timers(slot);
    return;
  }
  // The agent has told which there are.
  ThreadContext& t = slot->thread;
  for (uint32_t i = 0; i < t.posix_timer_count; ++i) {
    read_timer(t.posix_timers[i].id, &t.posix_timers[i]);
  }
}

// A signal that is pending would be forgotten with the timer's setting (Linux 6.13 and later), and
// a timer that has told of its end is not armed before the signal is taken. One that goes off once
// has nothing left then: what is pending is of another with the same signal.
void set_cpu_timers_at_home(Slot* any, bool run) {
  const Slot* const slot = carrier(any);
  set_interval_timers(slot, run);
  const ThreadContext& t = slot->thread;
  uint64_t pending = 0;
  if (t.posix_timer_count != 0) {
    sys(__NR_rt_sigpending, &pending, sizeof(pending));
  }
  for (uint32_t i = 0; i < t.posix_timer_count; ++i) {
    const CpuTimer& timer = t.posix_timers[i];
    const bool told =
        timer.interval_ns != 0 && timer.signal > 0 && (pending >> (timer.signal - 1) & 1) != 0;
    if (timer.left_ns == 0) {
      continue;
    }
    if (!told) {
      set_timer(timer.id, run ? timer.interval_ns : 0, run ? timer.left_ns : 0);
    } else if (run) {
      set_off(timer);
    }
  }
}

int32_t make_host_timer(int32_t clock, int32_t signal, uint32_t value) {
  constexpr int32_t kThreadBit = 4, kNotifySignal = 0, kNotifyNone = 1, kNotifyThread = 4;
  const bool of_thread = (clock & kThreadBit) != 0;
  const int32_t notify = signal == 0 ? kNotifyNone : (of_thread ? kNotifyThread : kNotifySignal);
  const int32_t event[16] = {(int32_t)value, 0, kSigLocalTimer, notify, ~(clock >> 3)};
  int32_t made = kNoTimer;
  return sys(__NR_timer_create, clock, event, &made) == 0 ? made : kNoTimer;
}

void begin_cpu_times(Slot* any) {
  constexpr int32_t kThreadBit = 4, kScheduled = 2;
  ControlBlock& control = control_of(any);
  for_each_slot(control, [&](uint32_t index) {
    Slot* const slot = slot_at(any, index);
    const int32_t clock = (~slot->thread.tid) * 8 | kThreadBit | kScheduled;
    priv(slot).thread_cpu_base_ns = (int64_t)slot->thread.thread_cpu_ns - clock_ns(clock);
  });
  const Slot* const slot = carrier(any);
  const ThreadContext& t = slot->thread;
  control.process_cpu_base_ns = (int64_t)t.process_cpu_ns - clock_ns(kClockProcessCpu);
  set_interval_timers(slot, true);
  for (uint32_t i = 0; i < t.posix_timer_count; ++i) {
    CpuTimer& timer = control.posix_timers[i];
    timer = t.posix_timers[i];
    timer.local = make_host_timer(timer.clock, timer.signal, i);
    if (timer.left_ns != 0 && timer.local != kNoTimer) {
      set_timer(timer.local, timer.interval_ns, timer.left_ns);
    }
  }
  control.posix_timer_count = t.posix_timer_count;
  apply_cpu_limit(any);
}

}  // namespace tess::stub
