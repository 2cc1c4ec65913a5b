#include "stub/blob/deputy_shared.h"

#include "stub/blob/deputy_proc.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kOTrunc = 01000;
inline constexpr uint64_t kSeekData = 3, kSeekHole = 4;
inline constexpr uint32_t kTypeMask = 0170000, kRegular = 0100000, kCharacter = 0020000;

const SharedTable& table_of(const Slot* slot) {
  return *reinterpret_cast<const SharedTable*>(slot->region_base + kSharedTableOffset);
}

uint32_t count_of(const Slot* slot) {
  return __atomic_load_n(&table_of(slot).count, __ATOMIC_ACQUIRE);
}

// The segment of a file and kSharedReadOnly, 0: none.
uint64_t look_up(const Slot* slot, uint64_t device, uint64_t inode) {
  const SharedTable& table = table_of(slot);
  const uint32_t count = count_of(slot);
  for (uint32_t i = 0; i < count && i < kSharedFilesMax; ++i) {
    if (table.files[i].inode == inode && table.files[i].device == device) {
      return table.files[i].segment;
    }
  }
  return 0;
}

uint64_t look_up_fd(const Slot* slot, int32_t fd) {
  KernelStat stat;
  return fd >= 0 && sys(__NR_fstat, fd, &stat) == 0 ? look_up(slot, stat.dev, stat.ino) : 0;
}

// The segment that a change of the file has to be told of.
uint64_t changed(uint64_t found) {
  return found & ~kSharedReadOnly;
}

// The segment that has to come home before the file is looked at.
uint64_t seen(uint64_t found) {
  return (found & kSharedReadOnly) != 0 ? 0 : found;
}

bool any_written(const Slot* slot) {
  const SharedTable& table = table_of(slot);
  const uint32_t count = count_of(slot);
  for (uint32_t i = 0; i < count && i < kSharedFilesMax; ++i) {
    if (seen(table.files[i].segment) != 0) {
      return true;
    }
  }
  return false;
}

void tell(Slot* slot, SharedMoment moment, uint64_t segment, uint64_t offset, uint64_t size) {
  const SharedCall call{segment, offset, size};
  ask_shared(slot, Note::kSharedCall, (uint32_t)moment, 0, &call, sizeof(call), nullptr);
}

}  // namespace

SharedGuard::SharedGuard(Slot* slot, uint64_t number, const uint64_t args[6])
    : slot_(slot), number_(number), args_(args) {
  if (count_of(slot) == 0) {
    return;
  }
  switch (number) {
    case __NR_read:
    case __NR_pread64:
    case __NR_readv:
    case __NR_preadv:
      see((int32_t)args[0], range_of_read());
      break;
    case __NR_preadv2:
    case __NR_fsync:
    case __NR_fdatasync:
    case __NR_sync_file_range:
      see((int32_t)args[0]);
      break;
    case __NR_sendfile:
      see((int32_t)args[1]);
      change((int32_t)args[0]);
      break;
    case __NR_lseek:
      if (args[2] == kSeekData || args[2] == kSeekHole) {
        see((int32_t)args[0]);
      }
      break;
    case __NR_splice:
      see((int32_t)args[0]);
      change((int32_t)args[2]);
      break;
    case __NR_copy_file_range:
      see((int32_t)args[0]);
      change((int32_t)args[2]);
      break;
    case __NR_write:
    case __NR_pwrite64:
    case __NR_writev:
    case __NR_pwritev:
    case __NR_pwritev2:
    case __NR_fallocate:
    case __NR_ioctl:
      change((int32_t)args[0]);
      break;
    case __NR_ftruncate:
      cut(look_up_fd(slot, (int32_t)args[0]));
      break;
    case __NR_sync:
    case __NR_syncfs:
      sync_shared(slot);
      break;
    case __NR_execve:
    case __NR_execveat:
    case __NR_exit_group:
      sync_shared(slot);
      break;
    case __NR_exit:
      if (control_of(slot).in_use == 1) {
        sync_shared(slot);
      }
      break;
    case kOpMapFile:
      see((int32_t)args[4]);
      break;
    case kOpReadFile:
      see((int32_t)args[0]);
      break;
    case __NR_open:
    case __NR_openat:
    case __NR_openat2:
    case __NR_creat:
    case __NR_truncate:
      before_path();
      break;
    case __NR_stat:
    case __NR_fstat:
    case __NR_lstat:
    case __NR_newfstatat:
    case __NR_statx:
      stat_ = true;
      break;
    default:
      break;
  }
}

void SharedGuard::see(int32_t fd, Range range) {
  const uint64_t segment = seen(look_up_fd(slot_, fd));
  if (segment != 0 && range.size != 0) {
    tell(slot_, SharedMoment::kBefore, segment, range.offset, range.size);
  }
}

// With other threads the file's position may be another when the call is made.
SharedGuard::Range SharedGuard::range_of_read() const {
  constexpr int kSeekCur = 1;
  const bool positioned = number_ == __NR_pread64 || number_ == __NR_preadv;
  const long offset = positioned ? (long)args_[3] : sys(__NR_lseek, args_[0], 0, kSeekCur);
  if (offset < 0 || (!positioned && control_of(slot_).in_use != 1)) {
    return {0, kSharedAll};
  }
  uint64_t size = args_[2];
  if (number_ == __NR_readv || number_ == __NR_preadv) {
    const auto* vectors = (const uint64_t(*)[2])args_[1];
    size = 0;
    for (uint64_t i = 0; i < args_[2]; ++i) {
      size += vectors[i][1];
    }
  }
  return {(uint64_t)offset, size};
}

