// ftruncate and truncate of a file that this process has mapped private: here it maps a memfd that
// has the size that the file had (body_map.cc). Pages that are cut off must raise SIGBUS, those
// that the file gets must be there.
#include "stub/blob/body.h"
#include "stub/proc_text.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kPage = 4096, kMapPrivate = 2, kMapFixed = 0x10;
inline constexpr uint64_t kProtRead = 1, kProtWrite = 2, kProtExec = 4;

constexpr uint64_t page_up(uint64_t bytes) {
  return (bytes + kPage - 1) & ~(kPage - 1);
}

struct Truncated {
  FileIdentity identity;  // with the new size
  uint64_t old_size;
  uint64_t fd;  // to read from, ~0 none
};

// The file as it is before. False: none, or none that is mapped like this.
bool look_at_file(const Trap& trap, Truncated* file) {
  constexpr uint32_t kTypeMask = 0170000, kRegular = 0100000;
  constexpr uint64_t kPathMax = 4096;
  KernelStat stat{};
  int64_t result = 0;
  file->fd = ~uint64_t{0};
  if (trap.number == __NR_ftruncate) {
    file->fd = trap.args[0];
    const uint64_t args[6] = {trap.args[0], 0, 0, 0, 0, 0};
    const OwnSegment out{nullptr, 0, &stat, sizeof(stat), kTrimNone, 1};
    result = own_request(trap.slot, __NR_fstat, args, &out, 1, 1u << 0);
  } else {
    char path[kPathMax] = {};
    const int64_t length = string_length_app(trap.args[0], kPathMax);
    if (length < 0 || length >= (int64_t)kPathMax ||
        !copy_from_app(path, trap.args[0], (size_t)length)) {
      return false;
    }
    const uint64_t args[6] = {};
    const OwnSegment segments[2] = {{path, (uint32_t)length + 1, nullptr, 0, kTrimNone, 0},
                                    {nullptr, 0, &stat, sizeof(stat), kTrimNone, 1}};
    result = own_request(trap.slot, __NR_stat, args, segments, 2, 0);
  }
  file->identity = identity_of(stat);
  file->identity.size = trap.args[1];
  file->old_size = (uint64_t)stat.size;
  return result == 0 && (file->identity.mode & kTypeMask) == kRegular && (int64_t)trap.args[1] >= 0;
}

uint64_t protection(const FileRange& range) {
  return (range.perms[0] == 'r' ? kProtRead : 0) | (range.perms[1] == 'w' ? kProtWrite : 0) |
         (range.perms[2] == 'x' ? kProtExec : 0);
}

// The range from `begin` on, anew, of a memfd as long as the file is now.
void map_again(Slot* slot, const Truncated& file, const FileRange& range, uint64_t begin) {
  const long memfd = make_memfd(file.identity);
  if (memfd < 0) {
    return;
  }
  sys(__NR_ftruncate, memfd, file.identity.size);
  const uint64_t offset = range.offset + (begin - range.start);
  const uint64_t content_end =
      lesser(lesser(file.old_size, file.identity.size), offset + (range.end - begin));
  if (file.fd != ~uint64_t{0} && content_end > offset) {
    fetch_content(slot, memfd, file.fd, offset, content_end);
  }
  sys(__NR_mmap, begin, range.end - begin, protection(range), kMapPrivate | kMapFixed, memfd,
      offset);
  sys(__NR_close, memfd);
}

// The first page of the range that is beyond the end of its memfd, `end` if none is.
uint64_t first_missing(uint64_t start, uint64_t end) {
  if (start == end || readable_bytes_app(end - kPage, 1) != 0) {
    return end;
  }
  uint64_t good = start, bad = end - kPage;
  while (good < bad) {
    const uint64_t middle = good + (bad - good) / 2 / kPage * kPage;
    if (readable_bytes_app(middle, 1) != 0) {
      good = middle + kPage;
    } else {
      bad = middle;
    }
  }
  return bad;
}

void adjust_range(Slot* slot, const Truncated& file, const FileRange& range) {
  const uint64_t file_end = page_up(file.identity.size);
  const uint64_t inside =
      file_end > range.offset ? lesser(file_end - range.offset, range.end - range.start) : 0;
  const uint64_t border = range.start + inside;
  if (range.perms[0] == 'r' && inside != 0) {
    const uint64_t missing = first_missing(range.start, border);
    if (missing != border) {
      map_again(slot, file, range, missing);
      return;
    }
  }
  if (border != range.end) {
    map_again(slot, file, range, border);
  }
}

// Goes through the mappings, by address; what is mapped anew lies behind where it has come to.
void adjust_mappings(Slot* slot, const Truncated& file) {
  const long maps = host_file(slot, kProcMaps, control_of(slot).pid, 0);
  if (maps < 0) {
    return;
  }
  char text[4096];
  size_t have = 0;
  while (true) {
    const long n = sys(__NR_read, maps, text + have, sizeof(text) - have);
    if (n <= 0) {
      break;
    }
    have += (size_t)n;
    const char* line = text;
    for (const char* at = text; at != text + have; ++at) {
      FileRange range;
      if (*at != '\n') {
        continue;
      }
      if (parse_file_range({line, at}, range) && range.perms[3] == 'p' &&
          range.major == file.identity.dev_major && range.minor == file.identity.dev_minor &&
          range.inode == file.identity.inode) {
        adjust_range(slot, file, range);
      }
      line = at + 1;
    }
    have = (size_t)(text + have - line);
    memmove(text, line, have);
    if (have == sizeof(text)) {
      break;  // no line is so long
    }
  }
  sys(__NR_close, maps);
}

}  // namespace

Answer truncate_call(Trap& trap, const syscalls::SyscallInfo& info) {
  Truncated file{};
  const bool regular = look_at_file(trap, &file);
  const Answer made = carried_call(trap, info);
  if (regular && made.outcome == Outcome::kResult && made.result == 0) {
    adjust_mappings(trap.slot, file);
  }
  return made;
}

}  // namespace tess::stub
