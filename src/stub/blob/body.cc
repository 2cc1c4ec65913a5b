// The body: every system call that is not local ends up here by SIGSYS, signals of home by SIGURG,
// faults by their own signals. The application's registers are those of the signal frame; the real
// signal mask in application code is always empty.
#include "stub/blob/body.h"

#include "stub/repeat.h"

namespace tess::stub {
namespace {

inline constexpr int kSigill = 4, kSigtrap = 5, kSigbus = 7, kSigkill = 9, kSigfpe = 8,
                     kSigsegv = 11, kSigxcpu = 24, kSigvtalrm = 26, kSigprof = 27, kSigsys = 31;
inline constexpr uint64_t kSaSiginfo = 4, kSaOnstack = 0x08000000, kSaRestart = 0x10000000,
                          kSaNodefer = 0x40000000, kSaRestorer = 0x04000000;

uint64_t blob_address(uint32_t offset) {
  return (uint64_t)&tess_blob_header + offset;
}

void install(int signal, uint32_t handler, uint64_t flags) {
  const KernelSigaction action{blob_address(handler), flags | kSaSiginfo | kSaOnstack | kSaRestorer,
                               blob_address(tess_blob_header.restorer), 0};
  sys(__NR_rt_sigaction, signal, &action, 0, 8);
}

void push_received(Slot* slot, KernelUcontext* context);

// Not even the handler of SIGSEGV could be entered: that ends the process.
void die_of_segv(Slot* slot) {
  int32_t siginfo[32] = {kSigsegv, 0, 0x80 /* SI_KERNEL */};
  const uint64_t args[6] = {1, 0, 0, 0, 0, 0};
  uint64_t mask_none[4] = {0, 0, 0, 0};
  const uint64_t reset[6] = {kSigsegv, 1, 0, 8, 0, 0};
  const OwnSegment action{mask_none, sizeof(mask_none), mask_none, sizeof(mask_none)};
  own_request(slot, __NR_rt_sigaction, reset, &action, 1, 0);
  const OwnSegment info{siginfo, sizeof(siginfo), nullptr, 0};
  while (own_request(slot, kOpFault, args, &info, 1, 0) == kRestart) {
  }
}

// A handler could not be entered: the kernel forces SIGSEGV, with the mask that was in force
// before.
void force_segv(Slot* slot, KernelUcontext* context, uint64_t mask) {
  int32_t siginfo[32] = {kSigsegv, 0, 0x80 /* SI_KERNEL */};
  const OwnSegment info{siginfo, sizeof(siginfo), nullptr, 0};
  const uint64_t old[6] = {0, mask, 0, 0, 0, 0};
  const uint64_t forced[6] = {1, 0, 0, 0, 0, 0};
  own_request(slot, kOpSetMask, old, nullptr, 0, 0);
  push_received(slot, context);  // signals that came first
  while (own_request(slot, kOpFault, forced, &info, 1, 0) == kRestart) {
    push_received(slot, context);
  }
  push_received(slot, context);
}

// The kernel has set a wait on a futex that our doorbell interrupted up to be made again, as our
// handler asks for. It ends if the application's handler does not ask for that, or with a timeout
// (futex(2): never restarted by a handler then).
void end_interrupted_wait(KernelUcontext* context, const SignalRecord& record) {
  constexpr uint64_t kCommandMask = 0x7f, kWait = 0, kWaitBitset = 9;
  const uint64_t command = context->gregs[kRsi] & kCommandMask;
  uint8_t code[2];
  if ((uint32_t)context->gregs[kRax] != __NR_futex ||
      (command != kWait && command != kWaitBitset) ||
      !copy_from_app(code, context->gregs[kRip], sizeof(code)) || code[0] != 0x0f ||
      code[1] != 0x05) {
    return;
  }
  if (context->gregs[kR10] != 0 || (record.action.flags & kSaRestart) == 0) {
    context->gregs[kRax] = (uint64_t)kEintr;
    context->gregs[kRip] += sizeof(code);
  }
}

// Of a sleep that has been ended.
void tell_rest(const ThreadContext& t, const uint64_t* gregs) {
  int64_t left[2];
  const uint64_t at = rest_of_sleep(t, gregs, left);
  if (at != 0) {
    copy_to_app(at, left, sizeof(left));
  }
}

void push_received(Slot* slot, KernelUcontext* context) {
  SlotPrivate& p = priv(slot);
  const uint32_t count = received_signals(slot);
  received_signals(slot) = 0;
  if (count != 0) {
    end_interrupted_wait(context, p.queued.records[0]);
    if (end_repeated_wait(slot->thread, context->gregs, p.queued.records[0].action.flags)) {
      tell_rest(slot->thread, context->gregs);
      slot->thread.repeat_number = -1;  // the handler may begin with a call from the same place
    }
  }
  bool failed = false;
  uint64_t mask = 0;
  for (uint32_t i = 0; i < count; ++i) {
    SignalRecord& record = p.queued.records[i];
    tell_overrun(slot, record.siginfo);
    if (push_signal_frame(slot, context, record)) {
      continue;
    }
    if (record.signal == kSigsegv) {
      die_of_segv(slot);
      return;
    }
    mask = failed ? mask : record.old_mask;
    failed = true;
  }
  if (failed) {
    force_segv(slot, context, mask);
  }
}

void park_body(Slot* slot, KernelUcontext* context) {
  const uint64_t args[6] = {};
  own_request(slot, kOpRest, args, nullptr, 0, 0);
  push_received(slot, context);
  drop_kept_channel(slot);
  save_context(slot, context);
  if (park(slot) != kPhaseContinue) {
    die_quietly(slot);
  }
  slot->state = kSlotBody;
}

}  // namespace

void install_body_handlers(Slot* slot) {
  (void)slot;
  install(kSigsys, tess_blob_header.body_sigsys, kSaNodefer);
  install(kSigurg, tess_blob_header.body_doorbell, kSaRestart);
  constexpr int kFaults[] = {kSigill, kSigtrap, kSigbus, kSigfpe, kSigsegv};
  install(kSigvtalrm, tess_blob_header.body_timer, kSaRestart);
  install(kSigprof, tess_blob_header.body_timer, kSaRestart);
  install(kSigLocalTimer, tess_blob_header.body_timer, kSaRestart);
  for (int signal : kFaults) {
    install(signal, tess_blob_header.body_fault, kSaNodefer);
  }
}

void body_gone(Slot* slot) {
  die_quietly(slot);
}

// A CPU timer or limit of the application went off here: home raises the signal. That of the limit
// comes each second, until the hard one is reached.
void raise_timers(Slot* slot) {
  uint32_t bits = __atomic_exchange_n(&priv(slot).timer_bits, 0, __ATOMIC_SEQ_CST);
  if ((bits & 1) != 0 && cpu_limit_reached(slot)) {
    const uint64_t args[6] = {(uint64_t)priv(slot).pid, kSigkill, 0, 0, 0, 0};
    own_request(slot, __NR_kill, args, nullptr, 0, 0);
    return;
  }
  for (int signal = kSigxcpu; bits != 0; bits >>= 1, ++signal) {
    if ((bits & 1) != 0) {
      const int32_t siginfo[32] = {signal, 0, 0x80 /* SI_KERNEL */};
      const uint64_t args[6] = {};
      const OwnSegment info{siginfo, sizeof(siginfo), nullptr, 0};
      own_request(slot, kOpFault, args, &info, 1, 0);
    }
  }
}

inline constexpr uint64_t kTrapFlag = 0x100;  // of eflags: SIGTRAP after the next instruction

bool in_vdso(const Slot* slot, const KernelUcontext* context) {
  const ControlBlock& control = control_of(slot);
  return context->gregs[kRip] >= control.vdso_begin && context->gregs[kRip] < control.vdso_end;
}

bool disturbed(Slot* slot) {
  return slot->signal_count != 0 || must_park(slot);
}

void fetch_signals(Slot* slot) {
  slot->signal_count = 0;
  slot->thread.settings &= ~kSignalsWait;
  const uint64_t args[6] = {};
  own_request(slot, kOpPollSignals, args, nullptr, 0, 0);
}

// Ends every visit to the stub: rest if the agent wants it, hand over signals, go back.
void body_leave(Slot* slot, KernelUcontext* context) {
  SlotPrivate& p = priv(slot);
  push_received(slot, context);
  while (disturbed(slot) && p.stepping == 0) {
    // No handler begins there either: a move within it would go unnoticed until it returns.
    if (in_vdso(slot, context)) {
      p.stepping = 1;
      context->gregs[kEflags] |= kTrapFlag;
      break;
    }
    if (must_park(slot)) {
      park_body(slot, context);
    }
    if (slot->signal_count != 0) {
      fetch_signals(slot);
      raise_timers(slot);
      raise_posix_timers(slot);
      push_received(slot, context);
    }
  }
  if (p.stepping != 0) {
    slot->signal_count = 0;  // or it would not be let go; asked for when it is out
  }
  slot->in_application = 1;
  tess_leave(slot, (uint64_t)context, &slot->pending);
}

extern "C" void tess_leave_again(Slot* slot, KernelUcontext* context) {
  slot->in_application = 0;
  body_leave(slot, context);
}

void remember_repeat(Trap& trap, uint64_t deadline_ns, bool begun) {
  ThreadContext& t = trap.slot->thread;
  t.repeat_done = trap.done;
  t.repeat_number = deadline_ns != 0 || begun ? (int32_t)trap.number : -1;
  t.repeat_rip = trap.rip;
  t.repeat_deadline_ns = deadline_ns;
  t.repeat_ends = trap.repeat ? t.repeat_ends : 0;
}

namespace {

Answer make_call(Trap& trap);

Answer call(Trap& trap) {
  constexpr int kWakePrivate = 129;
  const bool threads = control_of(trap.slot).in_use > 1;
  if (threads && (trap.number == __NR_rt_sigprocmask || trap.number == __NR_exit)) {
    let_signals_overtake(trap.slot);
  }
  if (!threads || !sends_signal(trap.number)) {
    const Answer made = make_call(trap);
    after_signal(trap, made);
    return made;
  }
  uint32_t& word = priv(trap.slot).signalling;
  __atomic_add_fetch(&word, 1, __ATOMIC_SEQ_CST);
  const Answer made = make_call(trap);
  after_signal(trap, made);
  __atomic_add_fetch(&word, 1, __ATOMIC_SEQ_CST);
  sys(__NR_futex, &word, kWakePrivate, 0x7fffffff, 0, 0, 0);
  return made;
}

Answer make_call(Trap& trap) {
  const syscalls::SyscallInfo* info = syscalls::syscall_info(trap.number);
  if (info == nullptr) {
    return answer(kEnosys);
  }
  if (info->where == syscalls::Class::kHomeward) {
    return homeward_call(trap, -(int64_t)info->refusal);
  }
  if (info->where == syscalls::Class::kRefused) {
    note(trap.slot, Note::kUnsupported, (uint32_t)trap.number, -(int64_t)info->refusal);
    return answer(-(int64_t)info->refusal);
  }
  if (info->special != syscalls::Special::kNone) {
    return special_call(trap, *info);
  }
  return carried_call(trap, *info);
}

// By `int 0x80` or `sysenter`: the numbers are those of another table, whose calls only home can
// make. The two that never return need no way back.
Answer call_of_32_bits(Trap& trap) {
  constexpr uint64_t kExit = 1, kExitGroup = 252, kOtherTable = 0x8000'0000;
  constexpr uint8_t kInt = 0xcd, kVector = 0x80;
  if (trap.number == kExit || trap.number == kExitGroup) {
    trap.number = trap.number == kExit ? __NR_exit : __NR_exit_group;
    trap.args[0] = (uint32_t)trap.context->gregs[kRbx];
    return call(trap);
  }
  uint8_t code[2];
  if (!copy_from_app(code, trap.rip, sizeof(code)) || code[0] != kInt || code[1] != kVector) {
    return answer(kEnosys);  // sysenter does not say where it was
  }
  Trap at_home = trap;
  at_home.number |= kOtherTable;  // for no call of ours to be meant
  return homeward_call(at_home, kEnosys);
}

bool is_of_32_bits(const uint8_t* siginfo) {
  constexpr int kSiArch = 28;
  constexpr uint32_t kArchI386 = 0x4000'0003;
  uint32_t arch = 0;
  memcpy(&arch, siginfo + kSiArch, sizeof(arch));
  return arch == kArchI386;
}

// An application may have unaligned accesses checked; ours are not meant. Its context keeps the
// flag.
void allow_unaligned(const KernelUcontext* context) {
  constexpr uint64_t kAlignmentCheck = 0x4'0000;
  if ((context->gregs[kEflags] & kAlignmentCheck) != 0) {
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() & ~kAlignmentCheck);
  }
}

}  // namespace

