// Parking: how all threads of a process come to rest, the last of them serving the agent's
// commands, and go on in the phase that the agent says.
#include "stub/blob/core.h"
#include "stub/blob/mailbox.h"

namespace tess::stub {
namespace {

inline constexpr int kFutexWaitPrivate = 128;
inline constexpr int kFutexWakePrivate = 129;
inline constexpr int kOCloexec = 02000000;

// Answers share the buffer of the command: the note replaces its header, the payload follows.
void send_answer(Slot* slot, int64_t result, const void* payload, size_t size) {
  MailboxNote answer{};
  answer.kind = Note::kAnswer;
  answer.slot = slot->index;
  answer.tid = slot->thread.tid;
  answer.result = result;
  send_message(priv(slot).mailbox_fd, &answer, sizeof(answer), payload, size);
}

void close_all(const int32_t* fds, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    sys(__NR_close, fds[i]);
  }
}

// 0 or the first error; what could not be placed is closed. A received number that is some other's
// target is moved out of the way first.
long place_all(Slot* slot, int32_t* fds, uint32_t count, const int32_t* targets) {
  constexpr int kFDupfdCloexec = 1030;
  int32_t highest = 0;
  for (uint32_t i = 0; i < count; ++i) {
    highest = targets[i] > highest ? targets[i] : highest;
  }
  for (uint32_t i = 0; i < count; ++i) {
    for (uint32_t j = 0; j < count; ++j) {
      if (i != j && fds[i] == targets[j]) {
        const long moved = sys(__NR_fcntl, fds[i], kFDupfdCloexec, highest + 1);
        if (moved < 0) {
          close_all(fds, count);
          return moved;
        }
        sys(__NR_close, fds[i]);
        fds[i] = (int32_t)moved;
        break;
      }
    }
  }
  long result = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const long placed = place_fd(slot, fds[i], targets[i]);
    if (placed < 0) {
      close_all(fds + i, 1);
      result = result == 0 ? placed : result;
    }
  }
  return result;
}

void parked_child(Slot* slot);

long spawn_thread(Slot* self, uint32_t index) {
  ControlBlock& control = control_of(self);
  Slot* slot = slot_at(self, index);
  int32_t tid = slot->thread.tid;
  clone_args args{};
  args.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  args.stack = (uint64_t)slot + kSlotStackOffset;
  args.stack_size = kSlotSize - kSlotStackOffset;
  args.set_tid = (uint64_t)&tid;
  args.set_tid_size = 1;
  priv(slot).mailbox_fd = control.mailbox_fd;
  priv(slot).pid = control.pid;
  __atomic_or_fetch(&control.slot_bitmap[index / 64], uint64_t{1} << (index % 64),
                    __ATOMIC_RELAXED);
  __atomic_add_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
  const long result = tess_clone3(&args, sizeof(args), parked_child, slot);
  if (result < 0) {
    __atomic_sub_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
    free_slot(self, index);
  }
  return result < 0 ? result : 0;
}

long run_batch(MailboxCommand* command) {
  auto* requests = reinterpret_cast<SyscallRequest*>(command + 1);
  for (uint32_t i = 0; i < command->count; ++i) {
    SyscallRequest& r = requests[i];
    r.result =
        tess_syscall(r.number, r.args[0], r.args[1], r.args[2], r.args[3], r.args[4], r.args[5]);
    if (r.result < 0 && r.result > kNotRun && (command->flags & kStopOnError) != 0) {
      for (uint32_t rest = i + 1; rest < command->count; ++rest) {
        requests[rest].result = kNotRun;
      }
      return r.result;
    }
  }
  return 0;
}

void discard(MailboxCommand* command) {
  constexpr int kMadvDontneed = 4;
  constexpr int kMadvDontneedLocked = 24;
  const auto* ranges = reinterpret_cast<const uint64_t*>(command + 1);
  for (uint32_t i = 0; i < command->count; ++i) {
    if (sys(__NR_madvise, ranges[2 * i], ranges[2 * i + 1], kMadvDontneed) == kEinval) {
      sys(__NR_madvise, ranges[2 * i], ranges[2 * i + 1], kMadvDontneedLocked);
    }
  }
}

