#include "home/file_calls.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>

#include "stub/abi.h"
#include "sys/fd.h"
#include "sys/files.h"
#include "sys/process.h"

namespace tess::home {
namespace {

using trace::Registers;
constexpr int kNone = FileCall::kNone;
constexpr FileRange kAll{0, stub::kSharedAll};
// A whole object of that size is compared in no time; what is read may be elsewhere in it by then.
constexpr uint64_t kSmall = 1 << 20;

constexpr FileCall kFileCalls[] = {
    {SYS_read, 0, kNone},
    {SYS_pread64, 0, kNone},
    {SYS_readv, 0, kNone},
    {SYS_preadv, 0, kNone},
    {SYS_preadv2, 0, kNone},
    {SYS_lseek, 0, kNone},
    {SYS_fsync, 0, kNone},
    {SYS_fdatasync, 0, kNone},
    {SYS_sync_file_range, 0, kNone},
    {SYS_fstat, 0, kNone},
    {SYS_newfstatat, 0, kNone},
    {SYS_statx, 0, kNone},
    {SYS_mmap, 4, kNone},
    {SYS_sendfile, 1, 0},
    {SYS_splice, 0, 2},
    {SYS_copy_file_range, 0, 2},
    {SYS_write, kNone, 0},
    {SYS_pwrite64, kNone, 0},
    {SYS_writev, kNone, 0},
    {SYS_pwritev, kNone, 0},
    {SYS_pwritev2, kNone, 0},
    {SYS_fallocate, kNone, 0},
    {SYS_ftruncate, kNone, 0},
    {SYS_open, kNone, FileCall::kResult},
    {SYS_openat, kNone, FileCall::kResult},
    {SYS_creat, kNone, FileCall::kResult},
};

// Most calls of these numbers do neither.
bool concerns_content(const Registers& r) {
  switch (r.orig_rax) {
    case SYS_lseek:
      return r.rdx == SEEK_DATA || r.rdx == SEEK_HOLE;
    case SYS_newfstatat:
      return (r.r10 & AT_EMPTY_PATH) != 0;
    case SYS_statx:
      return (r.rdx & AT_EMPTY_PATH) != 0;
    case SYS_mmap:
      return (r.r10 & (MAP_ANONYMOUS | MAP_SHARED)) == 0;
    case SYS_open:
      return (r.rsi & O_TRUNC) != 0;
    case SYS_openat:
      return (r.rdx & O_TRUNC) != 0;
    default:
      return true;
  }
}

struct OpenFile {
  uint64_t position = 0;
  uint64_t flags = 0;
  uint64_t size = 0;
};

std::optional<OpenFile> open_file(pid_t tid, int fd) {
  const auto info = sys::read_file(fmt::format("/proc/{}/fdinfo/{}", tid, fd));
  unsigned long position = 0;
  unsigned long flags = 0;
  struct stat about {};
  if (!info || std::sscanf(info->c_str(), "pos: %lu flags: %lo", &position, &flags) != 2 ||
      ::stat(fmt::format("/proc/{}/fd/{}", tid, fd).c_str(), &about) != 0) {
    return std::nullopt;
  }
  return OpenFile{position, flags, static_cast<uint64_t>(about.st_size)};
}

// The bytes before `end`, as many as the call says that it has transferred.
FileRange before(uint64_t end, const Registers& r) {
  return end >= r.rax ? FileRange{end - r.rax, r.rax} : kAll;
}

// splice and copy_file_range: behind what they have written, in the process's memory.
std::optional<uint64_t> offset_at(pid_t tid, uint64_t address) {
  uint64_t value = 0;
  const iovec ours{&value, sizeof(value)};
  const iovec theirs{reinterpret_cast<void*>(address), sizeof(value)};
  return ::process_vm_readv(tid, &ours, 1, &theirs, 1, 0) == sizeof(value) ? std::optional(value)
                                                                           : std::nullopt;
}

FileRange range_allocated(const Registers& r) {
  const bool shifts = (r.rsi & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0;
  return shifts ? kAll : FileRange{r.rdx, r.r10};
}

FileRange range_written_at(const OpenFile& file, const Registers& r) {
  const bool appends =
      (file.flags & O_APPEND) != 0 || (r.orig_rax == SYS_pwritev2 && (r.r9 & RWF_APPEND) != 0);
  if (appends) {
    return before(file.size, r);
  }
  const bool at_position = r.orig_rax == SYS_pwritev2 && r.r10 == ~uint64_t{0};
  return at_position ? before(file.position, r) : FileRange{r.r10, r.rax};
}

}  // namespace

const FileCall* file_call(const Registers& registers) {
  const auto* const found = std::ranges::find(kFileCalls, registers.orig_rax, &FileCall::number);
  return found == std::end(kFileCalls) || !concerns_content(registers) ? nullptr : found;
}

int descriptor(const Registers& r, int place) {
  const uint64_t all[] = {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9, r.rax};
  static_assert(FileCall::kResult + 1 == std::size(all));
  return static_cast<int>(all[place]);
}

FileRange range_seen(pid_t tid, const Registers& r, bool alone) {
  const bool positioned = r.orig_rax == SYS_pread64;
  if (!positioned && (r.orig_rax != SYS_read || !alone)) {
    return kAll;
  }
  const auto file = open_file(tid, static_cast<int>(r.rdi));
  if (!file || file->size <= kSmall) {
    return kAll;
  }
  return {positioned ? r.r10 : file->position, r.rdx};
}

FileRange range_changed(pid_t tid, int fd, const Registers& r) {
  const auto file = open_file(tid, fd);
  if (!file) {
    return kAll;
  }
  switch (r.orig_rax) {
    case SYS_ftruncate:
    case SYS_open:
    case SYS_openat:
    case SYS_creat:
      return {0, stub::kSharedLength};
    case SYS_fallocate:
      return range_allocated(r);
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
      return range_written_at(*file, r);
    case SYS_splice:
    case SYS_copy_file_range:
      if (r.r10 != 0) {
        const auto end = offset_at(tid, r.r10);
        return end ? before(*end, r) : kAll;
      }
      return before(file->position, r);
    default:
      return before(file->position, r);
  }
}

// Only splice takes what is not there yet, from a pipe.
bool may_wait(pid_t pid, const Registers& r) {
  if (r.orig_rax != SYS_splice) {
    return false;
  }
  const auto pipe = sys::copy_descriptor(pid, static_cast<int>(r.rdi));
  return !pipe || !sys::wait_readable(*pipe, 0).value_or(false);
}

}  // namespace tess::home