extern "C" [[noreturn]] void tess_body_sigsys(int, const uint8_t* siginfo,
                                              KernelUcontext* context) {
  allow_unaligned(context);
  Slot* slot = this_slot();
  ThreadContext& t = slot->thread;
  slot->in_application = 0;
  slot->frame = (uint64_t)context;
  Trap trap{};
  trap.slot = slot;
  trap.context = context;
  trap.number = (uint32_t)context->gregs[kRax];
  trap.args[0] = context->gregs[kRdi];
  trap.args[1] = context->gregs[kRsi];
  trap.args[2] = context->gregs[kRdx];
  trap.args[3] = context->gregs[kR10];
  trap.args[4] = context->gregs[kR8];
  trap.args[5] = context->gregs[kR9];
  trap.rip = context->gregs[kRip] - 2;
  trap.repeat = t.repeat_number == (int32_t)trap.number && t.repeat_rip == trap.rip;
  trap.deadline_ns = trap.repeat ? t.repeat_deadline_ns : 0;
  trap.done = trap.repeat ? t.repeat_done : 0;
  t.repeat_number = -1;
  const Answer outcome = is_of_32_bits(siginfo) ? call_of_32_bits(trap) : call(trap);
  switch (outcome.outcome) {
    case Outcome::kResult:
      context->gregs[kRax] = (uint64_t)outcome.result;
      break;
    case Outcome::kAgain:
      context->gregs[kRip] = trap.rip;
      context->gregs[kRax] = trap.number;
      break;
    case Outcome::kDone:
      break;
  }
  body_leave(slot, context);
}

