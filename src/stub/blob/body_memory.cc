// Calls that name memory by address in another way than as an argument to be copied: they work on
// this body's own memory, or go home for that of others.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kIovMax = 1024;

struct Range {
  uint64_t base;
  uint64_t size;
};

Answer carried_as(Trap& trap, uint64_t number, const uint64_t args[6]) {
  Trap other = trap;
  other.number = number;
  memcpy(other.args, args, sizeof(other.args));
  Answer result = carried_call(other, *syscalls::syscall_info(number));
  trap.reply = other.reply;
  return result;
}

int64_t ask_fcntl(Slot* slot, uint64_t fd, uint64_t command) {
  const uint64_t args[6] = {fd, command, 0, 0, 0, 0};
  return own_request(slot, __NR_fcntl, args, nullptr, 0, 1u << 0);
}

}  // namespace

// Pages cannot be given to a pipe at home: their bytes are written there, or read from it. As the
// kernel does, waits for room once and then takes what fits.
Answer vmsplice_call(Trap& trap) {
  constexpr uint64_t kGetfl = 3, kGetpipeSize = 1032, kNonblock = 2, kAllFlags = 0xf;
  constexpr uint64_t kRwfNowait = 8, kPollin = 1, kPollout = 4;
  Slot* slot = trap.slot;
  if ((trap.args[3] & ~kAllFlags) != 0) {
    return answer(kEinval);
  }
  const int64_t mode = ask_fcntl(slot, trap.args[0], kGetfl);
  const int64_t pipe = mode < 0 ? mode : ask_fcntl(slot, trap.args[0], kGetpipeSize);
  if (mode < 0 || pipe < 0) {
    return answer(kEbadf);
  }
  if (trap.args[2] > kIovMax) {
    return answer(kEinval);
  }
  const bool writes = (mode & 3) != 0;
  const bool nonblock = ((mode >> 11) & 1) != 0 || (trap.args[3] & kNonblock) != 0;
  while (true) {
    const uint64_t args[6] = {trap.args[0], trap.args[1], trap.args[2],
                              ~uint64_t{0}, ~uint64_t{0}, kRwfNowait};
    Answer done = carried_as(trap, writes ? __NR_pwritev2 : __NR_preadv2, args);
    if (done.outcome == Outcome::kResult && done.result == kEnotsup) {
      return carried_as(trap, writes ? __NR_writev : __NR_readv, trap.args);
    }
    if (done.outcome != Outcome::kResult || done.result != kEagain || nonblock) {
      return done;
    }
    uint64_t poll_fd = (uint32_t)trap.args[0] | (writes ? kPollout : kPollin) << 32;
    const uint64_t wait[6] = {0, 1, ~uint64_t{0}, 0, 0, 0};
    const OwnSegment segment{&poll_fd, 8, &poll_fd, 8, kTrimNone, 0};
    const int64_t ready = own_request(slot, __NR_poll, wait, &segment, 1, 0);
    if (is_unfinished(ready)) {
      return again();
    }
    if (ready < 0) {
      return answer(ready);
    }
  }
}

namespace {

// Copies between two lists of ranges of this process. Bytes done, or -EFAULT if none.
int64_t copy_ranges(const Range* from, uint64_t from_count, const Range* to, uint64_t to_count) {
  uint8_t part[4096];
  int64_t done = 0;
  uint64_t i = 0, j = 0, from_at = 0, to_at = 0;
  while (i < from_count && j < to_count) {
    const uint64_t left_from = from[i].size - from_at;
    const uint64_t left_to = to[j].size - to_at;
    if (left_from == 0) {
      ++i;
      from_at = 0;
      continue;
    }
    if (left_to == 0) {
      ++j;
      to_at = 0;
      continue;
    }
    uint64_t n = left_from < left_to ? left_from : left_to;
    n = n < sizeof(part) ? n : sizeof(part);
    const uint64_t page_left = 4096 - ((from[i].base + from_at) & 4095);
    n = n < page_left ? n : page_left;
    if (!copy_from_app(part, from[i].base + from_at, n) ||
        !copy_to_app(to[j].base + to_at, part, n)) {
      return done != 0 ? done : kEfault;
    }
    done += (int64_t)n;
    from_at += n;
    to_at += n;
  }
  return done;
}

int64_t read_ranges(uint64_t at, uint64_t count, Range* ranges) {
  if (count > kIovMax) {
    return kEinval;
  }
  if (!copy_from_app(ranges, at, count * sizeof(Range))) {
    return kEfault;
  }
  for (uint64_t i = 0; i < count; ++i) {
    if ((int64_t)ranges[i].size < 0) {
      return kEinval;
    }
  }
  return 0;
}

// Of another process; negative: we may not look at it.
int64_t memory_away(Slot* slot, int64_t pid) {
  const uint64_t args[6] = {(uint64_t)pid, 0, 0, 0, 0, 0};
  return own_request(slot, kOpIsAway, args, nullptr, 0, 0);
}

}  // namespace

