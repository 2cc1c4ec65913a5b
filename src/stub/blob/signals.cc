// Signal frames, by the kernel's own layout (arch/x86/kernel/signal_64.c): saving the application's
// context out of one, resuming from one, and pushing one for an application handler.
#include "stub/blob/core.h"
#include "stub/repeat.h"
#include "syscalls/kinds.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kSaOnstack = 0x08000000;
inline constexpr uint32_t kSsOnstack = 1;
inline constexpr uint32_t kSsDisable = 2;
inline constexpr uint32_t kSsAutodisarm = 0x80000000;
inline constexpr uint64_t kUcFlags = 7;  // UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
inline constexpr uint32_t kMagic1 = 0x46505853;
inline constexpr uint64_t kRedZone = 128;
inline constexpr uint64_t kFlagsCleared =
    0x10500;  // RF, DF and TF, as the kernel clears them for a handler

uint32_t fpstate_size(uint64_t fpstate) {
  if (fpstate == 0) {
    return 0;
  }
  uint32_t magic1, extended_size;
  memcpy(&magic1, (const void*)(fpstate + 464), 4);
  memcpy(&extended_size, (const void*)(fpstate + 468), 4);
  if (magic1 != kMagic1 || extended_size < 576 || extended_size > kXsaveMax) {
    return 512;
  }
  return extended_size;
}

bool on_altstack(const ThreadContext& t, uint64_t sp) {
  // An AUTODISARM stack is never "on": it is disabled while its handler runs
  // (linux/sched/signal.h).
  return (t.altstack_flags & kSsAutodisarm) == 0 && t.altstack_size != 0 && sp > t.altstack_sp &&
         sp - t.altstack_sp <= t.altstack_size;
}

}  // namespace

void clear_fpstate(KernelUcontext* context) {
  if (context->fpstate == 0) {
    return;
  }
  const uint64_t fp = context->fpstate;
  const uint32_t mxcsr = 0x1f80;
  const uint16_t control_word = 0x37f;
  if (fpstate_size(fp) > 512) {
    memset((void*)(fp + 512), 0, 8);  // xstate_bv: every component in its initial state
  } else {
    memset((void*)fp, 0, 416);
    memcpy((void*)fp, &control_word, 2);
  }
  memcpy((void*)(fp + 24), &mxcsr, 4);
}

void save_context(Slot* slot, const KernelUcontext* context) {
  constexpr int kArchGetFs = 0x1003, kArchGetGs = 0x1004;
  ThreadContext& t = slot->thread;
  memcpy(t.gregs, context->gregs, sizeof(t.gregs));
  const uint32_t size = fpstate_size(context->fpstate);
  memcpy(t.xsave, (const void*)context->fpstate, size);
  t.xsave_size = size;
  sys(__NR_arch_prctl, kArchGetFs, &t.fs_base);
  sys(__NR_arch_prctl, kArchGetGs, &t.gs_base);
  t.thread_cpu_ns = (uint64_t)(clock_ns(kClockThreadCpu) + priv(slot).thread_cpu_base_ns);
  save_memory_policy(slot);
}

KernelUcontext* build_resume_frame(Slot* slot, uint64_t mask, bool native) {
  constexpr uint64_t kRoomForUs = 4096;  // whoever calls this still runs above the frame
  const ThreadContext& t = slot->thread;
  const uint64_t top = (uint64_t)slot + kSlotSize - kRoomForUs;
  const uint64_t fpstate = (top - t.xsave_size) & ~uint64_t{63};
  auto* frame = (KernelFrame*)(((fpstate - sizeof(KernelFrame)) & ~uint64_t{15}) - 8);
  memset(frame, 0, sizeof(*frame));
  KernelUcontext& context = frame->context;
  context.flags = kUcFlags;
  memcpy(context.gregs, t.gregs, sizeof(t.gregs));
  if (t.xsave_size != 0) {
    memcpy((void*)fpstate, t.xsave, t.xsave_size);
    context.fpstate = fpstate;
  }
  context.mask = mask;
  if (native) {
    context.stack_sp = t.altstack_sp;
    context.stack_size = t.altstack_size;
    context.stack_flags = t.altstack_size == 0 ? kSsDisable : (t.altstack_flags & ~kSsOnstack);
  } else {
    context.stack_sp = (uint64_t)slot + kSlotStackOffset;
    context.stack_size = kSlotSize - kSlotStackOffset;
  }
  return &context;
}

