// The body's part in /proc: its host's text about it goes home, where it becomes what a native
// process would read; reads and writes of its memory by file are done here.
#include "stub/blob/body.h"
#include "stub/proc_text.h"

namespace tess::stub {
namespace {

inline constexpr int kSeekCur = 1;

// About a process or thread on this host. The agent's answer, negative if there is none.
int64_t ask_host(Slot* slot, ProcFile file, int32_t pid, int32_t tid, int32_t* fd,
                 uint32_t* count) {
  ChannelAnswer answer;
  MailboxNote question{};
  question.kind = Note::kNeedProc;
  question.value = file;
  question.id = (uint64_t)(uint32_t)pid << 32 | (uint32_t)tid;
  const long asked = ask_agent(slot, question, &answer, fd, 1, count);
  return asked < 0 ? asked : answer.result;
}

// What another thread is doing on this host; kCallUnknown of the caller, which is running.
CallState call_state(Slot* slot, ProcFile file, int32_t pid, int32_t tid) {
  const bool other = pid != control_of(slot).pid || (tid != 0 && tid != slot->thread.tid) ||
                     (tid == 0 && slot->thread.tid != pid);
  if ((file != kProcStat && file != kProcStatus) || !other) {
    return kCallUnknown;
  }
  int32_t fd = -1;
  uint32_t count = 0;
  const int64_t state = ask_host(slot, kProcCall, pid, tid, &fd, &count);
  return state < 0 ? kCallUnknown : (CallState)state;
}

}  // namespace

long host_file(Slot* slot, ProcFile file, int32_t pid, int32_t tid) {
  int32_t fd = -1;
  uint32_t count = 0;
  const int64_t result = ask_host(slot, file, pid, tid, &fd, &count);
  if (result < 0) {
    return (long)result;
  }
  return count == 1 ? fd : kEagain;
}

Slot* slot_of_thread(Slot* any, int32_t tid) {
  Slot* found = nullptr;
  for_each_slot(control_of(any), [&](uint32_t index) {
    Slot* const slot = slot_at(any, index);
    if (slot->thread.tid == tid) {
      found = slot;
    }
  });
  return found;
}

namespace {

// CPU time of the process or thread that its host's count lacks.
int64_t cpu_elsewhere(Slot* slot, int32_t pid, int32_t tid) {
  const ControlBlock& control = control_of(slot);
  if (pid != control.pid) {
    return 0;
  }
  if (tid == 0) {
    return control.process_cpu_base_ns;
  }
  Slot* const thread = slot_of_thread(slot, tid);
  return thread != nullptr ? priv(thread).thread_cpu_base_ns : 0;
}

// Sends the host's text in pieces. The result of the last: 0, or why home could not take it.
int64_t send_text(Slot* slot, int64_t home_fd, const Reply& reply, int host_fd) {
  uint8_t piece[32 << 10];
  uint64_t flags = kProcTextFirst;
  while (true) {
    uint32_t used = 0;
    long n = 0;
    while (used < sizeof(piece)) {
      n = sys(__NR_read, host_fd, piece + used, sizeof(piece) - used);
      if (n == kEintr) {
        continue;
      }
      if (n <= 0) {
        break;
      }
      used += (uint32_t)n;
    }
    flags |= n <= 0 ? kProcTextLast : 0;
    // Asked for after the text was read: what it says of a thread that sleeps was true before.
    const CallState state =
        n <= 0 ? call_state(slot, (ProcFile)reply.proc_file, reply.proc_pid, reply.proc_tid)
               : kCallUnknown;
    const uint64_t args[6] = {(uint64_t)home_fd,
                              reply.proc_file,
                              flags,
                              (uint64_t)reply.proc_tid,
                              (uint64_t)cpu_elsewhere(slot, reply.proc_pid, reply.proc_tid),
                              (uint64_t)state};
    const OwnSegment segment{piece, used, nullptr, 0};
    const int64_t result = own_request(slot, kOpProcText, args, &segment, 1, 1u << 0);
    if (result < 0 || (flags & kProcTextLast) != 0) {
      return result;
    }
    flags = 0;
  }
}

}  // namespace

Answer open_call(Trap& trap, const syscalls::SyscallInfo& info) {
  trap.reply = {};
  const Answer opened = carried_call(trap, info);
  if (opened.outcome != Outcome::kResult || opened.result < 0 ||
      (trap.reply.flags & kReplyProc) == 0) {
    return opened;
  }
  const long fd = host_file(trap.slot, host_source((ProcFile)trap.reply.proc_file),
                            trap.reply.proc_pid, trap.reply.proc_tid);
  if (fd < 0) {
    return opened;  // of a process that is at home: home's text is true
  }
  send_text(trap.slot, opened.result, trap.reply, (int)fd);
  sys(__NR_close, fd);
  return opened;
}

Answer proc_file_call(Trap& trap) {
  Slot* slot = trap.slot;
  const auto file = (ProcFile)trap.reply.proc_file;
  if (trap.reply.proc_pid != control_of(slot).pid && !is_public(file)) {
    return homeward_call(trap, kEio, (uint64_t)trap.reply.proc_pid);
  }
  if (file != kProcMem && file != kProcPagemap) {
    const long fd = host_file(slot, host_source(file), trap.reply.proc_pid, trap.reply.proc_tid);
    send_text(slot, (int64_t)trap.args[0], trap.reply, (int)fd);
    if (fd >= 0) {
      sys(__NR_close, fd);
    }
    return again();  // the same read, of the new text
  }
  const uint64_t offset = trap.reply.deadline_ns;
  const long fd = host_file(slot, (ProcFile)trap.reply.proc_file, trap.reply.proc_pid, 0);
  if (fd < 0) {
    return answer(kEio);
  }
  const bool writes = trap.number == __NR_write || trap.number == __NR_pwrite64;
  const long n = sys(writes ? __NR_pwrite64 : __NR_pread64, fd, trap.args[1], trap.args[2], offset);
  sys(__NR_close, fd);
  if (n > 0 && (trap.number == __NR_read || trap.number == __NR_write)) {
    const uint64_t args[6] = {trap.args[0], (uint64_t)n, kSeekCur, 0, 0, 0};
    own_request(slot, __NR_lseek, args, nullptr, 0, 1u << 0);
  }
  return answer(n);
}

}  // namespace tess::stub
