// Calls that cannot be carried, since they act on the memory, the CPU time or the whole identity of
// the process: it returns home and makes them there.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

// Only one process can trace another: our agent, which traces those that are away, has to let go.
uint64_t acts_on(const Trap& trap) {
  constexpr uint64_t kAttach = 16, kSeize = 0x4206;
  const bool attaches =
      trap.number == __NR_ptrace && (trap.args[0] == kAttach || trap.args[0] == kSeize);
  return attaches ? trap.args[1] : 0;
}

}  // namespace

Answer homeward_call(Trap& trap, int64_t refusal, uint64_t target) {
  constexpr int64_t kAskAgain = 3'000'000'000;  // a move in progress may have ended without us
  constexpr int kAskings = 7, kMonotonic = 1, kAbsolute = 1;
  Slot* slot = trap.slot;
  if (priv(slot).vfork_child != 0) {
    note(slot, Note::kUnsupported, (uint32_t)trap.number, refusal);
    return answer(refusal);  // it cannot move without its parent, which waits for it
  }
  for (int asked = 0; asked < kAskings; ++asked) {
    const uint64_t args[6] = {trap.number, target != 0 ? target : acts_on(trap), 0, 0, 0, 0};
    const int64_t heard = own_request(slot, kOpGoHome, args, nullptr, 0, 0);
    if (heard < 0 && heard > kRestart) {
      return answer(refusal);  // there is nobody at home who could fetch it
    }
    const int64_t deadline = monotonic_ns() + kAskAgain;
    const Timespec until = timespec_of(deadline);
    long waited = kAborted;
    while (waited != 0) {
      // At home, or after the handlers, the same instruction is made again.
      if (must_park(slot) || received_signals(slot) != 0) {
        return again();
      }
      const uint64_t wait[7] = {kMonotonic, kAbsolute, (uint64_t)&until, 0, 0, 0, ~uint64_t{0}};
      waited = tess_cp_syscall(&slot->pending, __NR_clock_nanosleep, wait);
      if (slot->signal_count != 0 && !must_park(slot)) {
        fetch_signals(slot);
      }
    }
  }
  note(slot, Note::kUnsupported, (uint32_t)trap.number, refusal);
  return answer(refusal);
}

Answer at_home_only(Trap& trap, int64_t refusal) {
  constexpr uint64_t kGetfd = 1;
  const uint64_t args[6] = {trap.args[0], kGetfd, 0, 0, 0, 0};
  const int64_t open = own_request(trap.slot, __NR_fcntl, args, nullptr, 0, 0);
  if (is_unfinished(open)) {
    return again();
  }
  return open < 0 ? answer(open) : homeward_call(trap, refusal);
}

namespace {

// A memory file that is mapped writable cannot be sealed. At home mappings stay that the program
// has removed here: only the process that has come home knows whether there is one.
Answer fcntl_call(Trap& trap, const syscalls::SyscallInfo& info) {
  constexpr int32_t kAddSeals = 1033;
  constexpr int64_t kEbusy = -16;
  const Answer done = carried_call(trap, info);
  const bool busy = done.outcome == Outcome::kResult && done.result == kEbusy;
  return busy && (int32_t)trap.args[1] == kAddSeals ? homeward_call(trap, kEbusy) : done;
}

}  // namespace

Answer maybe_homeward_call(Trap& trap, const syscalls::SyscallInfo& info) {
  constexpr uint64_t kNewPid = CLONE_NEWPID, kNewTime = 0x80, kCloseRangeUnshare = 2;
  const uint64_t* a = trap.args;
  // A child of vfork has a table of descriptors of its own already.
  const bool shares_files = control_of(trap.slot).in_use > 1 && priv(trap.slot).vfork_child == 0;
  bool home = false;
  switch (trap.number) {
    case __NR_fcntl:
      return fcntl_call(trap, info);
    case __NR_unshare:
      home = (a[0] & (kNewPid | kNewTime)) != 0 || ((a[0] & CLONE_FILES) != 0 && shares_files);
      break;
    case __NR_close_range:
      home = (a[2] & kCloseRangeUnshare) != 0 && shares_files;
      break;
    case __NR_setns:  // type 0: whatever the descriptor is
      home = (int32_t)a[1] == 0 || (a[1] & (kNewPid | kNewTime)) != 0;
      break;
    default:
      break;
  }
  return home ? homeward_call(trap, kEperm) : carried_call(trap, info);
}

}  // namespace tess::stub
