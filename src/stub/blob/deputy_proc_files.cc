// Files of /proc that are open: reads and writes of those whose truth is where the body is, and
// what such a descriptor is to fstat.
#include "stub/blob/deputy_proc.h"

namespace tess::stub {
namespace {

inline constexpr int kSeekCur = 1, kFGetfl = 3;
inline constexpr uint64_t kAtEmptyPath = 0x1000;
inline constexpr char kTextBegin[] = "/memfd:proc:", kTextEnd[] = " (deleted)";

bool is_text_file(ProcFile file) {
  return file != kProcNone && file != kProcFdDir && file != kProcTaskDir &&
         file != kProcClearRefs && file != kProcMem && file != kProcPagemap;
}

bool begins_with(const char* text, const char* with) {
  while (*with != 0) {
    if (*text++ != *with++) {
      return false;
    }
  }
  return true;
}

bool any_proc_file_open() {
  constexpr uint32_t kNameOffset = 19;
  const long dir = sys(__NR_openat, kAtFdcwd, "/proc/self/fd", kOCloexec);
  if (dir < 0) {
    return true;  // it cannot be known
  }
  uint8_t entries[2048];
  bool found = false;
  long n = 0;
  while (!found && (n = sys(__NR_getdents64, dir, entries, sizeof(entries))) > 0) {
    for (long at = 0; at < n && !found;) {
      uint16_t length = 0;
      memcpy(&length, entries + at + 16, 2);
      int fd = 0;
      const char* name = (const char*)entries + at + kNameOffset;
      for (; *name >= '0' && *name <= '9'; ++name) {
        fd = fd * 10 + (*name - '0');
      }
      char path[kTextPathMax];
      found = *name == 0 && fd != (int)dir && (is_proc(fd) || text_path(fd, path));
      at += length;
    }
  }
  sys(__NR_close, dir);
  return found;
}

// Where a call reads or writes: its own offset, or the descriptor's.
long offset_of(const Request& r) {
  const bool at_position =
      r.op == __NR_read || r.op == __NR_write || r.op == __NR_readv || r.op == __NR_writev;
  return at_position ? sys(__NR_lseek, r.args[0], 0, kSeekCur) : (long)r.args[3];
}

bool is_write(uint32_t op) {
  return op == __NR_write || op == __NR_pwrite64 || op == __NR_writev || op == __NR_pwritev;
}

// Of a process or thread that is no more: one that only cannot be reached from a new root is.
bool is_gone(const ProcPath& path, const char* name) {
  if (sys(__NR_kill, path.tid != 0 ? path.tid : path.pid, 0) != kEsrch) {
    return false;
  }
  const long original = open_original(name, kOPath);
  sys(__NR_close, original);
  return original < 0;
}

// A text from its start: as the kernel does, it is made anew.
bool divert_text(Slot* slot, Call& call, const ProcPath& path) {
  SlotPrivate& p = priv(slot);
  const Request& r = call.request;
  if (is_write(r.op) || offset_of(r) != 0) {
    return false;
  }
  if (p.fresh_text == (int32_t)r.args[0] + 1) {
    p.fresh_text = 0;
    return false;
  }
  const bool own = path.pid == own_number();
  if (!own && !is_public(path.file)) {
    return false;
  }
  call.proc = path;
  if (own) {
    call.proc.pid = control_of(slot).pid;
  }
  call.flags |= kReplyProc;
  call.result = 0;  // no data comes with the reply
  return true;
}

bool divert_memory(Slot* slot, Call& call, ProcPath path) {
  const Request& r = call.request;
  if (r.op == __NR_readv || r.op == __NR_preadv || r.op == __NR_writev || r.op == __NR_pwritev) {
    return false;
  }
  const bool writes = is_write(r.op);
  const long mode = sys(__NR_fcntl, r.args[0], kFGetfl) & 3;
  if ((writes && mode == 0) || (!writes && mode == 1)) {
    call.result = kEbadf;
    return true;
  }
  path.pid = control_of(slot).pid;
  path.tid = 0;
  call.proc = path;
  call.flags |= kReplyProc;
  call.deadline_ns = offset_of(r);
  call.result = 0;  // no data comes with the reply
  return true;
}

// A file about the memory of another process: if that is away, both have to be at home for it.
bool divert_others(Slot* slot, Call& call, const ProcPath& path) {
  if (is_public(path.file) || path.file == kProcEnviron || path.pid == 0 ||
      ask_away(slot, path.pid) <= 0) {
    return false;
  }
  call.proc = path;
  call.flags |= kReplyProc;
  call.result = 0;  // no data comes with the reply
  return true;
}

// For a call that describes an open text: a descriptor of the file that it stands for, to be
// closed. Negative: the call is about something else.
int stand_in_for_text(Slot* slot, const Request& r) {
  const bool by_descriptor = r.op == __NR_fstat || r.op == __NR_fstatfs ||
                             (r.op == __NR_newfstatat && (r.args[3] & kAtEmptyPath) != 0) ||
                             (r.op == __NR_statx && (r.args[2] & kAtEmptyPath) != 0);
  char name[kTextPathMax];
  if (!by_descriptor || !has_proc_files(slot) || !text_path((int)r.args[0], name)) {
    return -1;
  }
  return (int)open_original(name, kOPath);
}

}  // namespace

bool text_path(int fd, char* to) {
  char name[64], target[kTextPathMax + sizeof(kTextBegin) + sizeof(kTextEnd)];
  proc_self_path(name, "fd/", (uint64_t)fd, "");
  const long n = sys(__NR_readlinkat, kAtFdcwd, name, target, sizeof(target) - 1);
  constexpr long kBegin = sizeof(kTextBegin) - 1, kEnd = sizeof(kTextEnd) - 1;
  if (n <= kBegin + kEnd || n - kBegin - kEnd >= (long)kTextPathMax) {
    return false;
  }
  target[n] = 0;
  if (!begins_with(target, kTextBegin) || !begins_with(target + n - kEnd, kTextEnd)) {
    return false;
  }
  const long length = n - kBegin - kEnd;
  memcpy(to, target + kBegin, (size_t)length);
  to[length] = 0;
  return true;
}

long create_text(int fd) {
  constexpr char kName[] = "proc:";
  constexpr size_t kBegin = sizeof(kName) - 1;
  constexpr int kMfdCloexec = 1;
  char link[64], name[kBegin + kTextPathMax] = "proc:";
  proc_self_path(link, "fd/", (uint64_t)fd, "");
  const long n = sys(__NR_readlinkat, kAtFdcwd, link, name + kBegin, kTextPathMax - 1);
  name[kBegin + (n > 0 ? (size_t)n : 0)] = 0;
  return sys(__NR_memfd_create, name, kMfdCloexec);
}

long open_original(const char* path, uint64_t flags) {
  const long fd = sys(__NR_openat, kAtFdcwd, path, flags | kOCloexec);
  if (fd >= 0 && !is_proc((int)fd)) {
    sys(__NR_close, fd);
    return kEbadf;
  }
  return fd;
}

bool has_proc_files(Slot* slot) {
  uint32_t& state = control_of(slot).memory_files;
  if (state == kFilesNotLookedAt) {
    state = any_proc_file_open() ? kFilesPerhaps : kFilesNone;
  }
  return state == kFilesPerhaps;
}

bool divert_proc_file(Slot* slot, Call& call) {
  if (!has_proc_files(slot)) {
    return false;
  }
  constexpr uint64_t kProcMagic = 0x9fa0, kMemoryMagic = 0x01021994;
  const int fd = (int)call.request.args[0];
  const uint64_t magic = file_system_of(fd);
  if (magic == kProcMagic) {
    const ProcPath path = path_of(fd);
    if (path.pid != own_number()) {
      return (is_text_file(path.file) || path.file == kProcMem || path.file == kProcPagemap) &&
             divert_others(slot, call, path);
    }
    if (path.file == kProcMem || path.file == kProcPagemap) {
      return divert_memory(slot, call, path);
    }
    // One that was opened before the process left.
    return is_text_file(path.file) && divert_text(slot, call, path);
  }
  char name[kTextPathMax];
  if (magic != kMemoryMagic || !text_path(fd, name)) {
    return false;
  }
  const char* end = name;
  while (*end != 0) {
    ++end;
  }
  const ProcPath path = parse_proc_path({name, end});
  const Request& r = call.request;
  if (!is_write(r.op) && offset_of(r) == 0 && is_gone(path, name)) {
    call.result = kEsrch;
    return true;
  }
  return divert_text(slot, call, path);
}

bool classify_opened_file(Slot* slot, Call& call) {
  ProcPath path = path_of((int)call.result);
  if (!is_text_file(path.file) && path.file != kProcMem && path.file != kProcPagemap) {
    return false;
  }
  if ((sys(__NR_fcntl, call.result, kFGetfl) & (long)kOPath) != 0) {
    return false;
  }
  const bool own = path.pid == own_number();
  if (own) {
    path.pid = control_of(slot).pid;
  }
  control_of(slot).memory_files = kFilesPerhaps;
  if (!is_text_file(path.file) || (!own && !is_public(path.file))) {
    return false;  // what it says is seen to when it is read
  }
  call.proc = path;
  return true;
}

// Between the making of a text and its reading: these do not change what it says.
bool keeps_text_fresh(uint32_t op) {
  switch (op) {
    case __NR_read:
    case __NR_readv:
    case __NR_pread64:
    case __NR_preadv:
    case __NR_lseek:
    case __NR_fstat:
    case __NR_newfstatat:
    case __NR_statx:
    case __NR_fcntl:
    case __NR_ioctl:
      return true;
    default:
      return op >= kOpFirst;
  }
}

void describe_file(Slot* slot, Call& call) {
  const int stand_in = stand_in_for_text(slot, call.request);
  const uint64_t asked = call.request.args[0];
  if (stand_in >= 0) {
    call.request.args[0] = (uint64_t)stand_in;
  }
  run_kernel_call(slot, call);
  if (stand_in >= 0) {
    sys(__NR_close, stand_in);
    call.request.args[0] = asked;
  }
}

}  // namespace tess::stub