// Of this process: here. Of others: what is at home is home's; for what is away, both return.
Answer process_vm_call(Trap& trap, const syscalls::SyscallInfo& info) {
  Slot* slot = trap.slot;
  const auto pid = (int32_t)trap.args[0];
  if (trap.args[5] == 0 && pid != control_of(slot).pid && slot_of_thread(slot, pid) == nullptr) {
    return memory_away(slot, pid) > 0 ? homeward_call(trap, kEperm, (uint64_t)pid)
                                      : carried_call(trap, info);
  }
  if (trap.args[5] != 0) {
    return carried_call(trap, info);
  }
  auto* local = reinterpret_cast<Range*>((uint8_t*)slot + kSlotArenaOffset);
  Range* remote = local + kIovMax;
  int64_t bad = read_ranges(trap.args[1], trap.args[2], local);
  bad = bad != 0 ? bad : read_ranges(trap.args[3], trap.args[4], remote);
  if (bad != 0) {
    return answer(bad);
  }
  return answer(trap.number == __NR_process_vm_readv
                    ? copy_ranges(remote, trap.args[4], local, trap.args[2])
                    : copy_ranges(local, trap.args[2], remote, trap.args[4]));
}

Answer munmap_call(Trap& trap) {
  constexpr uint64_t kPage = 4096, kAddressEnd = 0x7ffffffff000;
  const uint64_t begin = trap.args[0];
  const uint64_t size = (trap.args[1] + kPage - 1) & ~(kPage - 1);
  const uint64_t region = trap.slot->region_base;
  if (begin > kAddressEnd || size > kAddressEnd - begin || begin + size <= region ||
      begin >= region + kRegionSize) {
    return answer(sys(__NR_munmap, trap.args[0], trap.args[1]));  // or a reason not to
  }
  ThreadContext& t = trap.slot->thread;
  if (t.rseq_address - begin < size) {
    // The kernel writes there at each signal of ours, and kills who has unmapped it.
    constexpr int kUnregister = 1;
    sys(__NR_rseq, t.rseq_address, t.rseq_size, kUnregister, t.rseq_signature);
    t.rseq_address = 0;
  }
  long result = begin % kPage != 0 ? kEinval : 0;
  if (result == 0 && begin < region) {
    result = sys(__NR_munmap, begin, region - begin);
  }
  if (result == 0 && begin + size > region + kRegionSize) {
    const uint64_t behind = region + kRegionSize;
    result = sys(__NR_munmap, behind, begin + size - behind);
  }
  return answer(result);
}

Answer process_madvise_call(Trap& trap) {
  constexpr uint64_t kWillneed = 3, kCold = 20, kPageout = 21, kCollapse = 25;
  Slot* slot = trap.slot;
  if ((uint32_t)trap.args[4] != 0) {
    return answer(kEinval);
  }
  const uint64_t args[6] = {trap.args[0], 0, 0, 0, 0, 0};
  const int64_t pid = own_request(slot, kOpPidOf, args, nullptr, 0, 1u << 0);
  if (pid < 0) {
    return answer(pid);
  }
  const uint64_t advice = trap.args[3];
  if ((advice != kWillneed && advice != kCold && advice != kPageout && advice != kCollapse)) {
    return answer(kEinval);
  }
  if (pid != control_of(slot).pid) {
    const int64_t away = memory_away(slot, pid);
    return away < 0 ? answer(away) : homeward_call(trap, kEperm, (uint64_t)pid);
  }
  auto* ranges = reinterpret_cast<Range*>((uint8_t*)slot + kSlotArenaOffset);
  const int64_t bad = read_ranges(trap.args[1], trap.args[2], ranges);
  if (bad != 0) {
    return answer(bad);
  }
  int64_t done = 0;
  for (uint64_t i = 0; i < trap.args[2]; ++i) {
    const long result = sys(__NR_madvise, ranges[i].base, ranges[i].size, advice);
    if (result < 0) {
      return answer(done != 0 ? done : result);
    }
    done += (int64_t)ranges[i].size;
  }
  return answer(done);
}

}  // namespace tess::stub
