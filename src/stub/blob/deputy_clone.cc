// fork, vfork and threads at home: the real clone, made by the parent's deputy, whose child is a
// deputy from its first instruction.
#include "stub/blob/deputy_call.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kCarried =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
    CLONE_PARENT | CLONE_PIDFD | CLONE_IO | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
    CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_CLEAR_SIGHAND;

// A new thread has the number of one that has ended; 0: it is another process.
void forget_leavers(Slot* slot, int32_t tid) {
  for (int32_t& leaver : control_of(slot).leavers) {
    if (tid == 0 || __atomic_load_n(&leaver, __ATOMIC_RELAXED) == tid) {
      __atomic_store_n(&leaver, 0, __ATOMIC_RELAXED);
    }
  }
}

void reset_control(Slot* slot) {
  ControlBlock& control = control_of(slot);
  begin_alone(slot);
  if ((priv(slot).clone_flags & CLONE_FILES) == 0) {
    control.shared_fds_end = 0;
  }
  control.children_user_ns = control.children_system_ns = 0;
  control.children_maxrss_kb = 0;
  for (ControlBlock::EndedChild& child : control.ended) {
    child.pid = 0;
  }
  forget_leavers(slot, 0);
  // Last: by this the agent knows that what it writes from now on stays.
  __atomic_store_n(&control.pid, (int32_t)sys(__NR_getpid), __ATOMIC_RELEASE);
}

void forget_handlers(Slot* slot) {
  SlotPrivate& p = priv(slot);
  for (int signal = 1; signal <= 64; ++signal) {
    if (p.actions[signal].handler > 1) {
      p.actions[signal] = {0, 0, 0, 0};
    }
  }
}

void deputy_child(Slot* slot) {
  SlotPrivate& p = priv(slot);
  slot->thread.tid = (int32_t)sys(__NR_gettid);
  forget_leavers(slot, slot->thread.tid);
  if ((p.clone_flags & CLONE_THREAD) == 0) {
    if ((p.clone_flags & CLONE_FILES) == 0) {
      close_other_channels(slot);
      place_fd(slot, p.mailbox_fd, control_of(slot).fd_base);
      p.mailbox_fd = control_of(slot).fd_base;
    }
    if ((p.clone_flags & CLONE_VM) == 0) {
      reset_control(slot);
    }
    p.pid = (int32_t)sys(__NR_getpid);
    if ((p.clone_flags & CLONE_CLEAR_SIGHAND) != 0) {
      forget_handlers(slot);
    }
  }
  slot->state = kSlotDeputy;
  set_signal_mask(slot->thread.signal_mask);
  deputy_loop(slot);
}

void prepare_child(Slot* slot, Slot* child, uint32_t index, uint64_t flags,
                   const NewChannel& channel) {
  SlotPrivate& p = priv(slot);
  memset(child, 0, sizeof(Slot));
  child->region_base = slot->region_base;
  child->index = index;
  child->state = kSlotStarting;
  child->channel_fd = channel.channel_fd;
  child->keys = channel.keys;
  child->thread.repeat_number = -1;
  SlotPrivate& c = priv(child);
  c.clone_flags = flags;
  c.pid = p.pid;
  c.mailbox_fd = (flags & CLONE_THREAD) != 0 ? p.mailbox_fd : channel.mailbox_fd;
  c.actions = p.actions;
  if ((flags & CLONE_THREAD) == 0) {
    if ((flags & CLONE_VM) != 0) {
      c.vfork_child = 1;
      memcpy(c.own_actions, p.actions, sizeof(c.own_actions));
      c.actions = (flags & CLONE_SIGHAND) != 0 ? p.actions : c.own_actions;
    } else if (p.actions != control_of(slot).actions) {
      memcpy(control_of(slot).actions, p.actions,
             sizeof(c.own_actions));  // fork from a vfork child: its copy only
      c.actions = control_of(slot).actions;
    }
  } else {
    c.vfork_child = p.vfork_child;
  }
}

long clone_alone(Slot* slot, const uint64_t args[6], int32_t* pidfd) {
  ControlBlock& control = control_of(slot);
  const uint64_t flags = args[0];
  const auto index = (uint32_t)args[2];
  const bool thread = (flags & CLONE_THREAD) != 0;
  if (index >= kSlotCount || index == slot->index) {
    return kEinval;
  }
  if (slot->signal_count != 0) {
    return kRestart;
  }
  if (slot->pending != 0) {
    return kKicked;
  }
  NewChannel channel;
  long result = request_channel(slot, args[3], !thread, &channel);
  if (result < 0) {
    return result;
  }
  Slot* child = slot_at(slot, index);
  constexpr int kReadWrite = 3;
  sys(__NR_mprotect, child, kSlotSize, kReadWrite);
  const long placed = place_above(channel.channel_fd, control.fd_base + 1 + (int32_t)index);
  channel.channel_fd = placed < 0 ? channel.channel_fd : (int32_t)placed;
  result = placed < 0 ? kNoDescriptor : 0;
  prepare_child(slot, child, index, flags, channel);
  const uint64_t bit = uint64_t{1} << (index % 64);
  if (thread) {
    __atomic_or_fetch(&control.slot_bitmap[index / 64], bit, __ATOMIC_RELAXED);
    __atomic_add_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
  }
  uint64_t mask = 0;
  block_all_signals(&mask);
  child->thread.signal_mask = mask;
  if (result == 0) {
    clone_args clone{};
    clone.flags = flags & kCarried;
    // clone3 wants none where the kernel takes the parent's anyway, and where it is no signal.
    clone.exit_signal = thread || (flags & CLONE_PARENT) != 0 || args[1] > 64 ? 0 : args[1];
    const auto wanted = (int32_t)args[4];
    if (wanted != 0) {
      clone.set_tid = (uint64_t)&wanted;
      clone.set_tid_size = 1;
    }
    clone.pidfd = (uint64_t)pidfd;
    clone.stack = (uint64_t)child + kSlotStackOffset;
    clone.stack_size = kSlotSize - kSlotStackOffset;
    if ((flags & CLONE_VM) == 0) {
      const ActionsGuard guard(slot);  // the child's copy is what its kernel has
      result = tess_clone3(&clone, sizeof(clone), deputy_child, child);
    } else {
      result = tess_clone3(&clone, sizeof(clone), deputy_child, child);
    }
  }
  if (thread && result < 0) {
    __atomic_sub_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
    free_slot(slot, index);
  }
  const bool shares = !thread && (flags & CLONE_FILES) != 0;
  if (shares && result >= 0 && control.shared_fds_end <= child->channel_fd) {
    control.shared_fds_end = child->channel_fd + 1;
  }
  if ((!thread && !shares) || result < 0) {
    sys(__NR_close, channel.channel_fd);
    if (channel.mailbox_fd >= 0) {
      sys(__NR_close, channel.mailbox_fd);
    }
  }
  set_signal_mask(mask);
  return result;
}

}  // namespace

// One at a time: a child that got the channel of another as well would keep that open, whose body
// would never see its end; and it would keep a limit of descriptors that was only raised for a
// moment.
long deputy_clone(Slot* slot, const uint64_t args[6], int32_t* pidfd) {
  uint32_t* const word = &control_of(slot).slots_lock;
  lock(word);
  const long result = clone_alone(slot, args, pidfd);
  unlock(word);
  return result;
}

}  // namespace tess::stub