// What must be true for the whole process before any thread goes on in `phase`.
void prepare_phase(Slot* slot, Phase phase) {
  ControlBlock& control = control_of(slot);
  control.freeze = 0;
  if (phase == kPhaseDeputy && control.role == kRoleNone) {
    set_cpu_timers_at_home(slot, false);
    install_deputy_handlers(slot);
    control.role = kRoleDeputy;
  } else if (phase == kPhaseBody) {
    install_body_handlers(slot);
    control.role = kRoleBody;
    begin_cpu_times(slot);
  } else if (phase == kPhaseNative && control.role == kRoleDeputy) {
    restore_application_handlers(slot);
    set_cpu_timers_at_home(slot, true);
    for_each_slot(control,
                  [&](uint32_t index) { sys(__NR_close, slot_at(slot, index)->channel_fd); });
  }
}

void wake_all(Slot* slot, Phase phase) {
  ControlBlock& control = control_of(slot);
  control.phase = phase;
  __atomic_store_n(&control.parked, 0, __ATOMIC_SEQ_CST);
  __atomic_store_n(&control.has_server, 0, __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&control.generation, 1, __ATOMIC_SEQ_CST);
  sys(__NR_futex, &control.generation, kFutexWakePrivate, 0x7fffffff, 0, 0, 0);
}

void release_all(Slot* slot, Phase phase) {
  prepare_phase(slot, phase);
  wake_all(slot, phase);
}

// The agent is gone. A process that has not left home yet goes on there; a deputy keeps serving its
// body; a body without its agent is no longer anybody's.
Phase phase_without_agent(const ControlBlock& control) {
  switch (control.role) {
    case kRoleNone:
      return kPhaseNative;
    case kRoleDeputy:
      return kPhaseContinue;
    default:
      return kPhaseExit;
  }
}

// The soft limit of descriptors, which is the application's: it is raised to the hard one while
// ours are given.
class DescriptorRoom {
 public:
  DescriptorRoom() { sys(__NR_prlimit64, 0, kRlimitNofile, 0, limit_); }
  bool allows(int32_t number) const { return (uint64_t)number < limit_[0]; }
  void raise() {
    raised_ = limit_[0] < limit_[1];
    if (raised_) {
      const uint64_t all[2] = {limit_[1], limit_[1]};
      sys(__NR_prlimit64, 0, kRlimitNofile, all, 0);
    }
  }
  // Before the program goes on.
  void give_back() {
    if (!raised_) {
      return;
    }
    uint64_t now[2] = {0, 0};
    sys(__NR_prlimit64, 0, kRlimitNofile, 0, now);
    if (now[0] == limit_[1]) {  // else somebody has set it meanwhile (prlimit)
      now[0] = limit_[0];
      sys(__NR_prlimit64, 0, kRlimitNofile, now, 0);
    }
  }

 private:
  static constexpr int kRlimitNofile = 7;
  uint64_t limit_[2] = {0, 0};
  bool raised_ = false;
};

