// fork, vfork, clone and threads in the body: home makes the real child first, then the body clones
// locally with the same tid.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

struct CloneWish {
  uint64_t flags;  // without the exit signal
  uint64_t exit_signal;
  uint64_t stack;  // the child's stack pointer, 0: the parent's
  uint64_t tls;
  uint64_t parent_tid;
  uint64_t child_tid;
  uint64_t pidfd;
  int32_t set_tid;  // the pid that the child shall have, 0: any
};

inline constexpr uint64_t kSignalMask = 0xff;
// Local clones share what the application's threads share; everything else of a child lives at
// home.
inline constexpr uint64_t kLocalFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                        CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK |
                                        CLONE_CHILD_SETTID;

inline constexpr uint64_t kNewTime = 0x80;  // of clone3 only
inline constexpr uint64_t kIntoCgroup = 0x2'0000'0000;
inline constexpr int64_t kE2big = -7;
inline constexpr uint32_t kPredecessorTries = 5000;  // of a millisecond

// What a newer program asks for beyond the structure that is known has to be zero.
int64_t read_clone_args(uint64_t address, uint64_t size, clone_args* args) {
  constexpr uint64_t kSizeMin = 64, kSizeMax = 4096;
  if (size > kSizeMax || size < kSizeMin) {
    return size > kSizeMax ? kE2big : kEinval;
  }
  const uint64_t known = size < sizeof(*args) ? size : sizeof(*args);
  if (!copy_from_app(args, address, known)) {
    return kEfault;
  }
  for (uint64_t at = known; at < size; ++at) {
    uint8_t byte = 0;
    if (!copy_from_app(&byte, address + at, 1)) {
      return kEfault;
    }
    if (byte != 0) {
      return kE2big;
    }
  }
  constexpr uint64_t kFlagsKnown = 0x3'ffff'ffff;
  return (args->flags & ~kFlagsKnown) != 0 ? kEinval : 0;
}

int64_t read_wish(const Trap& trap, CloneWish& wish) {
  wish = {};
  switch (trap.number) {
    case __NR_fork:
      wish.exit_signal = 17;
      return 0;
    case __NR_vfork:
      wish.flags = CLONE_VFORK | CLONE_VM;
      wish.exit_signal = 17;
      return 0;
    case __NR_clone:
      wish.flags = trap.args[0] & ~kSignalMask & 0xffffffff;
      wish.exit_signal = trap.args[0] & kSignalMask;
      wish.stack = trap.args[1];
      wish.parent_tid = trap.args[2];
      wish.child_tid = trap.args[3];
      wish.tls = trap.args[4];
      wish.pidfd = trap.args[2];
      return 0;
    default:
      break;
  }
  clone_args args{};
  const int64_t bad = read_clone_args(trap.args[0], trap.args[1], &args);
  if (bad != 0) {
    return bad;
  }
  constexpr uint64_t kLevelsMax = 32, kDetached = CLONE_DETACHED, kSignalMax = 64;
  if ((args.set_tid == 0) != (args.set_tid_size == 0) || args.set_tid_size > kLevelsMax) {
    return kEinval;
  }
  if (args.set_tid_size > 1) {
    return kEperm;  // in outer pid namespaces, too: not from here
  }
  if (args.set_tid_size == 1 && !copy_from_app(&wish.set_tid, args.set_tid, 4)) {
    return kEfault;
  }
  if (args.set_tid_size == 1 && wish.set_tid < 1) {
    return kEinval;
  }
  if ((args.flags & ((kSignalMask & ~kNewTime) | kDetached)) != 0 ||
      (args.stack == 0) != (args.stack_size == 0) || args.exit_signal > kSignalMax) {
    return kEinval;
  }
  if ((args.flags & (CLONE_THREAD | CLONE_PARENT)) != 0 && args.exit_signal != 0) {
    return kEinval;
  }
  wish.flags = args.flags;
  wish.exit_signal = args.exit_signal;
  wish.stack = args.stack == 0 ? 0 : args.stack + args.stack_size;
  wish.tls = args.tls;
  wish.parent_tid = args.parent_tid;
  wish.child_tid = args.child_tid;
  wish.pidfd = args.pidfd;
  return 0;
}

// What the kernel refuses before there is a child, and home's cannot know.
int64_t refused(const CloneWish& wish) {
  constexpr uint64_t kTaskSize = 0x7fff'ffff'f000;
  const auto has = [&](uint64_t flag) { return (wish.flags & flag) != 0; };
  if ((has(CLONE_THREAD) && !has(CLONE_SIGHAND)) || (has(CLONE_SIGHAND) && !has(CLONE_VM))) {
    return kEinval;
  }
  if (has(CLONE_PIDFD) &&
      (has(CLONE_DETACHED) || (has(CLONE_PARENT_SETTID) && wish.pidfd == wish.parent_tid))) {
    return kEinval;
  }
  if (has(CLONE_SETTLS) && wish.tls >= kTaskSize) {
    return kEperm;
  }
  const bool told = !has(CLONE_PIDFD) || writable_bytes_app(wish.pidfd, 4) == 4;
  return told ? 0 : kEfault;
}

