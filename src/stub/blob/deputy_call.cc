#include "stub/blob/deputy_call.h"

#include "stub/blob/deputy_proc.h"
#include "stub/blob/deputy_shared.h"
#include "syscalls/kinds.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kArenaLimit = uint64_t{300} << 20;
inline constexpr int kProtRw = 3, kMapPrivateAnonNoreserve = 0x4022;

constexpr uint64_t padded(uint64_t n) {
  return (n + 7) & ~uint64_t{7};
}

bool skip(Slot* slot, uint64_t n) {
  uint8_t dropped[256];
  while (n > 0) {
    const uint64_t part = n < sizeof(dropped) ? n : sizeof(dropped);
    if (!receive_bytes(slot, dropped, part)) {
      return false;
    }
    n -= part;
  }
  return true;
}

bool receive_call(Slot* slot, Call& call) {
  if (!receive_bytes(slot, &call.request, sizeof(Request)) ||
      call.request.segment_count > Call::kSegments || call.request.fixup_count > Call::kFixups ||
      !receive_bytes(slot, call.segments, call.request.segment_count * sizeof(Segment)) ||
      !receive_bytes(slot, call.fixups, call.request.fixup_count * sizeof(Fixup))) {
    return false;
  }
  uint64_t total = 0;
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    const Segment& s = call.segments[i];
    total += padded(s.in_size > s.out_size ? s.in_size : s.out_size) + 8;
  }
  if (total > kArenaLimit) {
    return false;
  }
  call.arena = (uint8_t*)slot + kSlotArenaOffset;
  call.arena_size = 0;
  if (total > kSlotArenaSize) {
    const long address =
        sys(__NR_mmap, beside_region(slot), total, kProtRw, kMapPrivateAnonNoreserve, -1, 0);
    if (address < 0 && address > -4096) {
      return false;
    }
    call.arena = (uint8_t*)address;
    call.arena_size = total;
  }
  uint8_t* at = call.arena;
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    const Segment& s = call.segments[i];
    call.data[i] = at;
    if (s.in_size != 0 &&
        (!receive_bytes(slot, at, s.in_size) || !skip(slot, padded(s.in_size) - s.in_size))) {
      return false;
    }
    at += padded(s.in_size > s.out_size ? s.in_size : s.out_size) + 8;
  }
  return true;
}

bool apply_strings(Call& call, const Fixup& f) {
  const uint8_t* at = call.data[f.target] + f.target_offset;
  const uint8_t* end = call.data[f.target] + call.segments[f.target].in_size;
  for (uint32_t to = f.offset; to + 8 <= call.segments[f.holder].in_size && at < end; to += 8) {
    const uint64_t address = (uint64_t)at;
    memcpy(call.data[f.holder] + to, &address, 8);
    while (at < end && *at != 0) {
      ++at;
    }
    ++at;
  }
  return true;
}

bool apply_pointers(Call& call) {
  const uint32_t count = call.request.segment_count;
  for (uint32_t i = 0; i < call.request.fixup_count; ++i) {
    const Fixup& f = call.fixups[i];
    if (f.holder >= count || f.target >= count) {
      return false;
    }
    const Segment& holder = call.segments[f.holder];
    const uint32_t capacity = holder.in_size > holder.out_size ? holder.in_size : holder.out_size;
    if (f.kind == kFixupStrings) {
      apply_strings(call, f);
      continue;
    }
    if (f.offset + 8 > capacity) {
      return false;
    }
    const uint64_t address = (uint64_t)call.data[f.target] + f.target_offset;
    memcpy(call.data[f.holder] + f.offset, &address, 8);
  }
  for (uint32_t i = 0; i < count; ++i) {
    if (call.segments[i].arg < 6) {
      call.request.args[call.segments[i].arg] = (uint64_t)call.data[i];
    }
  }
  return true;
}

// ---- operations that are not plain calls ----
long read_file(int fd, uint8_t* to, uint64_t offset, uint64_t size) {
  uint64_t done = 0;
  while (done < size) {
    const long n = sys(__NR_pread64, fd, to + done, size - done, offset + done);
    if (n == kEintr) {
      continue;
    }
    if (n <= 0) {
      return done != 0 ? (long)done : n;
    }
    done += (uint64_t)n;
  }
  return (long)done;
}

