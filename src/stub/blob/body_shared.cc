// Memory that processes of the job share. Home makes the mapping too, so that there is one object
// that everybody means; the bodies of a job on one host map the same memory of their agent, which
// keeps it in step with home's (docs/adr/0005). Futexes in it work by themselves.
#include "stub/blob/body.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kMapPrivate = 2, kMapFixed = 0x10, kMapAnonymous = 0x20,
                          kMapLocked = 0x2000, kMapNoreserve = 0x4000, kMapPopulate = 0x8000,
                          kMapHugetlb = 0x40000, kMapFixedNoreplace = 0x100000, kMapTypeMask = 0xf;
inline constexpr uint64_t kMapShared = 1, kProtRead = 1, kProtWrite = 2, kProtExec = 4;

bool is_error(int64_t result) {
  return result < 0 && result > -4096;
}

constexpr uint64_t page_up(uint64_t bytes) {
  return (bytes + 4095) & ~uint64_t{4095};
}

// The agent's memory behind what home has mapped at `address`, mapped here at the same place.
// Whatever fails, home's mapping goes again.
int64_t map_agents_memory(Slot* slot, uint64_t address, uint64_t size, uint64_t prot,
                          uint64_t flags, uint64_t offset, bool read_only) {
  int32_t fd = -1;
  int64_t result = ask_shared(slot, Note::kNeedShared, read_only ? 1 : 0, address, nullptr, 0, &fd);
  if (result >= 0 && fd < 0) {
    result = kEnomem;
  }
  if (result >= 0) {
    result = sys(__NR_mmap, address, size, prot, flags, fd, offset);
  }
  if (fd >= 0) {
    sys(__NR_close, fd);
  }
  control_of(slot).shares = 1;
  if (result == kKicked) {
    // This process, or the others that share this, are on their way. We shall be stopped for the
    // move, or it will be over, when the call is made again.
    const Timespec moment{0, 1'000'000};
    sys(__NR_clock_nanosleep, 1, 0, &moment, 0);
  }
  if (is_error(result)) {
    const uint64_t undo[6] = {address, size, 0, 0, 0, 0};
    own_request(slot, __NR_munmap, undo, nullptr, 0, 0);
  }
  return result;
}

// A mapping of an attached segment, in bytes from where the segment begins.
struct SegmentPart {
  uint64_t offset;
  uint64_t size;  // 0: there is none
};

// The first part of the segment attached at args[0] that lies `from` bytes or more into it.
SegmentPart part_of_segment(const Trap& trap, uint64_t from) {
  const auto pages = (uint32_t)(from / 4096);
  const int64_t found =
      ask_shared(trap.slot, Note::kSharedSize, pages, trap.args[0], nullptr, 0, nullptr);
  return found <= 0 ? SegmentPart{}
                    : SegmentPart{((uint64_t)found >> 32) * 4096, (uint64_t)(uint32_t)found * 4096};
}

Answer finish(int64_t result) {
  return is_unfinished(result) ? again() : answer(result);
}

}  // namespace

Answer map_shared_call(Trap& trap) {
  Slot* slot = trap.slot;
  const uint64_t size = page_up(trap.args[1]);
  const uint64_t prot = trap.args[2];
  const uint64_t flags = trap.args[3];
  const bool anonymous = (flags & kMapAnonymous) != 0;
  const uint64_t offset = anonymous ? 0 : trap.args[5];
  const bool replaces = (flags & kMapFixed) != 0 && (flags & kMapFixedNoreplace) == 0;
  if (size == 0 || (trap.args[5] & 4095) != 0 || (replaces && (trap.args[0] & 4095) != 0)) {
    return answer(trap.args[1] != 0 && size == 0 ? kEnomem : kEinval);
  }
  // Reserve first: this kernel chooses the address, home follows. A fixed one is only replaced once
  // home has agreed.
  uint64_t address = trap.args[0];
  if (!replaces) {
    const uint64_t placing = flags & ~(kMapTypeMask | kMapPopulate | kMapLocked | kMapHugetlb);
    const long reserved = sys(__NR_mmap, address, size, 0,
                              placing | kMapPrivate | kMapAnonymous | kMapNoreserve, -1, 0);
    if (is_error(reserved)) {
      return answer(reserved);
    }
    address = (uint64_t)reserved;
  }
  const uint64_t at_home = (flags & ~(kMapFixedNoreplace | kMapPopulate | kMapLocked)) | kMapFixed;
  const uint64_t args[6] = {address, size, prot, at_home, trap.args[4], offset};
  uint32_t read_only = 0;
  const OwnSegment out{nullptr, 0, &read_only, sizeof(read_only)};
  int64_t result = own_request(slot, kOpMapShared, args, &out, 1, anonymous ? 0 : 1u << 4);
  if (result >= 0) {
    const uint64_t here =
        (flags & ~(kMapFixedNoreplace | kMapAnonymous | kMapTypeMask)) | kMapFixed | kMapShared;
    result = map_agents_memory(slot, address, size, prot, here, offset, read_only != 0);
  }
  if (result < 0 && !replaces) {
    sys(__NR_munmap, address, size);
  }
  return finish(result);
}