// In the stub: note it and let a cancellable call go. In the application: see what home wants.
extern "C" void tess_body_doorbell(int, const uint8_t*, KernelUcontext* context) {
  allow_unaligned(context);
  Slot* slot = this_slot();
  slot->signal_count = 1;
  const uint64_t rip = context->gregs[kRip];
  if (in_blob(slot->region_base, rip)) {
    if (in_cp_window(rip)) {
      context->gregs[kRip] = (uint64_t)tess_cp_abort;
    }
    return;
  }
  if (priv(slot).stepping != 0) {
    return;  // nothing is handed over before it is out
  }
  slot->in_application = 0;
  slot->frame = (uint64_t)context;
  body_leave(slot, context);
}

extern "C" void tess_body_timer(int signal, const uint8_t* siginfo, KernelUcontext* context) {
  allow_unaligned(context);
  Slot* slot = this_slot();
  if (signal == kSigLocalTimer) {
    note_local_timer(slot, siginfo);
  } else {
    __atomic_or_fetch(&priv(slot).timer_bits, 1u << (signal - kSigxcpu), __ATOMIC_SEQ_CST);
  }
  tess_body_doorbell(signal, nullptr, context);
}

extern "C" void tess_body_fault(int signal, const uint8_t* siginfo, KernelUcontext* context) {
  allow_unaligned(context);
  Slot* slot = this_slot();
  const uint64_t rip = context->gregs[kRip];
  if (in_blob(slot->region_base, rip)) {
    uint64_t go_on = 0;
    if (rip == (uint64_t)tess_copy_fault) {
      go_on = (uint64_t)tess_copy_fixup;
    } else if (rip == (uint64_t)tess_string_fault) {
      go_on = (uint64_t)tess_string_fixup;
    } else if (rip == (uint64_t)tess_probe_read_fault || rip == (uint64_t)tess_probe_write_fault) {
      go_on = (uint64_t)tess_probe_fixup;
    } else {
      // A bug of ours. Die of it visibly: default action, then the same instruction again.
      const KernelSigaction action{};
      sys(__NR_rt_sigaction, signal, &action, 0, 8);
      return;
    }
    context->gregs[kRip] = go_on;
    return;
  }
  if (signal == kSigtrap && priv(slot).stepping != 0) {
    if (in_vdso(slot, context)) {
      return;  // the flag is still set in what we return to
    }
    context->gregs[kEflags] &= ~kTrapFlag;
    priv(slot).stepping = 0;
    slot->signal_count = 1;  // whatever came on the way
    slot->in_application = 0;
    slot->frame = (uint64_t)context;
    body_leave(slot, context);
  }
  slot->in_application = 0;
  const uint64_t args[6] = {1, 0, 0, 0, 0, 0};
  const OwnSegment info{siginfo, 128, nullptr, 0};
  own_request(slot, kOpFault, args, &info, 1, 0);
  body_leave(slot, context);
}