bool push_signal_frame(Slot* slot, KernelUcontext* context, const SignalRecord& record) {
  constexpr uint64_t kSegmentsOf64Bits = uint64_t{0x2b} << 48 | 0x33;  // ss, fs, gs, cs
  ThreadContext& t = slot->thread;
  uint64_t sp = context->gregs[kRsp];
  const bool on = on_altstack(t, sp);
  uint32_t stack_flags = t.altstack_size == 0 ? kSsDisable : (t.altstack_flags & kSsAutodisarm);
  if (on) {
    stack_flags |= kSsOnstack;
  }
  const bool entering = (record.action.flags & kSaOnstack) != 0 && t.altstack_size != 0 && !on;
  if (entering) {
    sp = t.altstack_sp + t.altstack_size;
  } else {
    sp -= kRedZone;
  }
  const uint32_t size = fpstate_size(context->fpstate);
  const uint64_t fpstate = (sp - size) & ~uint64_t{63};
  const uint64_t at = ((fpstate - sizeof(KernelFrame)) & ~uint64_t{15}) - 8;
  if ((on || entering) && at <= t.altstack_sp) {
    return false;  // would overflow the alternate stack: the kernel forces SIGSEGV too
  }
  KernelFrame frame;
  frame.restorer = record.action.restorer;
  frame.context = *context;
  frame.context.flags = kUcFlags;
  frame.context.link = 0;
  frame.context.stack_sp = t.altstack_sp;
  frame.context.stack_size = t.altstack_size;
  frame.context.stack_flags = stack_flags;
  frame.context.fpstate = size != 0 ? fpstate : 0;
  frame.context.mask = record.old_mask;
  memcpy(frame.siginfo, record.siginfo, sizeof(frame.siginfo));
  if (!copy_to_app(fpstate, (const void*)context->fpstate, size) ||
      !copy_to_app(at, &frame, sizeof(frame))) {
    return false;
  }
  context->gregs[kRsp] = at;
  context->gregs[kRip] = record.action.handler;
  context->gregs[kRdi] = record.signal;
  context->gregs[kRsi] = at + offsetof(KernelFrame, siginfo);
  context->gregs[kRdx] = at + offsetof(KernelFrame, context);
  context->gregs[kRax] = 0;
  context->gregs[kCsGsFs] = kSegmentsOf64Bits;  // it may have been in code of 32 bits
  context->gregs[kEflags] &= ~kFlagsCleared;
  clear_fpstate(context);
  if ((t.altstack_flags & kSsAutodisarm) != 0 && (record.action.flags & kSaOnstack) != 0) {
    t.altstack_sp = 0;
    t.altstack_size = 0;
    t.altstack_flags = kSsDisable;
  }
  return true;
}

void save_memory_policy(Slot* slot) {
  ThreadContext& t = slot->thread;
  uint64_t nodes[kPolicyNodeWords] = {};
  int32_t mode = 0;
  const long got = sys(__NR_get_mempolicy, &mode, nodes, kPolicyNodeWords * 64 + 1, 0, 0);
  if (got != 0 || (mode == 0 && priv(slot).policy_refused != 0)) {
    return;
  }
  t.policy_mode = mode;
  memcpy(t.policy_nodes, nodes, sizeof(nodes));
}