// The mapping is made here too, at the address that the body has chosen: maps, fork and a return
// home need it.
void map_file(Call& call) {
  constexpr uint64_t kMapFixed = 0x10, kMapFixedNoreplace = 0x100000;
  const uint64_t* a = call.request.args;
  KernelStat stat;
  long result = sys(__NR_fstat, a[4], &stat);
  if (result < 0) {
    call.result = result;
    return;
  }
  if (file_system_of((int)a[4]) == kHugetlbMagic) {
    call.result = kHomesPool;
    return;
  }
  result = sys(__NR_mmap, a[0], a[1], a[2], (a[3] & ~kMapFixedNoreplace) | kMapFixed, a[4], a[5]);
  if (result < 0 && result > -4096) {
    call.result = result;
    return;
  }
  const FileIdentity identity = identity_of(stat);
  memcpy(call.data[0], &identity, sizeof(identity));
  const long n = call.segments[1].out_size != 0
                     ? read_file((int)a[4], call.data[1], a[5], call.segments[1].out_size)
                     : 0;
  call.result = n < 0 ? 0 : n;
}

// Segments that an operation of ours reads or writes without a pointer argument.
uint32_t segments_needed(uint32_t op) {
  switch (op) {
    case kOpFault:
    case kOpProcText:
    case kOpReadFile:
    case kOpMapShared:
    case __NR_rt_sigaction:
      return 1;
    case kOpMapFile:
      return 2;
    default:
      return 0;
  }
}

void execute(Slot* slot, Call& call) {
  Request& r = call.request;
  if (r.segment_count < segments_needed(r.op)) {
    call.result = kEinval;
    return;
  }
  if (!keeps_text_fresh(r.op)) {
    priv(slot).fresh_text = 0;
  }
  switch (r.op) {
    case kOpPollSignals:
      call.result = 0;
      return;
    case kOpClone: {
      int32_t pidfd = -1;
      call.result = deputy_clone(slot, r.args, &pidfd);
      if (r.segment_count != 0) {
        memcpy(call.data[0], &pidfd, 4);
      }
      return;
    }
    case kOpFault:
      raise_fault(slot, call);
      return;
    case kOpRest:
      priv(slot).at_rest = 1;
      call.result = 0;
      return;
    case kOpSetMask:
      call.result = leave_handler(slot, r.args[1]);
      return;
    case kOpProcText:
      take_proc_text(slot, call);
      return;
    case kOpMapFile:
      map_file(call);
      return;
    case kOpReadFile:
      call.result = read_file((int)r.args[0], call.data[0], r.args[1], r.args[2]);
      return;
    case kOpMapShared: {
      uint32_t read_only = 0;
      call.result = map_shared(r.args, &read_only);
      memcpy(call.data[0], &read_only, sizeof(read_only));
      return;
    }
    case kOpSyncShared:
      sync_shared(slot);
      sys(__NR_msync, r.args[0], r.args[1], r.args[2]);  // its verdict was the body's kernel's
      call.result = 0;
      return;
    case __NR_rt_sigaction:
      set_action(slot, call);
      return;
    case kOpMayLock:
      call.result = may_lock(r.args[0]);
      return;
    case kOpGoHome:
      call.result = go_home(slot, (uint32_t)r.args[0], (int64_t)r.args[1]);
      return;
    case kOpIsAway:
      call.result = is_away(slot, (int64_t)r.args[0]);
      return;
    case kOpWriteRoom:
      call.result = write_room((int)r.args[0], r.args[1]);
      return;
    case kOpPidOf:
      call.result = pid_of_pidfd((int)r.args[0]);
      return;
    case __NR_exit:
      if (slot->pending != 0) {
        call.result = kKicked;
        return;
      }
      if (slot->signal_count != 0) {
        call.result = kRestart;  // a thread that is here no more would take them with it
        return;
      }
      if (control_of(slot).in_use == 1) {
        tell_ending(slot, (int64_t)r.args[1], (int64_t)r.args[2], r.args[3]);
      }
      leave_process(slot, (int)r.args[0]);
    case __NR_exit_group:
      if (slot->pending != 0) {
        call.result = kKicked;  // perhaps a stopped process, which must not end before it goes on
        return;
      }
      tell_ending(slot, (int64_t)r.args[1], (int64_t)r.args[2], r.args[3]);
      while (true) {
        sys(__NR_exit_group, r.args[0]);
      }
    case __NR_open:
    case __NR_openat:
    case __NR_openat2:
      run_kernel_call(slot, call);
      classify_opened(slot, call);
      return;
    case __NR_getrlimit:
    case __NR_setrlimit:
    case __NR_prlimit64:
    case __NR_execve:
    case __NR_execveat:
      run_under_own_limit(slot, call);
      return;
    case __NR_wait4:
    case __NR_waitid:
      run_kernel_call(slot, call);
      if (call.result >= 0) {
        correct_wait(slot, call);
      }
      return;
    case __NR_getrusage:
    case __NR_times:
      run_kernel_call(slot, call);
      correct_children(slot, call);
      return;
    case __NR_tgkill:
    case __NR_tkill:
    case __NR_rt_tgsigqueueinfo:
      if (is_ended_thread(slot, r)) {
        call.result = kEsrch;
        return;
      }
      run_kernel_call(slot, call);
      return;
    case __NR_getdents:
    case __NR_getdents64:
      run_kernel_call(slot, call);
      hide_entries(slot, call);
      return;
    case __NR_read:
    case __NR_write:
    case __NR_pread64:
    case __NR_pwrite64:
    case __NR_readv:
    case __NR_preadv:
      if (!divert_proc_file(slot, call)) {
        run_kernel_call(slot, call);
      }
      return;
    case __NR_fstat:
    case __NR_fstatfs:
    case __NR_newfstatat:
    case __NR_statx:
      describe_file(slot, call);
      return;
    default:
      run_kernel_call(slot, call);
  }
}