void tell_parent(const CloneWish& wish, int32_t tid, int32_t pidfd) {
  if ((wish.flags & CLONE_PARENT_SETTID) != 0) {
    copy_to_app(wish.parent_tid, &tid, sizeof(tid));
  }
  if ((wish.flags & CLONE_PIDFD) != 0) {
    copy_to_app(wish.pidfd, &pidfd, sizeof(pidfd));
  }
}

void body_child(Slot* slot) {
  SlotPrivate& p = priv(slot);
  ThreadContext& t = slot->thread;
  if ((p.clone_flags & CLONE_THREAD) == 0) {
    ControlBlock& control = control_of(slot);
    close_other_channels(slot);
    p.pid = t.tid;
    if ((p.clone_flags & CLONE_VM) == 0) {
      begin_alone(slot);
      control.pid = t.tid;
      begin_cpu_times(slot);
    }
    // Last: by its mailbox the agent knows it, and may freeze it from here on.
    place_fd(slot, p.mailbox_fd, control.fd_base);
    p.mailbox_fd = control.fd_base;
  }
  p.thread_cpu_base_ns = -clock_ns(kClockThreadCpu);
  body_start(slot);
}

void prepare_child(const Trap& trap, Slot* child, const CloneWish& wish,
                   const NewChannel& channel) {
  constexpr int kArchGetGs = 0x1004;
  Slot* slot = trap.slot;
  SlotPrivate& p = priv(slot);
  SlotPrivate& c = priv(child);
  save_context(slot, trap.context);
  child->thread = slot->thread;
  ThreadContext& t = child->thread;
  t.gregs[kRax] = 0;
  if (wish.stack != 0) {
    t.gregs[kRsp] = wish.stack;
  }
  if ((wish.flags & CLONE_SETTLS) != 0) {
    t.fs_base = wish.tls;
  }
  sys(__NR_arch_prctl, kArchGetGs, &t.gs_base);
  t.repeat_number = -1;
  inherit_settings(t);
  t.thread_cpu_ns = 0;
  t.process_cpu_ns = 0;
  memset(t.cpu_timers, 0, sizeof(t.cpu_timers));
  t.posix_timer_count = 0;
  t.robust_list_head = t.robust_list_size = 0;
  t.clear_child_tid = (wish.flags & CLONE_CHILD_CLEARTID) != 0 ? wish.child_tid : 0;
  if ((wish.flags & CLONE_VM) != 0) {
    t.rseq_address = 0;  // kernel/rseq: a new address space user registers itself; fork inherits
                         // the registration
    if ((wish.flags & CLONE_VFORK) == 0) {
      t.altstack_sp = t.altstack_size = 0;
      t.altstack_flags = 2;
    }
  }
  child->keys = channel.keys;
  child->signal_count = 0;
  child->pending = 0;
  c.clone_flags = wish.flags;
  c.mailbox_fd = (wish.flags & CLONE_THREAD) != 0 ? p.mailbox_fd : channel.mailbox_fd;
  c.pid = p.pid;
  c.vfork_child =
      (wish.flags & CLONE_VM) != 0 && ((wish.flags & CLONE_THREAD) == 0 || p.vfork_child != 0);
}

int64_t clone_locally(Slot* child, const CloneWish& wish, int32_t tid) {
  clone_args args{};
  args.flags = wish.flags & kLocalFlags;
  if ((wish.flags & CLONE_THREAD) == 0) {
    args.flags = (args.flags & ~uint64_t{CLONE_FILES | CLONE_FS | CLONE_SYSVSEM}) |
                 CLONE_PARENT;  // init of the sandbox reaps it
  }
  args.stack = (uint64_t)child + kSlotStackOffset;
  args.child_tid = wish.child_tid;
  args.set_tid = (uint64_t)&tid;
  args.set_tid_size = 1;
  // Who knows the child's pid may ring before it can hear: its alternate stack is still its
  // parent's.
  uint64_t mask = 0;
  block_all_signals(&mask);
  long result = kEexist;
  for (uint32_t tries = 0; result == kEexist && tries < kPredecessorTries; ++tries) {
    if (tries != 0) {  // home has given the number anew, but whoever had it before has still to go
      const Timespec moment{0, 1'000'000};
      sys(__NR_clock_nanosleep, 1, 0, &moment, 0);
    }
    args.stack_size = kSlotSize - kSlotStackOffset;
    result = tess_clone3(&args, sizeof(args), body_child, child);
  }
  set_signal_mask(mask);
  return result;
}

void drop_child(Slot* slot, Slot* child, const NewChannel& channel) {
  sys(__NR_close, child->channel_fd);
  if (channel.mailbox_fd >= 0) {
    sys(__NR_close, channel.mailbox_fd);
  }
  free_slot(slot, child->index);
}