void set_memory_policy(Slot* slot) {
  const ThreadContext& t = slot->thread;
  const long set = t.policy_mode == 0 ? sys(__NR_set_mempolicy, 0, 0, 0)
                                      : sys(__NR_set_mempolicy, t.policy_mode, t.policy_nodes,
                                            kPolicyNodeWords * 64 + 1);
  priv(slot).policy_refused = set != 0 && t.policy_mode != 0 ? 1 : 0;
}

namespace {

// The context stands before the call that a move has interrupted.
bool repeats(const ThreadContext& t, const uint64_t* gregs) {
  return t.repeat_number >= 0 && gregs[kRip] == t.repeat_rip &&
         gregs[kRax] == (uint64_t)t.repeat_number;
}

}  // namespace

bool end_repeated_wait(ThreadContext& t, uint64_t* gregs, uint64_t sa_flags) {
  constexpr uint64_t kCallSize = 2;  // of the syscall instruction
  if (!repeats(t, gregs) || (t.repeat_done == 0 && t.repeat_ends == 0 &&
                             !handler_ends(t.repeat_number, gregs[kR10], sa_flags))) {
    return false;
  }
  gregs[kRax] = t.repeat_done != 0 ? t.repeat_done : (uint64_t)kEintr;
  gregs[kRip] += kCallSize;
  return true;
}

uint64_t rest_of_sleep(const ThreadContext& t, const uint64_t* gregs, int64_t left[2]) {
  constexpr int64_t kSecond = 1'000'000'000;
  constexpr uint64_t kAbsolute = 1;
  const bool clock = t.repeat_number == __NR_clock_nanosleep && (gregs[kRsi] & kAbsolute) == 0;
  if ((!clock && t.repeat_number != __NR_nanosleep) || t.repeat_deadline_ns == 0) {
    return 0;
  }
  const int64_t until_end = (int64_t)t.repeat_deadline_ns - monotonic_ns();
  const int64_t rest = until_end > 0 ? until_end : 0;
  left[0] = rest / kSecond;
  left[1] = rest % kSecond;
  return gregs[clock ? kR10 : kRsi];
}

namespace {

void end_wait_natively(Slot* slot) {
  ThreadContext& t = slot->thread;
  if (!end_repeated_wait(t, t.gregs, priv(slot).queued.records[0].action.flags)) {
    return;
  }
  int64_t left[2];
  const uint64_t at = rest_of_sleep(t, t.gregs, left);
  if (at != 0) {  // the kernel copies: the address may be bad
    const uint64_t from[2] = {(uint64_t)left, sizeof(left)};
    const uint64_t to[2] = {at, sizeof(left)};
    sys(__NR_process_vm_writev, sys(__NR_getpid), from, 1, to, 1, 0);
  }
}

// Which argument of the call is a relative timeout, and how it is written; none: false. Sleeps and
// futexes are the body's own calls: the table's words say nothing of their times.
bool find_relative_timeout(const ThreadContext& t, uint32_t* index, syscalls::Timeout* timeout) {
  constexpr uint64_t kAbsolute = 1;
  *timeout = syscalls::Timeout::kTimespec;
  switch (t.repeat_number) {
    case __NR_nanosleep:
      *index = 0;
      return true;
    case __NR_clock_nanosleep:
      *index = 2;
      return (t.gregs[kRsi] & kAbsolute) == 0;
    case __NR_futex:
      *index = 3;
      return true;
    default:
      break;
  }
  const syscalls::SyscallInfo* info = syscalls::syscall_info((uint64_t)t.repeat_number);
  if (info == nullptr || info->timeout == syscalls::Timeout::kNone) {
    return false;
  }
  *index = info->timeout_arg;
  *timeout = info->timeout;
  return true;
}

// These write what is left of their time where it was given; the program may look at it afterwards.
bool updates_timeout(int32_t number) {
  return number == __NR_select || number == __NR_pselect6 || number == __NR_ppoll;
}

// A wait with a relative timeout that the move has interrupted is about to be made again, at home:
// with what is left of its time. The arguments of a system call belong to the kernel until it
// returns; the time goes below the stack's red zone.
void shorten_repeated_wait(Slot* slot) {
  constexpr Greg kArguments[6] = {kRdi, kRsi, kRdx, kR10, kR8, kR9};
  constexpr int64_t kSecond = 1'000'000'000, kMillisecond = 1'000'000, kMicrosecond = 1'000;
  ThreadContext& t = slot->thread;
  uint32_t index = 0;
  syscalls::Timeout timeout{};
  if (t.repeat_deadline_ns == 0 || !find_relative_timeout(t, &index, &timeout)) {
    return;
  }
  const int64_t until_end = (int64_t)t.repeat_deadline_ns - monotonic_ns();
  const int64_t left = until_end > 0 ? until_end : 0;
  uint64_t& argument = t.gregs[kArguments[index]];
  if (timeout == syscalls::Timeout::kMilliseconds) {
    argument = (uint64_t)((left + kMillisecond - 1) / kMillisecond);
    return;
  }
  const int64_t unit = timeout == syscalls::Timeout::kTimeval ? kMicrosecond : 1;
  const int64_t value[2] = {left / kSecond, left % kSecond / unit};
  if (updates_timeout(t.repeat_number)) {
    const uint64_t from[2] = {(uint64_t)value, sizeof(value)};
    const uint64_t to[2] = {argument, sizeof(value)};
    sys(__NR_process_vm_writev, sys(__NR_getpid), from, 1, to, 1, 0);
    return;
  }
  const uint64_t at = (t.gregs[kRsp] - kRedZone - sizeof(value)) & ~uint64_t{15};
  memcpy((void*)at, value, sizeof(value));
  argument = at;
}

}  // namespace