Phase serve(Slot* slot) {
  ControlBlock& control = control_of(slot);
  // What the agent hands over and makes in a process of home's is not to be kept away by the limit
  // of a program that does not run.
  DescriptorRoom room;
  if (control.role != kRoleBody) {
    room.raise();
  }
  if (control.role != kRoleDeputy) {
    save_cpu_times(slot);
    save_process_settings(slot);
  }
  note(slot, Note::kAllParked, slot->index, 0);
  // The arena is free while parked: calls are not in flight.
  auto* command = reinterpret_cast<MailboxCommand*>((uint8_t*)slot + kSlotArenaOffset);
  int32_t fds[kFdsMax + 2];
  while (true) {
    uint32_t fd_count = 0;
    const long n =
        receive_message(priv(slot).mailbox_fd, command, kMailboxMessageMax, fds, &fd_count);
    if (n < (long)sizeof(MailboxCommand)) {
      const Phase phase = phase_without_agent(control);
      room.give_back();
      release_all(slot, phase);
      return phase;
    }
    long result = 0;
    switch (command->kind) {
      case Command::kBatch:
        result = run_batch(command);
        send_answer(slot, result, command + 1, command->count * sizeof(SyscallRequest));
        continue;
      case Command::kPlaceFds:
        if (fd_count != command->count) {  // there was no room for all
          close_all(fds, fd_count);
          result = kEbadf;
          break;
        }
        result = place_all(slot, fds, fd_count, reinterpret_cast<const int32_t*>(command + 1));
        break;
      case Command::kSpawnThreads:
        for (uint32_t i = 0; i < command->count && result == 0; ++i) {
          result = spawn_thread(slot, reinterpret_cast<const uint32_t*>(command + 1)[i]);
        }
        // The answer means that they rest: a release before that would pass them by.
        while (__atomic_load_n(&control.parked, __ATOMIC_SEQ_CST) !=
               __atomic_load_n(&control.in_use, __ATOMIC_SEQ_CST)) {
          sys(__NR_sched_yield);
        }
        break;
      case Command::kDiscardMemory:
        discard(command);
        break;
      case Command::kRelease: {
        Phase phase = (Phase)command->value;
        room.give_back();
        prepare_phase(slot, phase);
        // Once it has its answer the agent may freeze us again: nothing of ours may undo that.
        const bool stopped = (command->flags & kReleaseStopped) != 0;
        send_answer(slot, 0, nullptr, 0);
        if (stopped && receive_message(priv(slot).mailbox_fd, command, kMailboxMessageMax, fds,
                                       &fd_count) < (long)sizeof(MailboxCommand)) {
          phase = phase_without_agent(control);
        }
        wake_all(slot, phase);
        return phase;
      }
      default:
        result = kEinval;
    }
    send_answer(slot, result, nullptr, 0);
  }
}

// Our descriptors stand above the soft limit where there is room, out of the application's reach:
// it is raised for the moment in which `number` is given.
template <typename Give>
long beyond_soft_limit(int32_t number, Give give) {
  DescriptorRoom room;
  if (!room.allows(number)) {
    room.raise();
  }
  const long result = give();
  room.give_back();
  return result;
}

}  // namespace

long place_fd(Slot* slot, int32_t from, int32_t to) {
  if (from == to) {
    return 0;
  }
  const long result = beyond_soft_limit(to, [&] { return sys(__NR_dup3, from, to, kOCloexec); });
  if (result >= 0) {
    sys(__NR_close, from);
  }
  (void)slot;
  return result < 0 ? result : 0;
}

long place_above(int32_t from, int32_t lowest) {
  constexpr int kFDupfdCloexec = 1030;
  const long result =
      beyond_soft_limit(lowest, [&] { return sys(__NR_fcntl, from, kFDupfdCloexec, lowest); });
  if (result >= 0) {
    sys(__NR_close, from);
  }
  return result;
}

void block_all_signals(uint64_t* old_mask) {
  constexpr int kSetmask = 2;
  const uint64_t all = ~uint64_t{0};
  sys(__NR_rt_sigprocmask, kSetmask, &all, old_mask, 8);
}

void set_signal_mask(uint64_t mask) {
  constexpr int kSetmask = 2;
  sys(__NR_rt_sigprocmask, kSetmask, &mask, 0, 8);
}

bool must_park(Slot* slot) {
  return priv(slot).vfork_child == 0 &&
         __atomic_load_n(&control_of(slot).freeze, __ATOMIC_ACQUIRE) != 0;
}

Phase park(Slot* slot) {
  ControlBlock& control = control_of(slot);
  slot->state = kSlotParked;
  slot->pending = 0;
  const uint32_t generation = __atomic_load_n(&control.generation, __ATOMIC_SEQ_CST);
  const uint32_t parked = __atomic_add_fetch(&control.parked, 1, __ATOMIC_SEQ_CST);
  uint32_t no_server = 0;
  if (parked == __atomic_load_n(&control.in_use, __ATOMIC_SEQ_CST) &&
      __atomic_compare_exchange_n(&control.has_server, &no_server, 1, false, __ATOMIC_SEQ_CST,
                                  __ATOMIC_SEQ_CST)) {
    return serve(slot);
  }
  while (__atomic_load_n(&control.generation, __ATOMIC_SEQ_CST) == generation) {
    uint32_t wanted = 1;
    if (__atomic_compare_exchange_n(&control.server_wanted, &wanted, 0, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST)) {
      return serve(slot);
    }
    sys(__NR_futex, &control.generation, kFutexWaitPrivate, generation, 0, 0, 0);
  }
  return (Phase)control.phase;
}

