// /proc as the application would see it at home, from the deputy: files whose truth is where the
// body is are told to the body, which sends its host's text; directories lose what is ours.
#include "stub/blob/deputy_proc.h"

namespace tess::stub {
namespace {

inline constexpr int kSeekSet = 0;
inline constexpr uint64_t kOReadWrite = 2;
inline constexpr int kFGetfd = 1, kFDupfdCloexec = 1030;
inline constexpr uint64_t kProcMagic = 0x9fa0;
inline constexpr uint64_t kTickNs = 10'000'000;

size_t put_decimal(char* to, uint64_t value) {
  char digits[24];
  size_t n = 0;
  do {
    digits[n++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  for (size_t i = 0; i < n; ++i) {
    to[i] = digits[n - 1 - i];
  }
  to[n] = 0;
  return n;
}

}  // namespace

uint64_t file_system_of(int fd) {
  uint64_t info[15] = {};
  return sys(__NR_fstatfs, fd, info) == 0 ? info[0] : 0;
}

bool is_proc(int fd) {
  return file_system_of(fd) == kProcMagic;
}

void proc_self_path(char* to, const char* place, uint64_t id, const char* last) {
  const char begin[] = "/proc/self/";
  memcpy(to, begin, sizeof(begin) - 1);
  to += sizeof(begin) - 1;
  while (*place != 0) {
    *to++ = *place++;
  }
  to += put_decimal(to, id);
  while (*last != 0) {
    *to++ = *last++;
  }
  *to = 0;
}

ProcPath path_of(int fd) {
  char name[64], target[256];
  proc_self_path(name, "fd/", (uint64_t)fd, "");
  const long n = sys(__NR_readlinkat, kAtFdcwd, name, target, sizeof(target));
  return n > 0 && n < (long)sizeof(target) ? parse_proc_path({target, target + n}) : ProcPath{};
}

int32_t own_number() {
  char target[16];
  const long n = sys(__NR_readlinkat, kAtFdcwd, "/proc/self", target, sizeof(target));
  int32_t value = 0;
  for (long i = 0; i < n; ++i) {
    value = value * 10 + (target[i] - '0');
  }
  return value;
}

namespace {

// ---- making text ----

struct Buffer {
  uint8_t* at;
  uint64_t size;
  uint64_t used;
};

bool grow(Buffer& b) {
  constexpr int kReadWrite = 3, kPrivateAnon = 0x22, kMayMove = 1;
  constexpr uint64_t kFirst = 64 << 10;
  const long address = b.size == 0 ? sys(__NR_mmap, beside_region(this_slot()), kFirst, kReadWrite,
                                         kPrivateAnon, -1, 0)
                                   : sys(__NR_mremap, b.at, b.size, b.size * 2, kMayMove);
  if (address < 0 && address > -4096) {
    return false;
  }
  b.at = (uint8_t*)address;
  b.size = b.size == 0 ? kFirst : b.size * 2;
  return true;
}

void drop(Buffer& b) {
  if (b.size != 0) {
    sys(__NR_munmap, b.at, b.size);
  }
  b = {};
}

// The whole of a file; what could not be read is missing.
Text read_all(int fd, Buffer& b) {
  while (b.used < b.size || grow(b)) {
    const long n = sys(__NR_read, fd, b.at + b.used, b.size - b.used);
    if (n == kEintr) {
      continue;
    }
    if (n <= 0) {
      break;
    }
    b.used += (uint64_t)n;
  }
  return {(const char*)b.at, (const char*)b.at + b.used};
}

struct FileSink {
  int fd;
  uint32_t used;
  char buffer[4000];
};

void flush(FileSink& sink) {
  uint32_t done = 0;
  while (done < sink.used) {
    const long n = sys(__NR_write, sink.fd, sink.buffer + done, sink.used - done);
    if (n <= 0) {
      break;
    }
    done += (uint32_t)n;
  }
  sink.used = 0;
}

void write_sink(void* context, const char* from, size_t n) {
  auto& sink = *static_cast<FileSink*>(context);
  for (size_t i = 0; i < n; ++i) {
    if (sink.used == sizeof(sink.buffer)) {
      flush(sink);
    }
    sink.buffer[sink.used++] = from[i];
  }
}

ProcFacts facts_of(const Slot* slot, const Request& r) {
  const ControlBlock& control = control_of(slot);
  ProcFacts facts;
  facts.region_base = control.region_base;
  facts.region_data_kb = stub_data_size(control) / 1024;
  facts.cpu_ticks = (int64_t)r.args[4] / (int64_t)kTickNs;
  facts.children_ticks_user = control.children_user_ns / kTickNs;
  facts.children_ticks_system = control.children_system_ns / kTickNs;
  facts.all_locked = control.all_locked != 0;
  return facts;
}

// The made-up text takes the place of the file that the application has opened: a memory file, open
// for reading only.
long replace_file(int fd, int text_fd) {
  char name[64];
  proc_self_path(name, "fd/", (uint64_t)text_fd, "");
  const long reopened = sys(__NR_openat, kAtFdcwd, name, kOCloexec);
  if (reopened < 0) {
    return reopened;
  }
  const long flags = sys(__NR_fcntl, fd, kFGetfd);
  const long placed = sys(__NR_dup3, reopened, fd, (flags & 1) != 0 ? kOCloexec : 0);
  sys(__NR_close, reopened);
  return placed < 0 ? placed : 0;
}

// A text that is open already gets new content; its readers share it.
long open_to_refresh(int fd) {
  char name[64];
  proc_self_path(name, "fd/", (uint64_t)fd, "");
  const long out = sys(__NR_openat, kAtFdcwd, name, kOReadWrite | kOCloexec);
  if (out >= 0) {
    sys(__NR_ftruncate, out, 0);
  }
  return out;
}

// What the text of a host says of a thread that waits for home: that it sleeps. It does only if
// home lets it wait in a call. Asked last, so that it is not an older call.
char state_of(Slot* slot, const Request& r, const ProcPath& path) {
  if (r.args[5] != kCallCarried) {
    return 0;
  }
  MailboxNote question{};
  question.kind = Note::kCallState;
  question.result = path.pid;
  question.id = (uint64_t)(path.tid != 0 ? path.tid : path.pid);
  const int64_t waits = ask_for_word(slot, question);
  return waits < 0 ? 0 : waits != 0 ? 'S' : 'R';
}

// Without a text of a host the process is at home, where the truth is then.
void write_text(Slot* slot, const Request& r, int raw_fd, int home_fd, int out_fd) {
  const ProcPath path = path_of(home_fd);
  Buffer host{}, home{}, maps{};
  sys(__NR_lseek, raw_fd, 0, kSeekSet);
  const Text host_text = read_all(raw_fd, host);
  const Text home_text = read_all(home_fd, home);
  Text maps_text{};
  const long maps_fd = sys(__NR_openat, kAtFdcwd, "/proc/self/maps", kOCloexec);
  if (maps_fd >= 0) {
    maps_text = read_all((int)maps_fd, maps);
    sys(__NR_close, maps_fd);
  }
  FileSink out{out_fd, 0, {}};
  const TextSink sink{&out, write_sink};
  if (host_text.begin == host_text.end) {
    write_sink(&out, home_text.begin, (size_t)(home_text.end - home_text.begin));
  } else {
    ProcFacts facts = facts_of(slot, r);
    facts.call_state = state_of(slot, r, path);
    write_proc_text((ProcFile)r.args[1], host_text, home_text, maps_text, facts, sink);
  }
  flush(out);
  drop(host);
  drop(home);
  drop(maps);
}

long make_text(Slot* slot, const Request& r, int raw_fd) {
  const int fd = (int)r.args[0];
  char name[kTextPathMax];
  if (!text_path(fd, name)) {
    const long out = create_text(fd);
    if (out < 0) {
      return out;
    }
    write_text(slot, r, raw_fd, fd, (int)out);
    const long result = replace_file(fd, (int)out);
    sys(__NR_close, out);
    return result;
  }
  const long home = open_original(name, 0);
  if (home < 0) {
    return 0;  // no longer to be had: the text stays
  }
  const long out = open_to_refresh(fd);
  if (out >= 0) {
    write_text(slot, r, raw_fd, (int)home, (int)out);
    sys(__NR_close, out);
  }
  sys(__NR_close, home);
  return 0;
}

// ---- directories ----

}  // namespace

char thread_state(uint64_t tid) {
  char name[64], text[128];
  proc_self_path(name, "task/", tid, "/stat");
  const long fd = sys(__NR_openat, kAtFdcwd, name, kOCloexec);
  if (fd < 0) {
    return 0;
  }
  long n = sys(__NR_read, fd, text, sizeof(text));
  sys(__NR_close, fd);
  while (n > 0 && text[n - 1] != ')') {
    --n;
  }
  return n > 0 && n + 1 < (long)sizeof(text) ? text[n + 1] : 0;
}

namespace {

// Traced by our agent, as we are: a process of the same job.
uint64_t tracer_of(const char* status_path) {
  char text[1024];
  const long fd = sys(__NR_openat, kAtFdcwd, status_path, kOCloexec);
  if (fd < 0) {
    return 0;
  }
  const long n = sys(__NR_read, fd, text, sizeof(text));
  sys(__NR_close, fd);
  const char key[] = "\nTracerPid:\t";
  constexpr long kKey = sizeof(key) - 1;
  for (long at = 0; at + kKey < n; ++at) {
    long same = 0;
    while (same < kKey && text[at + same] == key[same]) {
      ++same;
    }
    if (same == kKey) {
      uint64_t value = 0;
      for (at += kKey; at < n && text[at] >= '0' && text[at] <= '9'; ++at) {
        value = value * 10 + (uint64_t)(text[at] - '0');
      }
      return value;
    }
  }
  return 0;
}

bool of_our_job(int32_t pid) {
  char name[64] = "/proc/";
  const size_t n = put_decimal(name + 6, (uint64_t)pid);
  const char last[] = "/status";
  memcpy(name + 6 + n, last, sizeof(last));
  const uint64_t tracer = tracer_of("/proc/self/status");
  return tracer != 0 && tracer_of(name) == tracer;
}

bool is_number(const char* name, uint64_t* value) {
  *value = 0;
  for (const char* at = name; *at != 0; ++at) {
    if (*at < '0' || *at > '9') {
      return false;
    }
    *value = *value * 10 + (uint64_t)(*at - '0');
  }
  return *name != 0;
}

}  // namespace

long pid_of_pidfd(int fd) {
  char name[64], text[512];
  proc_self_path(name, "fdinfo/", (uint64_t)fd, "");
  const long info = sys(__NR_openat, kAtFdcwd, name, kOCloexec);
  if (info < 0) {
    return kEbadf;
  }
  const long n = sys(__NR_read, info, text, sizeof(text));
  sys(__NR_close, info);
  for (long at = 0; at + 4 < n; ++at) {
    if (text[at] == 'P' && text[at + 1] == 'i' && text[at + 2] == 'd' && text[at + 3] == ':' &&
        (at == 0 || text[at - 1] == '\n')) {
      long value = 0;
      for (at += 4; at < n && text[at] != '\n'; ++at) {
        if (text[at] == '-') {
          return -3;  // ESRCH
        }
        value = text[at] >= '0' && text[at] <= '9' ? value * 10 + (text[at] - '0') : value;
      }
      return value;
    }
  }
  return kEbadf;
}

void classify_opened(Slot* slot, Call& call) {
  priv(slot).fresh_text = 0;
  if (call.result >= 0 && is_proc((int)call.result) && classify_opened_file(slot, call)) {
    call.flags |= kReplyProc;
  }
}

void take_proc_text(Slot* slot, Call& call) {
  SlotPrivate& p = priv(slot);
  const Request& r = call.request;
  constexpr int kMfdCloexec = 1;
  if ((r.args[2] & kProcTextFirst) != 0) {
    const long fd = sys(__NR_memfd_create, "host", kMfdCloexec);
    // Out of the way of the application's numbers.
    const long aside =
        fd < 0 ? fd : sys(__NR_fcntl, fd, kFDupfdCloexec, control_of(slot).fd_base + kSlotCount);
    p.proc_text_fd = (int32_t)(aside >= 0 ? aside : fd);
    if (aside >= 0 && fd >= 0) {
      sys(__NR_close, fd);
    }
  }
  if (p.proc_text_fd < 0) {
    call.result = p.proc_text_fd;
    return;
  }
  uint64_t done = 0;
  while (done < call.segments[0].in_size) {
    const long n =
        sys(__NR_write, p.proc_text_fd, call.data[0] + done, call.segments[0].in_size - done);
    if (n <= 0) {
      break;
    }
    done += (uint64_t)n;
  }
  call.result = 0;
  if ((r.args[2] & kProcTextLast) != 0) {
    call.result = make_text(slot, r, p.proc_text_fd);
    sys(__NR_close, p.proc_text_fd);
    p.proc_text_fd = -1;
    p.fresh_text = (int32_t)r.args[0] + 1;
  }
}

namespace {

// The application's thread has ended, and may have been joined.
bool is_leaving(Slot* slot, int32_t tid) {
  bool leaving = false;
  for (const int32_t& leaver : control_of(slot).leavers) {
    leaving = leaving || __atomic_load_n(&leaver, __ATOMIC_ACQUIRE) == tid;
  }
  return leaving;
}

}  // namespace

void hide_entries(Slot* slot, Call& call) {
  const Request& r = call.request;
  if (call.result <= 0 || r.segment_count == 0) {
    return;
  }
  uint8_t* const entries = call.data[0];
  const uint32_t name_offset = r.op == __NR_getdents64 ? 19 : 18;
  ProcFile kind = kProcNone;
  bool own = false;
  bool known = false;
  uint64_t leader = 0;  // stays in sight until the others have ended, too
  uint64_t kept = 0;
  for (uint64_t at = 0; at < (uint64_t)call.result;) {
    uint16_t length = 0;
    memcpy(&length, entries + at + 16, 2);
    const char* name = (const char*)entries + at + name_offset;
    uint64_t value = 0;
    bool hide = false;
    if (is_number(name, &value)) {
      if (!known) {
        known = true;
        const int fd = (int)r.args[0];
        const ProcPath path = is_proc(fd) ? path_of(fd) : ProcPath{};
        own = path.pid != 0 && path.pid == own_number();
        leader = (uint64_t)path.pid;
        kind = own || (path.file == kProcFdDir && of_our_job(path.pid)) ? path.file : kProcNone;
      }
      if (kind == kProcFdDir) {
        hide = own ? is_ours(slot, (int32_t)value) : (int32_t)value >= control_of(slot).fd_base;
      } else if (kind == kProcTaskDir && value != leader) {
        const char state = thread_state(value);
        hide = state == 0 || state == 'Z' || state == 'X' || is_leaving(slot, (int32_t)value);
      }
    }
    if (!hide) {
      memmove(entries + kept, entries + at, length);
      kept += length;
    }
    at += length;
  }
  if (kept == 0 && call.result > 0) {
    call.result = sys(r.op, r.args[0], entries, call.segments[0].out_size);  // all hidden: the next
    hide_entries(slot, call);
    return;
  }
  call.result = (int64_t)kept;
}

}  // namespace tess::stub