// Then what bodies have changed elsewhere in the file need not come home first.
bool SharedGuard::changes_known_bytes() const {
  constexpr int kFGetfl = 3, kSeekCur = 1;
  constexpr long kOAppend = 02000;
  switch (number_) {
    case __NR_write:
    case __NR_writev:
      return sys(__NR_lseek, open_fd_, 0, kSeekCur) >= 0;
    case __NR_pwrite64:
    case __NR_pwritev: {  // with O_APPEND the data goes elsewhere than the call says
      const long flags = sys(__NR_fcntl, open_fd_, kFGetfl);
      return flags >= 0 && (flags & kOAppend) == 0;
    }
    default:
      return false;
  }
}

// A call that may wait for a pipe does not keep the file to itself meanwhile.
void SharedGuard::change(int32_t fd) {
  open_segment_ = changed(look_up_fd(slot_, fd));
  open_fd_ = fd;
  if (open_segment_ != 0) {
    known_bytes_ = changes_known_bytes();
    const SharedMoment opens = known_bytes_ ? SharedMoment::kHold : SharedMoment::kOpen;
    const bool may_wait = number_ == __NR_splice || number_ == __NR_sendfile;
    tell(slot_, may_wait ? SharedMoment::kBefore : opens, open_segment_, 0, kSharedAll);
  }
}

void SharedGuard::cut(uint64_t found) {
  open_segment_ = changed(found);
  cuts_ = true;
  if (open_segment_ != 0) {
    tell(slot_, SharedMoment::kHold, open_segment_, 0, kSharedAll);
  }
}

void SharedGuard::before_path() {
  int32_t dirfd = kAtFdcwd;
  uint64_t path = args_[0];
  uint64_t flags = kOTrunc;  // creat, truncate
  if (number_ == __NR_open) {
    flags = args_[1];
  } else if (number_ == __NR_openat) {
    dirfd = (int32_t)args_[0];
    path = args_[1];
    flags = args_[2];
  } else if (number_ == __NR_openat2) {
    dirfd = (int32_t)args_[0];
    path = args_[1];
    memcpy(&flags, (const void*)args_[2], sizeof(flags));
  }
  KernelStat stat;
  if ((flags & kOTrunc) != 0 && sys(__NR_newfstatat, dirfd, path, &stat, 0) == 0) {
    cut(look_up(slot_, stat.dev, stat.ino));
  }
}

// What a write has changed: known where the call says or leaves the file's position.
void SharedGuard::find_range(int64_t result, uint64_t* offset, uint64_t* size) const {
  constexpr int kSeekCur = 1;
  *offset = 0;
  *size = kSharedAll;
  if (result < 0 || cuts_) {
    *size = result < 0 ? 0 : kSharedLength;
    return;
  }
  switch (number_) {
    case __NR_pwrite64:
    case __NR_pwritev:
      if (known_bytes_) {
        *offset = args_[3];
        *size = (uint64_t)result;
      }
      break;
    case __NR_write:
    case __NR_writev: {
      const long position = sys(__NR_lseek, open_fd_, 0, kSeekCur);
      if (position >= result) {
        *offset = (uint64_t)(position - result);
        *size = (uint64_t)result;
      }
      break;
    }
    default:
      break;
  }
}

bool SharedGuard::finish(int64_t result) {
  if (open_segment_ != 0) {
    uint64_t offset = 0;
    uint64_t size = 0;
    find_range(result, &offset, &size);
    tell(slot_, SharedMoment::kClose, open_segment_, offset, size);
    open_segment_ = 0;
  }
  if (!stat_ || result != 0) {
    return false;
  }
  stat_ = false;
  uint64_t segment = 0;
  if (number_ == __NR_statx) {
    struct {
      uint8_t before[32];
      uint64_t inode;
      uint8_t between[96];
      uint32_t major, minor;
    } about;
    static_assert(sizeof(about) == 144);
    memcpy(&about, (const void*)args_[4], sizeof(about));
    const uint64_t device = (uint64_t)(about.minor & 0xff) | (uint64_t)(about.major & 0xfff) << 8 |
                            (uint64_t)(about.minor & ~0xffu) << 12;
    segment = seen(look_up(slot_, device, about.inode));
  } else {
    KernelStat stat;
    memcpy(&stat, (const void*)args_[number_ == __NR_newfstatat ? 2 : 1], sizeof(stat));
    segment = seen(look_up(slot_, stat.dev, stat.ino));
  }
  if (segment == 0) {
    return false;
  }
  tell(slot_, SharedMoment::kBefore, segment, 0, kSharedAll);
  return true;
}

void sync_shared(Slot* slot) {
  if (any_written(slot)) {
    tell(slot, SharedMoment::kAll, 0, 0, 0);
  }
}

int64_t map_shared(const uint64_t args[6], uint32_t* read_only) {
  constexpr uint64_t kMapAnonymous = 0x20;
  constexpr uint64_t kZeroDevice = 0x105;
  constexpr int kFGetfl = 3, kAccessMode = 3;
  *read_only = 0;
  if ((args[3] & kMapAnonymous) == 0) {
    KernelStat stat;
    const long result = sys(__NR_fstat, args[4], &stat);
    if (result < 0) {
      return result;
    }
    if (file_system_of((int)args[4]) == kHugetlbMagic) {
      return kHomesPool;
    }
    const bool zeroes = (stat.mode & kTypeMask) == kCharacter && stat.rdev == kZeroDevice;
    if ((stat.mode & kTypeMask) == kCharacter && !zeroes) {
      return kEnodev;  // a device's memory does not travel
    }
    const long flags = sys(__NR_fcntl, args[4], kFGetfl);
    *read_only = !zeroes && flags >= 0 && (flags & kAccessMode) == 0 ? 1 : 0;
  }
  return sys(__NR_mmap, args[0], args[1], args[2], args[3], args[4], args[5]);
}

}  // namespace tess::stub