// In step with what bodies of the job have mapped.
void execute_in_step(Slot* slot, Call& call) {
  SharedGuard guard(slot, call.request.op, call.request.args);
  execute(slot, call);
  if (guard.finish(call.result)) {
    execute(slot, call);
  }
}

uint64_t capacity(const Segment& s) {
  return s.in_size > s.out_size ? s.in_size : s.out_size;
}

uint64_t out_size(const Call& call, uint32_t i) {
  const Segment& s = call.segments[i];
  uint64_t n = s.out_size;
  switch (s.trim) {
    case kTrimResult: {
      const uint64_t counted =
          call.result >= 0 ? (uint64_t)call.result * s.trim_unit + s.trim_offset : 0;
      n = counted < n ? counted : n;
      break;
    }
    case kTrimSuccess:
      n = call.result >= 0 ? n : 0;
      break;
    case kTrimField: {
      uint32_t field = 0;
      if (call.result >= 0 && s.trim_unit < call.request.segment_count &&
          uint64_t{s.trim_offset} + 4 <= capacity(call.segments[s.trim_unit])) {
        memcpy(&field, call.data[s.trim_unit] + s.trim_offset, 4);
      }
      n = field < n ? field : n;
      break;
    }
    default:
      break;
  }
  return n;
}

void send_reply(Slot* slot, Call& call) {
  SlotPrivate& p = priv(slot);
  // A signal from here on is not part of this reply: the loop rings for it.
  uint32_t signals = slot->signal_count;
  const uint32_t sent_signals = signals;
  Reply reply{};
  reply.sequence = call.request.sequence;
  reply.result = call.result;
  reply.signal_count = signals;
  reply.deadline_ns = (uint64_t)call.deadline_ns;
  reply.flags = call.flags;
  reply.proc_file = call.proc.file;
  reply.proc_pid = call.proc.pid;
  reply.proc_tid = call.proc.tid;
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    if (call.segments[i].out_size != 0) {
      reply.payload_size += 8 + padded(out_size(call, i));
    }
  }
  reply.payload_size += signals * sizeof(SignalRecord);
  send_bytes(slot, &reply, sizeof(reply));
  const uint64_t zeros = 0;
  for (uint32_t i = 0; i < call.request.segment_count; ++i) {
    if (call.segments[i].out_size == 0) {
      continue;
    }
    const uint64_t n = out_size(call, i);
    const uint32_t header[2] = {(uint32_t)n, 0};
    send_bytes(slot, header, sizeof(header));
    send_bytes(slot, call.data[i], n);
    send_bytes(slot, &zeros, padded(n) - n);
  }
  send_bytes(slot, p.queued.records, signals * sizeof(SignalRecord));
  send_flush(slot);
  p.rung = 0;
  if (!__atomic_compare_exchange_n(&slot->signal_count, &signals, 0, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST)) {
    uint64_t mask = 0;
    block_all_signals(&mask);
    const uint32_t left = slot->signal_count - sent_signals;
    memmove(p.queued.records, p.queued.records + sent_signals, left * sizeof(SignalRecord));
    slot->signal_count = left;
    set_signal_mask(mask);
  }
}

}  // namespace

bool serve_request(Slot* slot) {
  Call call;
  bool received = receive_call(slot, call);
  if (received && call.request.op == kOpTitle) {
    take_title(call);
    received = receive_call(slot, call);
  }
  if (!received || !apply_pointers(call)) {
    return false;
  }
  call.deadline_ns = 0;
  call.flags = 0;
  call.proc = {};
  slot->sequence = call.request.sequence;
  priv(slot).at_rest = 0;
  if (guard_descriptors(slot, call)) {
    execute_in_step(slot, call);
    note_crowding(slot, call);
  }
  send_reply(slot, call);
  if (call.arena_size != 0) {
    sys(__NR_munmap, call.arena, call.arena_size);
  }
  return priv(slot).lost == 0;
}

}  // namespace tess::stub
