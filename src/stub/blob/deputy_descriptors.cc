// Descriptors of ours that the application must not see, close, or be kept from using. They stand
// at control.fd_base and above, beyond its limit where there is room, but the application may raise
// that: each of them is where there was a free number.
#include "stub/blob/deputy_call.h"

namespace tess::stub {
namespace {

inline constexpr int kFDupfd = 0, kFGetfd = 1, kFDupfdCloexec = 1030;
inline constexpr uint64_t kRlimitNofile = 7;

uint64_t soft_limit() {
  uint64_t limit[2] = {0, 0};
  sys(__NR_prlimit64, 0, kRlimitNofile, 0, limit);
  return limit[0];
}

// The number that a new descriptor would get, or -errno.
long next_number(const Slot* slot) {
  const long next = sys(__NR_fcntl, control_of(slot).fd_base, kFDupfdCloexec, 0);
  if (next >= 0) {
    sys(__NR_close, next);
  }
  return next;
}

// A child of vfork has a table of its own, but shares the slots of its parent, in whose bitmap it
// is not.
template <typename Visit>
void for_each_of_ours(const Slot* slot, Visit visit) {
  const ControlBlock& control = control_of(slot);
  const int32_t pid = priv(const_cast<Slot*>(slot)).pid;
  const auto visit_slot = [&](Slot* of) {
    visit(of->channel_fd);
    visit(priv(of).proc_text_fd);
  };
  visit(control.fd_base);
  visit_slot(const_cast<Slot*>(slot));
  for_each_slot(control, [&](uint32_t index) {
    Slot* const other = slot_at(slot, index);
    if (other != slot && priv(other).pid == pid) {
      visit_slot(other);
    }
  });
}

// The lowest of ours from `from` on; beyond all numbers if there is none.
uint64_t next_of_ours(const Slot* slot, uint64_t from) {
  const ControlBlock& control = control_of(slot);
  const auto base = (uint64_t)control.fd_base;
  if (from >= base && from < (uint64_t)control.shared_fds_end) {
    return from;
  }
  uint64_t lowest = ~uint64_t{0};
  for_each_of_ours(slot, [&](int32_t fd) {
    if (fd >= control.fd_base && (uint64_t)fd >= from && (uint64_t)fd < lowest) {
      lowest = (uint64_t)fd;
    }
  });
  return lowest;
}

// The parts between ours. `flags` may have CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC; they are
// judged on a range that holds nothing.
long close_range_around(const Slot* slot, uint32_t first, uint32_t last, uint64_t flags) {
  constexpr uint32_t kHighest = ~uint32_t{0};
  if (first > last) {
    return kEinval;
  }
  long result = sys(__NR_close_range, kHighest, kHighest, flags);
  for (uint64_t from = first; result == 0 && from <= last;) {
    const uint64_t ours = next_of_ours(slot, from);
    const uint64_t end = ours <= last ? ours : uint64_t{last} + 1;
    if (end > from) {
      result = sys(__NR_close_range, from, end - 1, flags);
    }
    from = end + 1;
  }
  return result;
}

// The number that the call asks for its new descriptor, or the lowest that it may get; -1: it asks
// for none.
int64_t wanted_number(const Request& r) {
  const auto command = (int)r.args[1];
  switch (r.op) {
    case __NR_dup2:
    case __NR_dup3:
      return (uint32_t)r.args[0] == (uint32_t)r.args[1] ? -1 : (int64_t)(uint32_t)r.args[1];
    case __NR_fcntl:
      return command == kFDupfd || command == kFDupfdCloexec ? (int64_t)(uint32_t)r.args[2] : -1;
    default:
      return -1;
  }
}

// How many descriptors the call makes at the lowest free numbers.
uint32_t makes_descriptors(uint32_t op) {
  switch (op) {
    case __NR_pipe:
    case __NR_pipe2:
    case __NR_socketpair:
      return 2;
    case __NR_open:
    case __NR_openat:
    case __NR_openat2:
    case __NR_creat:
    case __NR_dup:
    case __NR_socket:
    case __NR_accept:
    case __NR_accept4:
    case __NR_eventfd:
    case __NR_eventfd2:
    case __NR_epoll_create:
    case __NR_epoll_create1:
    case __NR_timerfd_create:
    case __NR_signalfd:
    case __NR_signalfd4:
    case __NR_memfd_create:
    case __NR_inotify_init:
    case __NR_inotify_init1:
    case __NR_pidfd_open:
      return 1;
    default:
      return 0;
  }
}

// Would a new descriptor get a number behind ours?
bool next_is_behind_ours(const Slot* slot, uint32_t count) {
  const ControlBlock& control = control_of(slot);
  const int32_t last = control.fd_base - (int32_t)count;
  if (sys(__NR_fcntl, last, kFGetfd) < 0 || soft_limit() <= (uint64_t)control.fd_base) {
    return false;
  }
  return next_number(slot) > last;
}

// A hard limit that leaves no room beside ours: there would be no way to another host any more, nor
// to a new thread.
bool shuts_ours_out(const Slot* slot, const Call& call) {
  constexpr uint64_t kRoom = 64;
  const Request& r = call.request;
  const bool set_only = r.op == __NR_setrlimit;
  if ((!set_only && r.op != __NR_prlimit64) || r.args[set_only ? 0 : 1] != kRlimitNofile ||
      priv(const_cast<Slot*>(slot)).vfork_child != 0 ||
      (!set_only && r.args[0] != 0 && (int32_t)r.args[0] != control_of(slot).pid)) {
    return false;
  }
  uint64_t limit[2] = {0, ~uint64_t{0}};
  for (uint32_t i = 0; i < r.segment_count; ++i) {
    if (call.segments[i].arg == (set_only ? 1 : 2) && call.segments[i].in_size >= sizeof(limit)) {
      memcpy(limit, call.data[i], sizeof(limit));
    }
  }
  int32_t highest = 0;
  for_each_of_ours(slot, [&](int32_t fd) { highest = fd > highest ? fd : highest; });
  return limit[0] <= limit[1] && limit[1] < (uint64_t)highest + kRoom;
}

// Is ours what the call stumbles over? At home, where nothing of ours is, it does not.
bool stumbles(const Slot* slot, const Call& call) {
  const Request& r = call.request;
  const int64_t wanted = wanted_number(r);
  if (wanted >= 0) {
    return is_ours(slot, (int32_t)wanted) && (uint64_t)wanted < soft_limit() &&
           sys(__NR_fcntl, r.args[0], kFGetfd) >= 0;
  }
  const uint32_t count = makes_descriptors(r.op);
  if (count == 0) {
    return shuts_ours_out(slot, call);
  }
  return priv(const_cast<Slot*>(slot)).vfork_child == 0 && next_is_behind_ours(slot, count);
}

}  // namespace

bool is_ours(const Slot* slot, int32_t fd) {
  return fd >= control_of(slot).fd_base && next_of_ours(slot, (uint64_t)fd) == (uint64_t)fd;
}

bool guard_descriptors(Slot* slot, Call& call) {
  const Request& r = call.request;
  if (r.op == __NR_close_range) {
    call.result = close_range_around(slot, (uint32_t)r.args[0], (uint32_t)r.args[1], r.args[2]);
    return false;
  }
  if (stumbles(slot, call)) {
    call.result = kEbadf;
    call.flags |= kReplyHome;
    return false;
  }
  for (uint32_t i = 0; i < 6; ++i) {
    if ((r.fd_mask & (1u << i)) != 0 && is_ours(slot, (int32_t)r.args[i])) {
      call.result = kEbadf;
      return false;
    }
  }
  return true;
}

// Among numbers that the application may use, ours take room from it.
void note_crowding(Slot* slot, Call& call) {
  if (call.result == kNoDescriptor && soft_limit() > (uint64_t)control_of(slot).fd_base &&
      next_number(slot) == kNoDescriptor) {
    call.flags |= kReplyHome;
  }
}

// Who raises the limit holds slots_lock (deputy_clone). A child of vfork has a limit of its own,
// and its exec would keep the lock.
void run_under_own_limit(Slot* slot, Call& call) {
  const Request& r = call.request;
  const bool names_it = r.op == __NR_prlimit64 ? r.args[1] == kRlimitNofile
                        : r.op == __NR_getrlimit || r.op == __NR_setrlimit
                            ? r.args[0] == kRlimitNofile
                            : true;
  if (!names_it || priv(slot).vfork_child != 0) {
    run_kernel_call(slot, call);
    return;
  }
  uint32_t* const word = &control_of(slot).slots_lock;
  lock(word);
  run_kernel_call(slot, call);
  unlock(word);
}

}  // namespace tess::stub
