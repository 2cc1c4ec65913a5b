// Calls that the table cannot say: each does its part here, in the body, and asks home for the
// rest.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

using syscalls::Special;
using syscalls::SyscallInfo;

inline constexpr uint32_t kSsOnstack = 1, kSsDisable = 2, kSsAutodisarm = 0x80000000;
inline constexpr uint64_t kMinSigStack = 2048;

Answer sigaction_call(Trap& trap) {
  if (trap.args[3] != 8) {
    return answer(kEinval);
  }
  SignalAction action{};
  if (trap.args[1] != 0 && !copy_from_app(&action, trap.args[1], sizeof(action))) {
    return answer(kEfault);
  }
  const OwnSegment segment{&action, sizeof(action), &action, sizeof(action)};
  const int64_t result = own_request(trap.slot, __NR_rt_sigaction, trap.args, &segment, 1, 0);
  if (result == 0 && trap.args[2] != 0 && !copy_to_app(trap.args[2], &action, sizeof(action))) {
    return answer(kEfault);
  }
  return answer(result);
}

uint32_t altstack_state(const ThreadContext& t, uint64_t sp) {
  if (t.altstack_size == 0) {
    return kSsDisable;
  }
  const bool on = (t.altstack_flags & kSsAutodisarm) == 0 && sp > t.altstack_sp &&
                  sp - t.altstack_sp <= t.altstack_size;
  return (on ? kSsOnstack : 0) | (t.altstack_flags & kSsAutodisarm);
}

struct KernelStack {
  uint64_t sp;
  uint32_t flags;
  uint32_t pad;
  uint64_t size;
};

Answer sigaltstack_call(Trap& trap) {
  ThreadContext& t = trap.slot->thread;
  const uint64_t sp = trap.context->gregs[kRsp];
  const KernelStack before{t.altstack_sp, altstack_state(t, sp), 0, t.altstack_size};
  if (trap.args[0] != 0) {
    KernelStack wanted;
    if (!copy_from_app(&wanted, trap.args[0], sizeof(wanted))) {
      return answer(kEfault);
    }
    const uint32_t mode = wanted.flags & ~kSsAutodisarm;
    if ((before.flags & kSsOnstack) != 0) {
      return answer(kEperm);
    }
    if (mode != 0 && mode != kSsOnstack && mode != kSsDisable) {
      return answer(kEinval);
    }
    if (mode == kSsDisable) {
      wanted.sp = 0;
      wanted.size = 0;
    } else if (wanted.size < kMinSigStack) {
      return answer(kEnomem);
    }
    t.altstack_sp = wanted.sp;
    t.altstack_size = wanted.size;
    t.altstack_flags = wanted.flags & ~kSsOnstack;
  }
  if (trap.args[1] != 0 && !copy_to_app(trap.args[1], &before, sizeof(before))) {
    return answer(kEfault);
  }
  return answer(0);
}

// There is no frame to return by: SIGSEGV of the kernel, where the program is now.
Answer bad_frame(const Trap& trap) {
  constexpr int kSigsegv = 11, kSiKernel = 0x80;
  const int32_t siginfo[32] = {kSigsegv, 0, kSiKernel};
  const uint64_t forced[6] = {1, 0, 0, 0, 0, 0};
  const OwnSegment info{siginfo, sizeof(siginfo), nullptr, 0};
  if (own_request(trap.slot, kOpFault, forced, &info, 1, 0) == kRestart) {
    return again();  // another handler first
  }
  return answer(0);
}