void thread_gone(Slot* slot) {
  ControlBlock& control = control_of(slot);
  const uint32_t left = __atomic_sub_fetch(&control.in_use, 1, __ATOMIC_SEQ_CST);
  uint32_t no_server = 0;
  if (left != 0 && __atomic_load_n(&control.parked, __ATOMIC_SEQ_CST) == left &&
      __atomic_compare_exchange_n(&control.has_server, &no_server, 1, false, __ATOMIC_SEQ_CST,
                                  __ATOMIC_SEQ_CST)) {
    // The futex word is not changed, so a thread about to wait could sleep through this wake-up: it
    // tests server_wanted first, and the word is woken again below until somebody has taken it.
    __atomic_store_n(&control.server_wanted, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&control.server_wanted, __ATOMIC_SEQ_CST) != 0) {
      sys(__NR_futex, &control.generation, kFutexWakePrivate, 1, 0, 0, 0);
      sys(__NR_sched_yield);
    }
  }
}

namespace {

// A new thread of a body under restoration. It waits with the others until the image is complete.
void parked_child(Slot* slot) {
  const Phase phase = park(slot);
  if (phase == kPhaseBody) {
    body_start(slot);
  }
  die_quietly(slot);
}

}  // namespace

extern "C" [[noreturn]] void tess_park_native(Slot* slot) {
  constexpr int kPrGetTidAddress = 40;
  ControlBlock& control = control_of(slot);
  SlotPrivate& p = priv(slot);
  p.mailbox_fd = control.mailbox_fd;
  p.pid = control.pid;
  p.actions = control.actions;
  uint64_t address = 0;
  sys(__NR_prctl, kPrGetTidAddress, &address, 0, 0, 0);
  slot->thread.clear_child_tid = address;
  slot->thread.thread_cpu_ns = (uint64_t)clock_ns(kClockThreadCpu);
  save_memory_policy(slot);
  save_settings(slot);
  __atomic_or_fetch(&control.slot_bitmap[slot->index / 64], uint64_t{1} << (slot->index % 64),
                    __ATOMIC_RELAXED);
  switch (park(slot)) {
    case kPhaseNative:
      run_native(slot);
    case kPhaseDeputy:
      deputy_start(slot);
    default:
      die_quietly(slot);
  }
}

extern "C" [[noreturn]] void tess_blank_body(Slot* slot) {
  ControlBlock& control = control_of(slot);
  control.role = kRoleBody;
  control.in_use = 1;
  priv(slot).mailbox_fd = control.mailbox_fd;
  priv(slot).pid = control.pid;
  __atomic_or_fetch(&control.slot_bitmap[slot->index / 64], uint64_t{1} << (slot->index % 64),
                    __ATOMIC_RELAXED);
  parked_child(slot);
  __builtin_unreachable();
}

namespace {

// Of very many that leave at once the first are forgotten.
void note_leaver(Slot* slot) {
  ControlBlock& control = control_of(slot);
  const uint32_t at = __atomic_fetch_add(&control.leavers_next, 1, __ATOMIC_RELAXED);
  __atomic_store_n(&control.leavers[at % kLeaversMax], slot->thread.tid, __ATOMIC_RELEASE);
}

}  // namespace

void leave_process(Slot* slot, int status) {
  uint64_t ignored;
  block_all_signals(&ignored);
  __atomic_store_n(&slot->state, (uint32_t)kSlotFree,
                   __ATOMIC_SEQ_CST);  // before the others may be seen complete
  note_leaver(slot);
  if (priv(slot).vfork_child == 0) {
    thread_gone(slot);
  }
  tess_exit_thread(&control_of(slot).slot_bitmap[slot->index / 64],
                   ~(uint64_t{1} << (slot->index % 64)), status, slot->channel_fd);
}

void die_quietly(Slot* slot) {
  (void)slot;
  while (true) {
    sys(__NR_exit_group, 0);
  }
}

}  // namespace tess::stub
