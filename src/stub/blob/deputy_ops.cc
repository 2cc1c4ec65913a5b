// Operations of the stub's own that are about signals, threads and limits.
#include "stub/blob/deputy_call.h"

namespace tess::stub {

void set_action(Slot* slot, Call& call) {
  // NOCLDSTOP to SIGINFO, EXPOSE_TAGBITS, RESTORER, ONSTACK, RESTART, NODEFER, RESETHAND: the
  // kernel clears all others, which tells a program what it can ask for.
  constexpr uint64_t kFlagsKnown = 0xdc00'0807;
  SlotPrivate& p = priv(slot);
  const int signal = (int)call.request.args[0];
  const bool sets = call.request.args[1] != 0;
  if (signal < 1 || signal > 64 || (sets && (signal == 9 || signal == 19))) {
    call.result = kEinval;
    return;
  }
  uint64_t old_mask = 0;
  block_all_signals(&old_mask);  // our handler reads the table
  {
    const ActionsGuard guard(slot);
    const SignalAction before = p.actions[signal];
    call.result = 0;
    if (sets) {
      SignalAction action;
      memcpy(&action, call.data[0], sizeof(action));
      action.mask &= ~((uint64_t{1} << 8) | (uint64_t{1} << 18));
      action.flags &= kFlagsKnown;
      call.result = set_deputy_handler(signal, action);
      if (call.result == 0) {
        p.actions[signal] = action;
      }
    }
    memcpy(call.data[0], &before, sizeof(before));
  }
  set_signal_mask(old_mask);
}

// A record that waits for the body was taken inside the handler that now ends: it returns to that
// handler's mask. Delivered after the end it would leave that mask behind for good.
int64_t leave_handler(Slot* slot, uint64_t mask) {
  uint64_t now = 0;
  block_all_signals(&now);
  const bool first = slot->signal_count != 0;
  set_signal_mask(first ? now : mask);
  return first ? kRestart : 0;
}

namespace {

int32_t socket_option(int fd, int option) {
  constexpr int kSolSocket = 1;
  int32_t value = -1, size = sizeof(value);
  return sys(__NR_getsockopt, fd, kSolSocket, option, &value, &size) == 0 ? value : -1;
}

// A Unix socket takes what its buffer has room for, and at most one piece more.
int64_t unix_room(int fd) {
  constexpr int kSoSndbuf = 7, kSiocoutq = 0x5411;
  constexpr int64_t kPieceMax = 64 << 10;
  int32_t queued = 0;
  sys(__NR_ioctl, fd, kSiocoutq, &queued);
  const int64_t room = socket_option(fd, kSoSndbuf) - queued;
  return (room > 0 ? room : 0) + kPieceMax;
}

int64_t socket_room(int fd) {
  constexpr int kSoType = 3, kSoProtocol = 38, kSoDomain = 39;
  constexpr int kStream = 1, kUnix = 1, kTcp = 6, kMptcp = 262;
  constexpr int64_t kTcpPart = 96 << 10;  // fits the slot's arena
  if (socket_option(fd, kSoType) != kStream) {
    return 0;
  }
  if (socket_option(fd, kSoDomain) == kUnix) {
    return unix_room(fd);
  }
  const int32_t protocol = socket_option(fd, kSoProtocol);
  return protocol == kTcp || protocol == kMptcp ? kTcpPart : 0;
}

}  // namespace

// Only where the kernel takes a part of what is written, and it makes no difference in how many
// calls it is given: streams, that is, which do not wait.
int64_t write_room(int fd, uint64_t message_flags) {
  constexpr int kGetfl = 3, kGetpipeSize = 1032;
  constexpr long kNonblock = 04000, kDirect = 040000;
  constexpr uint64_t kMsgDontwait = 0x40, kMsgNosignal = 0x4000, kMsgMore = 0x8000;
  constexpr uint32_t kTypeMask = 0170000, kSocket = 0140000, kFifo = 0010000;
  const long mode = sys(__NR_fcntl, fd, kGetfl);
  KernelStat stat;
  if (mode < 0 || sys(__NR_fstat, fd, &stat) != 0 ||
      ((mode & kNonblock) == 0 && (message_flags & kMsgDontwait) == 0)) {
    return 0;
  }
  if ((stat.mode & kTypeMask) == kFifo && (mode & kDirect) == 0) {
    return sys(__NR_fcntl, fd, kGetpipeSize);
  }
  const bool plain = (message_flags & ~(kMsgDontwait | kMsgNosignal | kMsgMore)) == 0;
  return (stat.mode & kTypeMask) == kSocket && plain ? socket_room(fd) : 0;
}

// As the kernel's force_sig_info: a fault that is blocked or ignored kills.
void raise_fault(Slot* slot, Call& call) {
  SlotPrivate& p = priv(slot);
  int32_t signal = 0;
  memcpy(&signal, call.data[0], 4);
  if (signal < 1 || signal > 64) {
    call.result = kEinval;
    return;
  }
  uint64_t mask = 0;
  block_all_signals(&mask);
  const bool forced = call.request.args[0] != 0;
  if (forced && slot->signal_count != 0) {
    // The mask is that of handlers which have not run yet: they come first, then the fault again.
    set_signal_mask(mask);
    call.result = kRestart;
    return;
  }
  const uint64_t bit = uint64_t{1} << (signal - 1);
  if (forced) {
    const ActionsGuard guard(slot);
    if (p.actions[signal].handler <= 1 || (mask & bit) != 0) {
      p.actions[signal] = {0, 0, 0, 0};
      set_deputy_handler(signal, p.actions[signal]);
      mask &= ~bit;
    }
  }
  const int pid = (int)sys(__NR_getpid);
  const int tid = (int)sys(__NR_gettid);
  call.result = sys(__NR_rt_tgsigqueueinfo, pid, tid, signal, call.data[0]);
  set_signal_mask(mask);
}

// Bytes that the process may lock: without a bound if privileged. With a size given: -ENOMEM if the
// whole process does not fit.
int64_t may_lock(uint64_t limit) {
  constexpr int kRlimitMemlock = 8, kCapIpcLock = 14, kAtFdcwd = -100;
  struct {
    uint32_t version;
    int32_t pid;
  } header{0x20080522, 0};
  uint32_t sets[6] = {};
  if (sys(__NR_capget, &header, sets) == 0 && (sets[0] >> kCapIpcLock & 1) != 0) {
    return -1;
  }
  if (limit != 0) {
    char text[64];
    uint64_t pages = 0;
    const long fd = sys(__NR_openat, kAtFdcwd, "/proc/self/statm", 02000000);
    const long n = fd >= 0 ? sys(__NR_read, fd, text, sizeof(text)) : 0;
    sys(__NR_close, fd);
    for (long i = 0; i < n && text[i] >= '0' && text[i] <= '9'; ++i) {
      pages = pages * 10 + (uint64_t)(text[i] - '0');
    }
    return pages * 4096 > limit + kRegionSize ? kEnomem : 0;
  }
  uint64_t bound[2] = {};
  sys(__NR_prlimit64, 0, kRlimitMemlock, 0, bound);
  return (int64_t)bound[0];
}

// The deputy has the arguments where the body has them; what ps at home shows is read from there.
void take_title(const Call& call) {
  const uint64_t size = call.request.args[1];
  if (call.request.segment_count != 0 && size <= call.segments[0].in_size) {
    copy_to_app(call.request.args[0], call.data[0], size);
  }
}

int64_t ask_for_word(Slot* slot, const MailboxNote& question) {
  ChannelAnswer answer;
  int32_t fd = -1;
  uint32_t count = 0;
  const long asked = ask_agent(slot, question, &answer, &fd, 0, &count);
  return asked < 0 ? asked : answer.result;
}

// Whether another process of the job has its memory on a host: its deputy's is not the truth then.
int64_t ask_away(Slot* slot, int64_t pid) {
  MailboxNote question{};
  question.kind = Note::kIsAway;
  question.result = pid;
  return ask_for_word(slot, question);
}

int64_t go_home(Slot* slot, uint32_t number, int64_t pid) {
  MailboxNote question{};
  question.kind = Note::kGoHome;
  question.value = number;
  question.result = pid;
  return ask_for_word(slot, question);
}

// For those who may look at it only, which is what a read of nothing that is mapped finds out.
int64_t is_away(Slot* slot, int64_t pid) {
  uint8_t byte;
  const uint64_t local[2] = {(uint64_t)&byte, 1};
  const uint64_t unmapped[2] = {1, 1};
  const long looked = sys(__NR_process_vm_readv, pid, local, 1, unmapped, 1, 0);
  return looked < 0 && looked != kEfault ? looked : ask_away(slot, pid);
}

// A thread of ours that has ended stays visible until the agent has reaped it.
bool is_ended_thread(const Slot* slot, const Request& r) {
  const uint64_t tid = r.op == __NR_tkill ? r.args[0] : r.args[1];
  if (r.op != __NR_tkill && (int32_t)r.args[0] != control_of(slot).pid) {
    return false;
  }
  if ((int32_t)tid == slot->thread.tid) {
    return false;
  }
  const char state = thread_state(tid);
  return state == 'Z' || state == 'X';
}

}  // namespace tess::stub