// The application returns from its own handler: its frame says how to go on. The mask goes home
// first, since that may bring more signals.
Answer sigreturn_call(Trap& trap) {
  KernelUcontext* context = trap.context;
  ThreadContext& t = trap.slot->thread;
  KernelUcontext app;
  if (!copy_from_app(&app, context->gregs[kRsp], sizeof(app)) ||
      (app.fpstate != 0 && tess_probe_read(app.fpstate) != 0)) {
    return bad_frame(trap);
  }
  const uint64_t args[6] = {0, app.mask, 0, 0, 0, 0};
  if (own_request(trap.slot, kOpSetMask, args, nullptr, 0, 0) == kRestart) {
    return again();  // another handler on top of this one first
  }
  memcpy(context->gregs, app.gregs, sizeof(context->gregs));
  if (app.fpstate == 0) {
    clear_fpstate(context);
  } else if (context->fpstate != 0) {
    uint32_t ours[2], theirs[2];
    memcpy(ours, (const void*)(context->fpstate + 464), 8);
    if (copy_from_app(theirs, app.fpstate + 464, 8) && theirs[0] == ours[0] &&
        theirs[1] == ours[1]) {
      copy_from_app((void*)context->fpstate, app.fpstate, ours[1]);
    } else {
      const uint64_t legacy = 3;  // x87 and SSE only
      copy_from_app((void*)context->fpstate, app.fpstate, 464);
      memcpy((void*)(context->fpstate + 512), &legacy, 8);
    }
  }
  if ((app.stack_flags & kSsDisable) != 0) {
    t.altstack_sp = t.altstack_size = 0;
    t.altstack_flags = kSsDisable;
  } else if (app.stack_size >= kMinSigStack &&
             (altstack_state(t, app.gregs[kRsp]) & kSsOnstack) == 0) {
    t.altstack_sp = app.stack_sp;
    t.altstack_size = app.stack_size;
    t.altstack_flags = app.stack_flags & kSsAutodisarm;
  }
  return {Outcome::kDone, 0};
}

Answer rseq_call(Trap& trap) {
  ThreadContext& t = trap.slot->thread;
  const int64_t result = sys(__NR_rseq, trap.args[0], trap.args[1], trap.args[2], trap.args[3]);
  if (result == 0) {
    const bool off = (trap.args[2] & 1) != 0;
    t.rseq_address = off ? 0 : trap.args[0];
    t.rseq_size = (uint32_t)trap.args[1];
    t.rseq_signature = (uint32_t)trap.args[3];
  }
  return answer(result);
}

Answer robust_list_call(Trap& trap) {
  const int64_t result = sys(__NR_set_robust_list, trap.args[0], trap.args[1]);
  if (result == 0) {
    trap.slot->thread.robust_list_head = trap.args[0];
    trap.slot->thread.robust_list_size = trap.args[1];
  }
  return answer(result);
}

// Of other processes home knows whether we may ask; their lists it does not have.
Answer get_robust_list_call(Trap& trap, const SyscallInfo& info) {
  constexpr uint64_t kHeadSize = 24;
  const auto tid = (int32_t)trap.args[0];
  const Slot* const of = tid == 0 ? trap.slot : slot_of_thread(trap.slot, tid);
  if (of == nullptr) {
    return carried_call(trap, info);
  }
  const uint64_t head = of->thread.robust_list_head;
  const bool good = copy_to_app(trap.args[2], &kHeadSize, sizeof(kHeadSize)) &&
                    copy_to_app(trap.args[1], &head, sizeof(head));
  return answer(good ? 0 : kEfault);
}

// Protection keys do not move: the program has none, as if all were taken.
Answer pkey_mprotect_call(Trap& trap) {
  constexpr int kNoKey = -1;
  return answer((int)trap.args[3] == kNoKey
                    ? sys(__NR_mprotect, trap.args[0], trap.args[1], trap.args[2])
                    : kEinval);
}

Answer tid_address_call(Trap& trap) {
  trap.slot->thread.clear_child_tid = trap.args[0];
  return answer(sys(__NR_set_tid_address, trap.args[0]));
}

// Settings that the kernel looks at where the code runs and the memory is.
bool is_local_setting(int command) {
  constexpr int kSetTsc = 26, kSetTimerslack = 29, kSetThpDisable = 41, kSetMdwe = 65,
                kSetMemoryMerge = 67;
  return command == kSetTsc || command == kSetTimerslack || command == kSetThpDisable ||
         command == kSetMdwe || command == kSetMemoryMerge;
}

