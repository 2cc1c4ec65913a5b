// Signals that bodies send go by way of home, but in order with what the sender does next in memory
// that it shares with the receiver.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

// Who a signal was sent to may be woken by the sender's next instruction, through memory, and finds
// the signal first if all is on one machine. The doorbell from home may come later than that, so
// the sender rings, too: then the receiver asks home before it goes on. Home has the signal
// already.
void ring_receivers(const Trap& trap) {
  constexpr uint32_t kManyThreads = 64;
  Slot* const self = trap.slot;
  const ControlBlock& control = control_of(self);
  const auto own = (uint64_t)control.pid;
  const auto ring = [](uint64_t pid, uint64_t tid) {
    if ((int32_t)pid > 1 && (int32_t)tid > 1) {
      sys(__NR_tgkill, pid, tid, kSigurg);  // if it is here
    }
  };
  const uint64_t* a = trap.args;
  switch (trap.number) {
    case __NR_tgkill:
    case __NR_rt_tgsigqueueinfo:
      ring(a[0], a[1]);
      return;
    case __NR_tkill:
      ring(slot_of_thread(self, (int32_t)a[0]) != nullptr ? own : a[0], a[0]);
      return;
    case __NR_kill:
    case __NR_rt_sigqueueinfo:
      break;
    default:
      return;
  }
  if (a[0] != own || control.in_use > kManyThreads) {
    ring(a[0], a[0]);  // the first thread gets it, unless it has blocked it
    return;
  }
  for_each_slot(control, [&](uint32_t index) {
    const Slot* const other = slot_at(self, index);
    if (other != self) {
      ring(own, (uint64_t)other->thread.tid);
    }
  });
}

}  // namespace

bool sends_signal(uint64_t number) {
  switch (number) {
    case __NR_kill:
    case __NR_tkill:
    case __NR_tgkill:
    case __NR_rt_sigqueueinfo:
    case __NR_rt_tgsigqueueinfo:
    case __NR_pidfd_send_signal:
      return true;
    default:
      return false;
  }
}

// A signal that another thread of the process is just sending comes before this thread's change of
// mask or its end, as it would if sending took no time: a thread's last act is to block everything,
// and what was meant for it would wait for ever.
void let_signals_overtake(Slot* self) {
  constexpr int kWaitPrivate = 128;
  constexpr Timespec kSlice{0, 20'000'000};
  for_each_slot(control_of(self), [&](uint32_t index) {
    Slot* const other = slot_at(self, index);
    if (other == self) {
      return;
    }
    uint32_t* const sends = &priv(other).signalling;
    const uint32_t seen = __atomic_load_n(sends, __ATOMIC_SEQ_CST);
    while ((seen & 1) != 0 && !must_park(self) &&
           __atomic_load_n(sends, __ATOMIC_SEQ_CST) == seen) {
      sys(__NR_futex, sends, kWaitPrivate, seen, &kSlice, 0, 0);
    }
  });
}

void after_signal(const Trap& trap, const Answer& made) {
  if (sends_signal(trap.number) && made.outcome == Outcome::kResult && made.result == 0 &&
      received_signals(trap.slot) == 0) {
    ring_receivers(trap);
  }
}

}  // namespace tess::stub