// What is shared is to be found at home where it is here: a move asks for it, and what is mapped
// later may come to lie over its old place. Home has nothing of other memory, and says so.
Answer mremap_call(Trap& trap) {
  constexpr uint64_t kMayMove = 1, kFixed = 2, kDontUnmap = 4;
  const uint64_t* a = trap.args;
  const int64_t made = sys(__NR_mremap, a[0], a[1], a[2], a[3], a[4]);
  const uint64_t before = page_up(a[1]), after = page_up(a[2]);
  const bool moved = made != (int64_t)a[0];
  if (is_error(made) || control_of(trap.slot).shares == 0 || (a[3] & kDontUnmap) != 0 ||
      (!moved && after <= before)) {
    return answer(made);
  }
  const uint64_t args[6] = {a[0], before, after, moved ? kMayMove | kFixed : 0, (uint64_t)made, 0};
  if (!is_unfinished(own_request(trap.slot, __NR_mremap, args, nullptr, 0, 0)) ||
      (after < before && before != 0)) {
    return answer(made);
  }
  if (before == 0) {
    sys(__NR_munmap, made, after);
  } else {
    sys(__NR_mremap, made, after, before, moved ? kMayMove | kFixed : 0, a[0]);
  }
  return again();
}

// What is checked (addresses, flags) is this kernel's to check; what is promised is home's to keep.
Answer msync_call(Trap& trap) {
  const long here = sys(__NR_msync, trap.args[0], trap.args[1], trap.args[2]);
  constexpr uint64_t kInvalidate = 2;
  if (here < 0) {
    return answer(here);
  }
  if (control_of(trap.slot).all_locked != 0 && (trap.args[2] & kInvalidate) != 0) {
    return answer(-16);  // EBUSY, by mlockall, which the host does not do
  }
  const uint64_t args[6] = {trap.args[0], trap.args[1], trap.args[2], 0, 0, 0};
  return finish(own_request(trap.slot, kOpSyncShared, args, nullptr, 0, 0));
}

Answer shmat_call(Trap& trap) {
  constexpr uint64_t kIpcStat = 2, kReadOnly = 010000, kRound = 020000, kRemap = 040000,
                     kExec = 0100000;
  struct {
    uint8_t permissions[48];
    uint64_t size;
    uint8_t rest[56];
  } about;
  static_assert(sizeof(about) == 112);
  Slot* slot = trap.slot;
  const uint64_t flags = trap.args[2];
  const uint64_t stat[6] = {trap.args[0], kIpcStat, 0, 0, 0, 0};
  const OwnSegment out{nullptr, 0, &about, sizeof(about), kTrimNone, 2};
  int64_t result = own_request(slot, __NR_shmctl, stat, &out, 1, 0);
  if (result < 0) {
    return finish(result);
  }
  const uint64_t size = page_up(about.size);
  uint64_t address = (flags & kRound) != 0 ? trap.args[1] & ~uint64_t{4095} : trap.args[1];
  const bool replaces = address != 0 && (flags & kRemap) != 0;
  if ((address & 4095) != 0 || (address == 0 && (flags & kRemap) != 0)) {
    return answer(kEinval);
  }
  if (!replaces) {
    const long reserved =
        sys(__NR_mmap, address, size, 0,
            kMapPrivate | kMapAnonymous | kMapNoreserve | (address != 0 ? kMapFixedNoreplace : 0),
            -1, 0);
    if (is_error(reserved)) {
      return answer(reserved == kEexist ? kEinval : reserved);
    }
    address = (uint64_t)reserved;
  }
  const uint64_t attach[6] = {trap.args[0], address, (flags & ~kRound) | kRemap, 0, 0, 0};
  result = own_request(slot, __NR_shmat, attach, nullptr, 0, 0);
  if (result >= 0) {
    const bool read_only = (flags & kReadOnly) != 0;
    const uint64_t prot =
        kProtRead | (read_only ? 0 : kProtWrite) | ((flags & kExec) != 0 ? kProtExec : 0);
    result = map_agents_memory(slot, address, size, prot, kMapShared | kMapFixed, 0, read_only);
  }
  if (result < 0 && !replaces) {
    sys(__NR_munmap, address, size);
  }
  // There is such a segment, and the address is good for all but pages of home's hugetlb pool; nor
  // is there anything else that cannot be shared.
  const bool pool = result == kEinval || result == kEnodev;
  return pool ? homeward_call(trap, result) : finish(result);
}

// What is still that segment goes, from the second part on; the first, by which the agent knows
// the segment, goes last. Programs may have unmapped parts of it, or mapped something else there.
Answer shmdt_call(Trap& trap) {
  const uint64_t address = trap.args[0];
  const SegmentPart first = part_of_segment(trap, 0);
  if (first.size == 0) {
    return answer(kEinval);
  }
  const uint64_t args[6] = {address, 0, 0, 0, 0, 0};
  const int64_t result = own_request(trap.slot, __NR_shmdt, args, nullptr, 0, 0);
  if (result == 0) {
    SegmentPart part = first;
    while ((part = part_of_segment(trap, part.offset + part.size)).size != 0) {
      sys(__NR_munmap, address + part.offset, part.size);
    }
    sys(__NR_munmap, address + first.offset, first.size);
  }
  return finish(result);
}

}  // namespace tess::stub
