// Limits that the kernel applies where memory and CPU time are: home keeps and checks them, the
// host's kernel has to enforce them.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

inline constexpr int kRlimitCpu = 0, kRlimitData = 2, kRlimitStack = 3, kRlimitMemlock = 8,
                     kRlimitAs = 9;
inline constexpr uint64_t kInfinity = ~uint64_t{0};

// The soft limit here; the hard one is the sandbox's.
void set_local(int resource, uint64_t soft) {
  uint64_t limit[2] = {0, 0};
  sys(__NR_prlimit64, 0, resource, 0, limit);
  limit[0] = lesser(soft, limit[1]);
  sys(__NR_prlimit64, 0, resource, limit, 0);
}

// What the stub itself needs comes on top of what the application may have.
uint64_t with_stub(uint64_t soft, uint64_t more) {
  return soft > kInfinity - more ? kInfinity : soft + more;
}

uint64_t stub_data(const Slot* slot) {
  constexpr uint64_t kSpareSlots = 4;  // threads to come
  return stub_data_size(control_of(slot)) + kSpareSlots * kSlotSize;
}

void apply(Slot* slot, int resource, const uint64_t limit[2]) {
  ControlBlock& control = control_of(slot);
  switch (resource) {
    case kRlimitAs:
      set_local(resource, with_stub(limit[0], kRegionSize));
      break;
    case kRlimitData:
      set_local(resource, with_stub(limit[0], stub_data(slot)));
      break;
    case kRlimitStack:
      set_local(resource, limit[0]);
      break;
    case kRlimitCpu:
      control.cpu_limit_soft = limit[0];
      control.cpu_limit_hard = limit[1];
      apply_cpu_limit(slot);
      break;
    default:
      break;
  }
}

}  // namespace

// What was used elsewhere counts too, to the nanosecond: the limit itself has seconds only. So a
// timer tells of it, first at the soft limit, then each second, as the kernel does. The hard one is
// ours to watch (see cpu_limit_reached): the host's kernel would end the body without a word.
void apply_cpu_limit(Slot* slot) {
  constexpr int64_t kNever = 1'000'000'000;  // seconds; more would overflow
  constexpr int32_t kOwnCpuClock = -6;  // CLOCK_PROCESS_CPUTIME_ID as linux/posix-timers.h makes it
  constexpr int kSigxcpu = 24;
  ControlBlock& control = control_of(slot);
  const uint64_t soft = lesser(control.cpu_limit_soft, control.cpu_limit_hard);
  const bool limited = soft < (uint64_t)kNever;
  if (control.cpu_limit_timer == 0 && limited) {
    const int32_t made = make_host_timer(kOwnCpuClock, kSigxcpu, kCpuLimitTimer);
    control.cpu_limit_timer = (uint32_t)(made + 1);
  }
  if (control.cpu_limit_timer == 0) {
    return;
  }
  constexpr int kAbsolute = 1;
  const int64_t end = limited ? (int64_t)soft * kSecondNs - control.process_cpu_base_ns : 0;
  const int64_t at = limited && end <= 0 ? 1 : end;
  const TimerSpec spec{{limited ? 1 : 0, 0}, timespec_of(at)};
  sys(__NR_timer_settime, control.cpu_limit_timer - 1, kAbsolute, &spec, 0);
}

bool cpu_limit_reached(Slot* slot) {
  const ControlBlock& control = control_of(slot);
  const int64_t used = clock_ns(kClockProcessCpu) + control.process_cpu_base_ns;
  return control.cpu_limit_hard != kInfinity && used / kSecondNs >= (int64_t)control.cpu_limit_hard;
}

Answer limit_call(Trap& trap, const syscalls::SyscallInfo& info) {
  const bool set_only = trap.number == __NR_setrlimit;
  const auto resource = (int)trap.args[set_only ? 0 : 1];
  const uint64_t new_at = trap.args[set_only ? 1 : 2];
  const int32_t pid = set_only ? 0 : (int32_t)trap.args[0];
  uint64_t limit[2];
  const bool given = new_at != 0 && copy_from_app(limit, new_at, sizeof(limit));
  const Answer home = carried_call(trap, info);
  const bool own = pid == 0 || pid == control_of(trap.slot).pid;
  if (home.outcome == Outcome::kResult && home.result == 0 && given && own) {
    apply(trap.slot, resource, limit);
  }
  return home;
}

// Home knows who may lock how much; the host may allow less. Memory that it does not lock stays
// where it is all the same unless the host swaps: the call succeeds, as the program may rely on it.
Answer lock_call(Trap& trap) {
  constexpr uint64_t kPage = 4096;
  Slot* slot = trap.slot;
  ControlBlock& control = control_of(slot);
  const uint64_t args[6] = {};
  const int64_t allowed = own_request(slot, kOpMayLock, args, nullptr, 0, 0);
  if (is_unfinished(allowed)) {
    return again();
  }
  set_local(kRlimitMemlock, (uint64_t)allowed);
  if (trap.number == __NR_munlockall) {
    control.all_locked = 0;
    return answer(sys(__NR_munlockall));
  }
  const bool all = trap.number == __NR_mlockall;
  if (all) {
    constexpr uint64_t kCurrent = 1, kFuture = 2, kOnfault = 4;
    const uint64_t how = trap.args[0];
    if (how == 0 || (how & ~(kCurrent | kFuture | kOnfault)) != 0 || how == kOnfault) {
      return answer(kEinval);
    }
    if (allowed == 0) {
      return answer(kEperm);
    }
    if (allowed > 0 && (how & kCurrent) != 0) {
      // The kernel goes by the size of the whole process, which here has the region on top.
      const uint64_t mark[6] = {(uint64_t)allowed, 0, 0, 0, 0, 0};
      const int64_t fits = own_request(slot, kOpMayLock, mark, nullptr, 0, 0);
      if (fits == kEnomem) {
        return answer(kEnomem);
      }
    }
    if ((how & kCurrent) != 0) {
      control.all_locked = 1;
    }
    return answer(0);
  }
  const int64_t result = sys((long)trap.number, trap.args[0], trap.args[1], trap.args[2]);
  const uint64_t begin = trap.args[0] & ~(kPage - 1);
  const uint64_t size = (trap.args[1] + (trap.args[0] - begin) + kPage - 1) & ~(kPage - 1);
  const bool mapped = sys(__NR_msync, begin, size, 1 /* MS_ASYNC: only looks */) == 0;
  if (result < 0 && result != kEinval && allowed < 0 && mapped) {
    return answer(0);
  }
  return answer(result);
}

// The same processors for the body if this host has them: a program that binds itself reads back
// where it runs.
Answer affinity_call(Trap& trap, const syscalls::SyscallInfo& info) {
  uint8_t mask[1024] = {};
  const uint64_t size = lesser((uint32_t)trap.args[1], sizeof(mask));
  if ((uint32_t)trap.args[1] > sizeof(mask)) {
    trap.args[1] = sizeof(mask);  // the kernel reads no more than there can be processors
  }
  const bool given = copy_from_app(mask, trap.args[2], size);
  const Answer home = carried_call(trap, info);
  if (home.outcome == Outcome::kResult && home.result == 0 && given) {
    const auto tid = (int32_t)trap.args[0];
    sys(__NR_sched_setaffinity, tid == 0 ? trap.slot->thread.tid : tid, size, mask);
  }
  return home;
}

}  // namespace tess::stub