// The doorbell of a signal that home took before this thread was there to hear it.
bool rung_before(const Slot* slot) {
  constexpr uint64_t kMsgOob = 1, kMsgPeek = 2, kMsgDontwait = 0x40;
  uint8_t byte = 0;
  const long n =
      sys(__NR_recvfrom, slot->channel_fd, &byte, 1, kMsgOob | kMsgPeek | kMsgDontwait, 0, 0);
  return n == 1 || n == kEagain;  // tcp_recv_urg: announced, but the byte is not there yet
}

void body_start(Slot* slot) {
  constexpr int kFSetownEx = 15, kArchSetFs = 0x1002, kArchSetGs = 0x1001, kPrSetName = 15;
  const ThreadContext& t = slot->thread;
  SlotPrivate& p = priv(slot);
  channel_reset(slot);
  received_signals(slot) = 0;
  const int32_t owner[2] = {0 /* F_OWNER_TID */, (int32_t)sys(__NR_gettid)};
  sys(__NR_fcntl, slot->channel_fd, kFSetownEx, owner);
  const uint64_t stack[3] = {(uint64_t)slot + kSlotStackOffset, 0, kSlotSize - kSlotStackOffset};
  sys(__NR_sigaltstack, stack, 0);
  sys(__NR_prctl, kPrSetName, t.comm, 0, 0, 0);
  sys(__NR_arch_prctl, kArchSetFs, t.fs_base);
  sys(__NR_arch_prctl, kArchSetGs, t.gs_base);
  sys(__NR_set_tid_address, t.clear_child_tid);
  if (t.robust_list_head != 0) {
    sys(__NR_set_robust_list, t.robust_list_head, t.robust_list_size);
  }
  if (t.rseq_address != 0) {
    sys(__NR_rseq, t.rseq_address, t.rseq_size, 0, t.rseq_signature);
  }
  p.executing = 0;
  p.stepping = 0;
  apply_settings(slot);
  if (t.policy_mode != 0) {
    set_memory_policy(slot);
  }
  slot->state = kSlotBody;
  set_signal_mask(0);
  // Home may take those that wait only after this thread could have run on: it asks for them first.
  if ((t.settings & kSignalsWait) != 0 || rung_before(slot)) {
    slot->signal_count = 1;
  }
  KernelUcontext* context = build_resume_frame(slot, 0, false);
  tess_leave_first(slot, (uint64_t)context);
}

}  // namespace tess::stub