Answer arch_prctl_call(Trap& trap, const SyscallInfo& info) {
  constexpr int kArchSetCpuid = 0x1012;
  if ((int)trap.args[0] != kArchSetCpuid) {
    return homeward_call(trap, kEnotsup);
  }
  const Answer home = carried_call(trap, info);
  if (home.outcome == Outcome::kResult && home.result == 0) {
    sys(__NR_arch_prctl, trap.args[0], trap.args[1]);
    note_setting(trap.slot, kArchSetCpuid, trap.args[1]);
  }
  return home;
}

Answer personality_call(Trap& trap, const SyscallInfo& info) {
  constexpr uint32_t kGet = 0xffffffff;
  const Answer home = carried_call(trap, info);
  if (home.outcome == Outcome::kResult && home.result >= 0 && (uint32_t)trap.args[0] != kGet) {
    sys(__NR_personality, trap.args[0]);  // some of its bits change what mmap does
    trap.slot->thread.personality = (uint32_t)trap.args[0];
  }
  return home;
}

Answer prctl_call(Trap& trap, const SyscallInfo& info) {
  constexpr int kPrSetName = 15, kPrSetSeccomp = 22, kPrSetVma = 0x53564d41, kPrUserDispatch = 59;
  constexpr int kPrGetTidAddress = 40;
  if ((int)trap.args[0] == kPrSetSeccomp ||
      ((int)trap.args[0] == kPrUserDispatch && trap.args[1] != 0)) {
    return homeward_call(trap, kEinval);
  }
  if ((int)trap.args[0] == kPrSetVma) {
    return answer(
        sys(__NR_prctl, trap.args[0], trap.args[1], trap.args[2], trap.args[3], trap.args[4]));
  }
  if ((int)trap.args[0] == kPrGetTidAddress) {
    const uint64_t address = trap.slot->thread.clear_child_tid;
    return answer(copy_to_app(trap.args[1], &address, sizeof(address)) ? 0 : kEfault);
  }
  const Answer home = carried_call(trap, info);
  if (home.outcome == Outcome::kResult && home.result == 0 && is_local_setting((int)trap.args[0])) {
    sys(__NR_prctl, trap.args[0], trap.args[1], trap.args[2], trap.args[3], trap.args[4]);
    note_setting(trap.slot, (int)trap.args[0], trap.args[1]);
  }
  if (home.outcome == Outcome::kResult && home.result == 0 && (int)trap.args[0] == kPrSetName) {
    char name[16] = {};
    if (string_length_app(trap.args[1], sizeof(name)) >= 0) {
      const int64_t n = string_length_app(trap.args[1], sizeof(name) - 1);
      copy_from_app(name, trap.args[1], n > 0 ? (size_t)n : 0);
      memcpy(trap.slot->thread.comm, name, sizeof(name));
      sys(__NR_prctl, kPrSetName, name, 0, 0, 0);
    }
  }
  return home;
}

// CPU time and memory of the whole process go along, for its parent's rusage.
void exit_arguments(const Trap& trap, uint64_t args[6]) {
  int64_t user_ns, system_ns;
  process_cpu_times(trap.slot, &user_ns, &system_ns);
  args[0] = trap.args[0];
  args[1] = (uint64_t)user_ns;
  args[2] = (uint64_t)system_ns;
  args[3] = maxrss_kb();
  args[4] = args[5] = 0;
}

// Comes back only to run handlers of signals that home had for this thread; then it is tried again.
Answer exit_thread(Trap& trap) {
  Slot* slot = trap.slot;
  uint64_t args[6];
  exit_arguments(trap, args);
  send_own_request(slot, __NR_exit, args, nullptr, 0, 0);
  Reply reply;
  if (receive_reply(slot, &reply)) {
    receive_signals(slot, reply);
    return again();
  }
  leave_process(slot, (int)trap.args[0]);
}

// Comes back only when the process is on its way elsewhere; then it is tried again.
Answer exit_process(Trap& trap) {
  uint64_t args[6];
  exit_arguments(trap, args);
  send_own_request(trap.slot, __NR_exit_group, args, nullptr, 0, 0);
  Reply reply;
  if (receive_reply(trap.slot, &reply)) {
    receive_signals(trap.slot, reply);
    return again();
  }
  die_quietly(trap.slot);
}

