// A carried call as the kernel makes it: with what is left of its timeout, with its temporary
// signal mask known to our handlers, and repeated when it was interrupted for nothing.
#include "stub/blob/deputy_call.h"
#include "stub/marshal.h"
#include "stub/repeat.h"
#include "stub/transfer.h"
#include "syscalls/kinds.h"

namespace tess::stub {
namespace {

// ---- relative timeouts ----
uint8_t* timeout_data(Call& call, uint8_t arg) {
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    if (call.segments[i].arg == arg && call.segments[i].in_size >= 16) {
      return call.data[i];
    }
  }
  return nullptr;
}

// Notes when the call's relative timeout ends, and shortens that of a repeated call to what is
// left.
void prepare_timeout(Call& call, const syscalls::SyscallInfo& info) {
  call.deadline_ns = 0;
  if (info.timeout == syscalls::Timeout::kNone) {
    return;
  }
  const int64_t now = monotonic_ns();
  const bool repeat = (call.request.flags & kRequestRepeat) != 0 && call.request.deadline_ns != 0;
  const int64_t left = repeat ? (int64_t)call.request.deadline_ns - now : 0;
  const int64_t rest = left > 0 ? left : 0;
  if (info.timeout == syscalls::Timeout::kMilliseconds) {
    uint64_t& value = call.request.args[info.timeout_arg];
    if ((int32_t)value < 0) {
      return;
    }
    if (repeat) {
      value = (uint64_t)((rest + 999'999) / 1'000'000);
    }
    call.deadline_ns = now + (int64_t)(int32_t)value * 1'000'000;
    return;
  }
  uint8_t* data = timeout_data(call, info.timeout_arg);
  if (data == nullptr) {
    return;
  }
  const int64_t unit_ns = info.timeout == syscalls::Timeout::kTimeval ? 1000 : 1;
  int64_t value[2];
  memcpy(value, data, 16);
  if (value[0] < 0 || value[0] > 4'000'000'000 || value[1] < 0 ||
      value[1] * unit_ns > 999'999'999) {
    return;
  }
  if (repeat) {
    value[0] = rest / 1'000'000'000;
    value[1] = rest % 1'000'000'000 / unit_ns;
    memcpy(data, value, 16);
  }
  call.deadline_ns = now + value[0] * 1'000'000'000 + value[1] * unit_ns;
}

void prepare_temporary_mask(SlotPrivate& p, const Call& call) {
  const Request& r = call.request;
  uint64_t from = 0;
  switch (r.op) {
    case __NR_rt_sigsuspend:
      from = r.args[0];
      break;
    case __NR_ppoll:
      from = r.args[3];
      break;
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
      from = r.args[4];
      break;
    case __NR_pselect6: {
      const uint64_t pair = r.args[5];
      if (pair != 0 && pair < kRegionHighest + kRegionSize) {
        memcpy(&from, (const void*)pair, 8);
      }
      break;
    }
    default:
      break;
  }
  const bool ours = from >= (uint64_t)call.arena && call.request.segment_count != 0;
  p.has_temporary_mask = 0;
  if (ours &&
      from < (uint64_t)call.arena + (call.arena_size != 0 ? call.arena_size : kSlotArenaSize)) {
    memcpy(&p.temporary_mask, (const void*)from, 8);
    p.has_temporary_mask = 1;
  }
}

inline constexpr int kSolSocket = 1, kSoRcvtimeo = 20, kSoSndtimeo = 21;

// Which of a socket's own timeouts (socket(7)) bounds the call; 0: none does.
int socket_option_of(uint64_t op) {
  switch (op) {
    case __NR_read:
    case __NR_readv:
    case __NR_recvfrom:
    case __NR_recvmsg:
    case __NR_recvmmsg:
    case __NR_accept:
    case __NR_accept4:
      return kSoRcvtimeo;
    case __NR_write:
    case __NR_writev:
    case __NR_sendto:
    case __NR_sendmsg:
    case __NR_sendmmsg:
    case __NR_connect:
      return kSoSndtimeo;
    default:
      return 0;
  }
}

// Of the socket that the call waits on, in ns; 0: none.
int64_t socket_timeout(const Request& r) {
  const int option = socket_option_of(r.op);
  int64_t timeout[2] = {0, 0};
  uint32_t size = sizeof(timeout);
  if (option == 0 || sys(__NR_getsockopt, r.args[0], kSolSocket, option, timeout, &size) != 0) {
    return 0;
  }
  return timeout[0] * 1'000'000'000 + timeout[1] * 1'000;
}

// A socket's timeout begins with each call. From the first that is seen on, the deputy looks at the
// clock before calls that one may bound.
int64_t start_of_wait(Slot* slot, const Request& r) {
  ControlBlock& control = control_of(slot);
  if (r.op == __NR_setsockopt) {
    constexpr int kSoRcvtimeoNew = 66, kSoSndtimeoNew = 67;
    const uint64_t option = r.args[2];
    if (r.args[1] == kSolSocket && (option == kSoRcvtimeo || option == kSoSndtimeo ||
                                    option == kSoRcvtimeoNew || option == kSoSndtimeoNew)) {
      control.timed_sockets = 1;
    }
    return 0;
  }
  return control.timed_sockets != 0 && socket_option_of(r.op) != 0 ? monotonic_ns() : 0;
}

// The call has been cut short: if its socket bounds it, a handler ends it, and this is when it ends
// by itself.
void note_socket_timeout(Slot* slot, Call& call, int64_t started) {
  const int64_t length = socket_timeout(call.request);
  if (length <= 0) {
    return;
  }
  control_of(slot).timed_sockets = 1;
  call.flags |= kReplyTimed;
  const bool repeat = (call.request.flags & kRequestRepeat) != 0 && call.request.deadline_ns != 0;
  if (call.deadline_ns == 0) {  // else recvmmsg's own
    call.deadline_ns = repeat ? (int64_t)call.request.deadline_ns
                              : (started != 0 ? started : monotonic_ns()) + length;
  }
}

// A wait on a socket that a move has cut short ends at its own time, not a whole timeout later:
// only what is ready by then is asked for. The result of the wait; positive: the call is to be
// made.
long wait_for_socket(Slot* slot, const Call& call) {
  constexpr uint16_t kPollin = 1, kPollout = 4;
  const Request& r = call.request;
  const int option = socket_option_of(r.op);
  if ((r.flags & kRequestRepeat) == 0 || r.deadline_ns == 0 || option == 0 ||
      r.op == __NR_connect || call.deadline_ns != 0) {
    return 1;
  }
  const int64_t until_end = (int64_t)r.deadline_ns - monotonic_ns();
  const int64_t left = until_end > 0 ? until_end : 0;
  const Timespec timeout = timespec_of(left);
  const struct {
    int32_t fd;
    uint16_t events;
    uint16_t ready;
  } poll{(int32_t)r.args[0], option == kSoRcvtimeo ? kPollin : kPollout, 0};
  const uint64_t args[7] = {(uint64_t)&poll, 1, (uint64_t)&timeout, 0, 0, 0, ~uint64_t{0}};
  const long ready = tess_cp_syscall(&slot->pending, __NR_ppoll, args);
  return ready == 0 ? kEagain : ready;
}

// Calls that answer EINTR when their thread is merely stopped and continued, or traced while an
// ignored signal comes (signal(7), ptrace(2)): without a handler that ran the application would not
// have seen it. Repeating them is safe.
bool interrupted_for_nothing(uint32_t op) {
  switch (op) {
    case __NR_epoll_wait:
    case __NR_epoll_pwait:
    case __NR_epoll_pwait2:
    case __NR_semop:
    case __NR_semtimedop:
    case __NR_rt_sigtimedwait:
    case __NR_read:
    case __NR_recvfrom:
    case __NR_recvmsg:
    case __NR_accept:
    case __NR_accept4:
      return true;
    default:
      return false;
  }
}

uint64_t vector_size(uint64_t address, uint64_t count) {
  const auto* pieces = (const Piece*)address;
  uint64_t total = 0;
  for (uint64_t i = 0; i < count; ++i) {
    total += pieces[i].size;
  }
  return total;
}

// As home's transferred_when_cut. The arguments are our own copies by now.
bool is_cut_short(const Request& r, int64_t result) {
  constexpr int kSoType = 3, kGetfl = 3, kStream = 1;
  constexpr uint32_t kTypeMask = 0170000, kSocket = 0140000;
  const Transfer transfer = transfer_of(r.op, r.args);
  if (transfer == Transfer::kNone) {
    return false;
  }
  const auto* header = (const MessageHeader*)r.args[1];
  if (transfer == Transfer::kMessage && header->control_length != 0) {
    return false;
  }
  const uint64_t wanted = transfer == Transfer::kMessage
                              ? vector_size(header->iovec, header->iovec_count)
                          : transfer == Transfer::kVector ? vector_size(r.args[1], r.args[2])
                                                          : r.args[2];
  const long file_flags = sys(__NR_fcntl, r.args[0], kGetfl);
  KernelStat stat;
  if ((uint64_t)result >= wanted || file_flags < 0 || sys(__NR_fstat, r.args[0], &stat) != 0 ||
      !waits_for_room(stat.mode, stat.rdev, (uint64_t)file_flags)) {
    return false;
  }
  int32_t type = kStream;
  uint32_t size = sizeof(type);
  if ((stat.mode & kTypeMask) == kSocket) {
    sys(__NR_getsockopt, r.args[0], kSolSocket, kSoType, &type, &size);
  }
  return type == kStream && socket_timeout(r) == 0;
}

// A socket raises no SIGPIPE for a send of which it has taken a part.
void go_on_writing(Call& call) {
  constexpr uint64_t kMsgDontwait = 0x40, kMsgNosignal = 0x4000;
  uint64_t* a = call.request.args;
  if (call.request.op == __NR_sendto || call.request.op == __NR_sendmsg) {
    a[call.request.op == __NR_sendto ? 3 : 2] |= kMsgDontwait | kMsgNosignal;
  }
  call.result = sys(call.request.op, a[0], a[1], a[2], a[3], a[4], a[5]);
}

}  // namespace

void run_kernel_call(Slot* slot, Call& call) {
  if ((call.request.flags & kRequestGoOn) != 0) {
    go_on_writing(call);
    return;
  }
  SlotPrivate& p = priv(slot);
  const syscalls::SyscallInfo* info = syscalls::syscall_info(call.request.op);
  while (true) {
    if (info != nullptr) {
      prepare_timeout(call, *info);
    }
    prepare_temporary_mask(p, call);
    const int64_t started = start_of_wait(slot, call.request);
    call.result = wait_for_socket(slot, call);
    if (call.result > 0) {
      uint64_t args[7];
      memcpy(args, call.request.args, sizeof(call.request.args));
      args[6] = ~uint64_t{0};
      call.result = tess_cp_syscall(&slot->pending, call.request.op, args);
    }
    p.has_temporary_mask = 0;
    if (call.result > 0 && slot->pending != 0 && is_cut_short(call.request, call.result)) {
      call.flags |= kReplyCut;
    }
    const bool no_signal = call.result == kEintr && slot->signal_count == 0;
    const bool cut_short = call.result == kCutShort || (no_signal && slot->pending != 0);
    if (call.result == kAborted || cut_short) {
      // A wait that is both kicked and interrupted has begun.
      const bool begun =
          cut_short || (slot->pending != 0 && handler_ends((int64_t)call.request.op));
      call.result = slot->signal_count != 0 && !begun ? kRestart : kKicked;
      if (begun || (call.request.flags & kRequestRepeat) != 0) {
        call.flags |= kReplyBegun;
        note_socket_timeout(slot, call, started);
      }
      return;
    }
    if (!no_signal || !interrupted_for_nothing(call.request.op)) {
      return;
    }
    if (call.deadline_ns != 0) {
      call.request.flags |= kRequestRepeat;
      call.request.deadline_ns = (uint64_t)call.deadline_ns;
    }
  }
}

}  // namespace tess::stub
