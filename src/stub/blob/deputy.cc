// The deputy: the original process at home, executing the system calls of its body with the
// application's real credentials, descriptors and mask. Signals are the kernel's business: for each
// one that the application catches we have our handler installed with its flags.
#include "stub/blob/core.h"
#include "stub/blob/deputy_call.h"
#include "syscalls/kinds.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kSaNodefer = 0x40000000;
inline constexpr uint64_t kSaResethand = 0x80000000;
inline constexpr uint64_t kSaSiginfo = 4;
inline constexpr uint64_t kSaRestorer = 0x04000000;
inline constexpr uint64_t kSaKept =
    0x10000000 /* RESTART */ | 1 /* NOCLDSTOP */ | 2 /* NOCLDWAIT */ | kSaResethand;
inline constexpr uint64_t kNeverBlocked =
    (uint64_t{1} << 8) | (uint64_t{1} << 18);  // SIGKILL, SIGSTOP
inline constexpr int kMsgOob = 1, kMsgDontwait = 0x40, kMsgNosignal = 0x4000;
inline constexpr uint32_t kQueueMax = sizeof(QueuedSignals) / sizeof(SignalRecord);

// At most one ring between two replies: TCP keeps one urgent byte, and an older one that the body
// has not passed yet would turn into data (tcp_check_urg). The exchange makes the test safe against
// our own handler.
void ring(Slot* slot) {
  if (__atomic_exchange_n(&priv(slot).rung, 1, __ATOMIC_SEQ_CST) != 0) {
    return;
  }
  const char byte = '!';
  sys(__NR_sendto, slot->channel_fd, &byte, 1, kMsgOob | kMsgDontwait | kMsgNosignal, 0, 0);
}

}  // namespace

long set_deputy_handler(int signal, const SignalAction& action) {
  KernelSigaction installed{action.handler, action.flags, action.restorer, action.mask};
  if (action.handler > 1) {
    installed.handler = (uint64_t)&tess_blob_header + tess_blob_header.deputy_handler;
    installed.flags = (action.flags & kSaKept) | kSaSiginfo | kSaRestorer;
    installed.restorer = (uint64_t)&tess_blob_header + tess_blob_header.restorer;
    installed.mask =
        ~uint64_t{0};  // no nesting inside our handler; the application's mask is set on leaving it
  }
  return sys(__NR_rt_sigaction, signal, &installed, 0, 8);
}

void install_deputy_handlers(Slot* slot) {
  ControlBlock& control = control_of(slot);
  for (int signal = 1; signal <= 64; ++signal) {
    KernelSigaction action{};
    sys(__NR_rt_sigaction, signal, 0, &action, 8);
    control.actions[signal] = {action.handler, action.flags, action.restorer, action.mask};
    if (action.handler > 1) {
      set_deputy_handler(signal, control.actions[signal]);
    }
  }
}

void restore_application_handlers(Slot* slot) {
  ControlBlock& control = control_of(slot);
  for (int signal = 1; signal <= 64; ++signal) {
    const SignalAction& a = control.actions[signal];
    if (a.handler > 1) {
      const KernelSigaction action{a.handler, a.flags, a.restorer, a.mask};
      sys(__NR_rt_sigaction, signal, &action, 0, 8);
    }
  }
}

namespace {

// The kernel has reset the action with the signal. Another thread may have set the next one since.
void reset_action(int signal, SignalAction& action) {
  KernelSigaction now{};
  sys(__NR_rt_sigaction, signal, 0, &now, 8);
  if (now.handler == 0) {
    action.handler = 0;
  }
}

// The action as it is now: another thread may have changed it since the kernel chose our handler.
// To the default: the signal comes again, for the kernel to do what it does then.
SignalAction take_action(Slot* slot, int signal, const uint8_t* siginfo) {
  const ActionsGuard guard(slot);
  SignalAction& action = priv(slot).actions[signal];
  const SignalAction taken = action;
  if (taken.handler == 0) {
    sys(__NR_rt_tgsigqueueinfo, sys(__NR_getpid), sys(__NR_gettid), signal, siginfo);
  } else if ((taken.flags & kSaResethand) != 0 && taken.handler > 1) {
    reset_action(signal, action);
  }
  return taken;
}

}  // namespace