// The program goes on at home, with the interval timers that run here.
Answer exec_call(Trap& trap, const SyscallInfo& info) {
  const bool timed = has_cpu_interval_timer();
  if (timed && is_unfinished(set_interval_timers_at_home(trap.slot, true))) {
    return again();
  }
  priv(trap.slot).executing = 1;
  const Answer failed = carried_call(trap, info);  // success ends in body_gone
  priv(trap.slot).executing = 0;
  if (timed) {
    set_interval_timers_at_home(trap.slot, false);
  }
  return failed;
}

// Registered at home too: that is where the next host hears of it.
Answer membarrier_call(Trap& trap, const SyscallInfo& info) {
  constexpr uint32_t kRegister = 4 | 16 | 64 | 256;
  const long result = sys(__NR_membarrier, trap.args[0], trap.args[1], trap.args[2]);
  if (result == 0 && ((uint32_t)trap.args[0] & kRegister) != 0) {
    const Answer home = carried_call(trap, info);
    return home.outcome == Outcome::kResult ? answer(result) : home;
  }
  return answer(result);
}

}  // namespace

Answer special_call(Trap& trap, const SyscallInfo& info) {
  switch (info.special) {
    case Special::kClone:
    case Special::kClone3:
    case Special::kFork:
    case Special::kVfork:
      return clone_call(trap);
    case Special::kExec:
      return exec_call(trap, info);
    case Special::kExit:
      return exit_thread(trap);
    case Special::kExitGroup:
      return exit_process(trap);
    case Special::kSigreturn:
      return sigreturn_call(trap);
    case Special::kSigaction:
      return sigaction_call(trap);
    case Special::kSigaltstack:
      return sigaltstack_call(trap);
    case Special::kRestart:
      return answer(kEintr);
    case Special::kMmap:
      return map_call(trap);
    case Special::kTruncate:
      return truncate_call(trap, info);
    case Special::kMunmap:
      return munmap_call(trap);
    case Special::kMremap:
      return mremap_call(trap);
    case Special::kMsync:
      return msync_call(trap);
    case Special::kShmat:
      return shmat_call(trap);
    case Special::kShmdt:
      return shmdt_call(trap);
    case Special::kMadvise:
      return answer(kEinval);  // as Debian 12's: C libraries use mprotect then
    case Special::kGetrandom:
      return getrandom_call(trap);
    case Special::kFutex:
      return futex_call(trap);
    case Special::kNanosleep:
    case Special::kClockNanosleep:
      return sleep_call(trap);
    case Special::kRusage:
      return rusage_call(trap, info);
    case Special::kTimes:
      return times_call(trap);
    case Special::kItimer:
      return itimer_call(trap, info);
    case Special::kPosixTimer:
      return timer_call(trap, info);
    case Special::kClockGettime:
      return clock_gettime_call(trap, info);
    case Special::kArchPrctl:
      return arch_prctl_call(trap, info);
    case Special::kMembarrier:
      return membarrier_call(trap, info);
    case Special::kSetTidAddress:
      return tid_address_call(trap);
    case Special::kSetRobustList:
      return robust_list_call(trap);
    case Special::kGetRobustList:
      return get_robust_list_call(trap, info);
    case Special::kPkeyMprotect:
      return pkey_mprotect_call(trap);
    case Special::kRseq:
      return rseq_call(trap);
    case Special::kPrctl:
      return prctl_call(trap, info);
    case Special::kRlimit:
      return limit_call(trap, info);
    case Special::kLock:
      return lock_call(trap);
    case Special::kAffinity:
      return affinity_call(trap, info);
    case Special::kVmsplice:
      return vmsplice_call(trap);
    case Special::kProcessVm:
      return process_vm_call(trap, info);
    case Special::kProcessMadvise:
      return process_madvise_call(trap);
    case Special::kMaybeHome:
    case Special::kCloseRange:
      return maybe_homeward_call(trap, info);
    case Special::kPersonality:
      return personality_call(trap, info);
    case Special::kWrite:
      return write_call(trap, info);
    case Special::kOpen:
      return open_call(trap, info);
    default:
      return carried_call(trap, info);
  }
}

}  // namespace tess::stub