[[noreturn]] void run_native(Slot* slot) {
  constexpr int kArchSetFs = 0x1002, kArchSetGs = 0x1001;
  ThreadContext& t = slot->thread;
  const bool was_away = control_of(slot).role == kRoleDeputy;
  if (was_away) {
    sys(__NR_arch_prctl, kArchSetFs, t.fs_base);
    sys(__NR_arch_prctl, kArchSetGs, t.gs_base);
    set_memory_policy(slot);
    sys(__NR_set_tid_address, t.clear_child_tid);
    sys(__NR_set_robust_list, t.robust_list_head,
        t.robust_list_size != 0 ? t.robust_list_size : 24);
    if (t.rseq_address != 0) {
      sys(__NR_rseq, t.rseq_address, t.rseq_size, 0, t.rseq_signature);
    }
  }
  if (slot->signal_count != 0) {
    end_wait_natively(slot);
  } else if (t.repeat_done != 0) {
    end_repeated_wait(t, t.gregs, 0);  // nobody at home adds the rest to it
  } else if (repeats(t, t.gregs)) {
    if (was_away) {
      shorten_repeated_wait(slot);
    }
    // A signal that comes before the wait has begun ends it, too: the agent sees to that.
    t.gregs[kRcx] = t.repeat_ends != 0 ? kRepeatEndsMark : kRepeatMark;
    t.gregs[kR11] = kRepeatMark;
  }
  t.repeat_number = -1;
  KernelUcontext* context = build_resume_frame(slot, t.signal_mask, true);
  // Signals that the deputy had taken for a body that is no longer away.
  SlotPrivate& p = priv(slot);
  for (uint32_t i = 0; i < slot->signal_count; ++i) {
    push_signal_frame(slot, context, p.queued.records[i]);
    context->mask = p.queued.records[i].new_mask;
  }
  slot->signal_count = 0;
  __atomic_and_fetch(&control_of(slot).slot_bitmap[slot->index / 64],
                     ~(uint64_t{1} << (slot->index % 64)), __ATOMIC_RELEASE);
  __atomic_store_n(&slot->state, (uint32_t)kSlotFree, __ATOMIC_RELEASE);
  tess_sigreturn((uint64_t)context);
}

}  // namespace tess::stub