extern "C" void tess_deputy_handler(int signal, const uint8_t* siginfo, KernelUcontext* context) {
  Slot* slot = this_slot();
  SlotPrivate& p = priv(slot);
  const uint64_t rip = context->gregs[kRip];
  const SignalAction action = take_action(slot, signal, siginfo);
  if (slot->signal_count < kQueueMax && action.handler > 1) {
    SignalRecord& record = p.queued.records[slot->signal_count];
    record.signal = (uint32_t)signal;
    record.action = action;
    record.old_mask = context->mask;
    uint64_t base = context->mask;
    // Inside sigsuspend and its like the mask in force is the temporary one; the frame holds the
    // one to return to.
    if (p.has_temporary_mask != 0 && (in_cp_window(rip) || rip == (uint64_t)tess_cp_site)) {
      base = p.temporary_mask;
    }
    uint64_t inside = base | action.mask;
    if ((action.flags & kSaNodefer) == 0) {
      inside |= uint64_t{1} << (signal - 1);
    }
    record.new_mask = inside & ~kNeverBlocked;
    memcpy(record.siginfo, siginfo, sizeof(record.siginfo));
    context->mask = record.new_mask;
    slot->signal_count = slot->signal_count + 1;
    if (slot->signal_count == kQueueMax) {
      context->mask =
          ~kNeverBlocked;  // the rest waits in the kernel until the body has taken these
      record.new_mask = context->mask;
    }
  }
  if (in_cp_window(rip)) {
    context->gregs[kRip] = (uint64_t)tess_cp_abort;
  }
  if (p.busy == 0 && slot->state == kSlotDeputy) {
    ring(slot);
  }
}

namespace {

[[noreturn]] void body_lost(Slot* slot) {
  constexpr int kSigkill = 9;
  note(slot, Note::kBodyLost, 0, 0);
  const int pid = (int)sys(__NR_getpid);
  sys(__NR_kill, pid, kSigkill);
  die_quietly(slot);
}

// Leaves the loop for the time the agents need; comes back with the channel perhaps exchanged.
void park_deputy(Slot* slot) {
  uint64_t mask = 0;
  block_all_signals(&mask);
  slot->thread.signal_mask = mask;
  const Phase phase = park(slot);
  // The agent kicks everyone until all are parked, those that are parked already too.
  slot->pending &= kPendingHold;
  switch (phase) {
    case kPhaseContinue:
      channel_reset(slot);
      priv(slot).rung = 0;
      slot->state = kSlotDeputy;
      set_signal_mask(mask);
      return;
    case kPhaseNative:
      run_native(slot);
    default:
      die_quietly(slot);
  }
}

void ring_for_queued(Slot* slot) {
  if (slot->signal_count != 0) {
    ring(slot);
  }
}

}  // namespace

void deputy_loop(Slot* slot) {
  SlotPrivate& p = priv(slot);
  while (true) {
    __atomic_store_n(&p.busy, 0, __ATOMIC_SEQ_CST);
    if (p.at_rest != 0 && must_park(slot)) {
      p.at_rest = 0;
      park_deputy(slot);
      continue;
    }
    ring_for_queued(slot);
    // Neither queued signals nor a kick end this wait; a kick does once the body's thread rests,
    // for it may have got its freeze word before this process.
    const long ready = receive_wait(slot, p.at_rest != 0 ? kPendingKick : 0);
    if (ready == kAborted) {
      continue;
    }
    __atomic_store_n(&p.busy, 1, __ATOMIC_SEQ_CST);
    if (ready < 0 || !serve_request(slot)) {
      body_lost(slot);
    }
  }
}

void deputy_start(Slot* slot) {
  constexpr int kRseqUnregister = 1;
  SlotPrivate& p = priv(slot);
  const ThreadContext& t = slot->thread;
  p.actions = control_of(slot).actions;
  // The kernel must not write to memory whose truth is elsewhere now.
  sys(__NR_set_tid_address, 0);
  sys(__NR_set_robust_list, 0, 24);
  if (t.rseq_address != 0) {
    sys(__NR_rseq, t.rseq_address, t.rseq_size, kRseqUnregister, t.rseq_signature);
  }
  channel_reset(slot);
  slot->sequence = 0;
  slot->signal_count = 0;
  slot->state = kSlotDeputy;
  set_signal_mask(t.signal_mask);
  deputy_loop(slot);
}

}  // namespace tess::stub