// A clone that parking aborts is tried again at once, perhaps many times until this side's freeze
// word is there: it must not use up a channel each time.
void keep_channel(Slot* slot, Slot* child, NewChannel& channel, bool with_mailbox) {
  constexpr int kFDupfdCloexec = 1030;
  SlotPrivate& p = priv(slot);
  const long aside = sys(__NR_fcntl, child->channel_fd, kFDupfdCloexec,
                         control_of(slot).fd_base + 1 + (int32_t)kSlotCount);
  if (aside < 0 || p.has_kept_channel != 0) {
    sys(__NR_close, aside);
    drop_child(slot, child, channel);
    return;
  }
  sys(__NR_close, child->channel_fd);
  channel.channel_fd = (int32_t)aside;
  p.kept_channel = channel;
  p.has_kept_channel = 1;
  p.kept_has_mailbox = with_mailbox ? 1 : 0;
  free_slot(slot, child->index);
}

long take_channel(Slot* slot, bool with_mailbox, NewChannel* channel) {
  SlotPrivate& p = priv(slot);
  if (p.has_kept_channel != 0 && (p.kept_has_mailbox != 0) == with_mailbox) {
    *channel = p.kept_channel;
    p.has_kept_channel = 0;
    return 0;
  }
  return request_channel(slot, 0, with_mailbox, channel);
}

}  // namespace

void drop_kept_channel(Slot* slot) {
  SlotPrivate& p = priv(slot);
  if (p.has_kept_channel != 0) {
    sys(__NR_close, p.kept_channel.channel_fd);
    if (p.kept_has_mailbox != 0) {
      sys(__NR_close, p.kept_channel.mailbox_fd);
    }
    p.has_kept_channel = 0;
  }
}

Answer clone_call(Trap& trap) {
  Slot* slot = trap.slot;
  ControlBlock& control = control_of(slot);
  CloneWish wish;
  int64_t bad = read_wish(trap, wish);
  bad = bad != 0 ? bad : refused(wish);
  if (bad != 0) {
    return answer(bad);
  }
  if ((wish.flags & (CLONE_NEWPID | kNewTime | kIntoCgroup)) != 0) {
    // The child's own pid or clock would not be its body's; its group is given in the call.
    return homeward_call(trap, kEperm);
  }
  const bool thread = (wish.flags & CLONE_THREAD) != 0;
  if (thread && (wish.flags & CLONE_FILES) == 0) {
    return homeward_call(trap, kEinval);  // a table of its own, which would hold our channels open
  }
  const int32_t index = take_slot(slot);
  if (index < 0) {
    return answer(kEagain);
  }
  Slot* child = slot_at(slot, (uint32_t)index);
  NewChannel channel;
  long result = take_channel(slot, !thread, &channel);
  if (result < 0) {
    free_slot(slot, (uint32_t)index);
    return answer(result == kNoDescriptor ? kEagain : result);
  }
  lock(&control.mailbox_lock);  // nothing has just arrived at that number for another thread
  result = place_fd(slot, channel.channel_fd, child->channel_fd);
  unlock(&control.mailbox_lock);
  if (result < 0) {
    sys(__NR_close, channel.channel_fd);
    drop_child(slot, child, channel);
    return answer(kEagain);
  }
  prepare_child(trap, child, wish, channel);
  const uint64_t args[6] = {
      wish.flags, wish.exit_signal, (uint64_t)index, channel.id, (uint64_t)(uint32_t)wish.set_tid,
      0};
  int32_t pidfd = -1;
  const bool wants_pidfd = (wish.flags & CLONE_PIDFD) != 0;
  const OwnSegment out{nullptr, 0, &pidfd, 4};
  if (thread) {
    __atomic_add_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
  }
  const int64_t tid = own_request(slot, kOpClone, args, &out, wants_pidfd ? 1 : 0, 0);
  if (tid <= 0) {
    if (thread) {
      thread_gone(slot);
    }
    if (is_unfinished(tid)) {
      keep_channel(slot, child, channel, !thread);
      return again();
    }
    drop_child(slot, child, channel);
    // The program has lowered its limit below our descriptors, or uses all it has: no matter at
    // home.
    return tid == kNoDescriptor ? homeward_call(trap, kEagain) : answer(tid);
  }
  child->thread.tid = (int32_t)tid;
  const auto tid32 = (int32_t)tid;
  // A child that shares the memory finds it told, another gets the memory as it was before.
  const bool shares = (wish.flags & CLONE_VM) != 0;
  if (shares) {
    tell_parent(wish, tid32, pidfd);
  }
  result = clone_locally(child, wish, tid32);
  if (!shares) {
    tell_parent(wish, tid32, pidfd);
  }
  if (!thread || result < 0) {
    if (thread) {
      thread_gone(slot);
    }
    drop_child(slot, child, channel);  // a failed one: end of file tells its deputy
  }
  return answer(result < 0 ? kEagain : tid);
}

}  // namespace tess::stub
