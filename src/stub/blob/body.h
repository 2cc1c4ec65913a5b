// The body's side of a system call.
#pragma once

#include "stub/blob/core.h"
#include "stub/marshal.h"
#include "syscalls/kinds.h"

namespace tess::stub {

inline constexpr int kSigurg = 23;  // the doorbell

// One trapped call: where its registers are and what it asked.
struct Trap {
  Slot* slot;
  KernelUcontext* context;
  uint64_t number;
  uint64_t args[6];
  uint64_t rip;  // of the system call instruction
  bool repeat;   // the application repeats a call that parking had aborted
  uint64_t deadline_ns;
  uint64_t done;  // by then, of a transfer
  Reply reply;    // header of the last reply to carried_call
};

// What becomes of the trapped call.
enum class Outcome {
  kResult,  // `result` goes to rax
  kAgain,   // the call is made again after handlers or parking: rip back, rax = number
  kDone,    // registers are as they should be already
};
struct Answer {
  Outcome outcome;
  int64_t result;
};
inline Answer answer(int64_t result) {
  return {Outcome::kResult, result};
}
inline Answer again() {
  return {Outcome::kAgain, 0};
}
// Of a request of ours: home has not made it; the call is to be made again.
inline bool is_unfinished(int64_t result) {
  return result == kRestart || result == kKicked;
}

Answer special_call(Trap& trap, const syscalls::SyscallInfo& info);
// Plans, sends, finishes. The reply's signals are pushed on the context by finish_trap, which
// callers use to end every trap.
Answer carried_call(Trap& trap, const syscalls::SyscallInfo& info);
// The same with a part of the data, with these flags of the request.
Answer carried_part(Trap& trap, const syscalls::SyscallInfo& info, const Part& part,
                    uint32_t flags);
Answer write_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer clone_call(Trap& trap);
Answer map_call(Trap& trap);
Answer map_shared_call(Trap& trap);
Answer mremap_call(Trap& trap);
// Private mappings of files (body_map.cc): a memfd that says by its name which file it stands for,
// and bytes [from, to) of the file that is open at home, stored in it.
long make_memfd(const FileIdentity& identity);
int64_t fetch_content(Slot* slot, long memfd, uint64_t fd, uint64_t from, uint64_t to);
Answer truncate_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer msync_call(Trap& trap);
// munmap of so much that the stub may be in it: everything but the stub goes.
Answer munmap_call(Trap& trap);
Answer shmat_call(Trap& trap);
Answer shmdt_call(Trap& trap);
Answer getrandom_call(Trap& trap);
// Time (body_time.cc).
Answer sleep_call(Trap& trap);
Answer futex_call(Trap& trap);
Answer clock_gettime_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer rusage_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer times_call(Trap& trap);
Answer itimer_call(Trap& trap, const syscalls::SyscallInfo& info);
// ITIMER_VIRTUAL and ITIMER_PROF.
bool has_cpu_interval_timer();
int64_t set_interval_timers_at_home(Slot* slot, bool run);
// A clock id of CPU time (linux/posix-timers.h), or not `valid`. id 0: of the caller.
struct CpuClock {
  bool valid;
  bool thread;
  int32_t id;
};
CpuClock cpu_clock_of(int clock);
bool is_own_process(Slot* slot, const CpuClock& clock);
// True for this process or a thread of it; what the host's clock of it lacks goes to `base_ns`.
bool own_cpu_clock(Slot* slot, const CpuClock& clock, int64_t* base_ns);
bool is_time(const Timespec& value);
// Nanoseconds, less than 292 years of them: a sum with a clock stays within 63 bits.
int64_t length_of(const Timespec& value);
// POSIX timers (body_timers.cc): those on CPU time run here, home's tells the program.
Answer timer_call(Trap& trap, const syscalls::SyscallInfo& info);
void note_local_timer(Slot* slot, const uint8_t* siginfo);  // async-signal-safe
void raise_posix_timers(Slot* slot);
// A signal's siginfo from home, if it is one of these timers', gets its overrun.
void tell_overrun(Slot* slot, uint8_t* siginfo);
// What the whole process has used, here and elsewhere.
void process_cpu_times(Slot* slot, int64_t* user_ns, int64_t* system_ns);
uint64_t maxrss_kb();  // the most memory that the process has had here at a time
// An open that home has made: a file of /proc whose truth is here gets its text from here.
Answer open_call(Trap& trap, const syscalls::SyscallInfo& info);
// A file of this process, or a public one of another body here, opened by the agent; negative if it
// does not. tid 0: of the process.
long host_file(Slot* slot, ProcFile file, int32_t pid, int32_t tid);
// nullptr: no thread of this process.
Slot* slot_of_thread(Slot* any, int32_t tid);
// A read or write of /proc/self/mem or pagemap that home has sent back to us.
Answer proc_file_call(Trap& trap);
// A call that cannot be carried: the process goes home and makes it there, and so does `target`, a
// process that it acts on, if there is one. If it cannot go, the call fails with `refusal`.
Answer homeward_call(Trap& trap, int64_t refusal, uint64_t target = 0);
// The same for a call of a descriptor, which fails without a move if that is not open.
Answer at_home_only(Trap& trap, int64_t refusal);
// The same for calls of which only some uses cannot be carried.
Answer maybe_homeward_call(Trap& trap, const syscalls::SyscallInfo& info);
// Signals that the program sends (body_signals.cc).
bool sends_signal(uint64_t number);
// Waits until those that other threads of the process are just sending have been taken.
void let_signals_overtake(Slot* self);
// The call has been made: who has been sent a signal hears of it before the caller goes on.
void after_signal(const Trap& trap, const Answer& made);
// Limits (body_limits.cc).
Answer limit_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer lock_call(Trap& trap);
Answer affinity_call(Trap& trap, const syscalls::SyscallInfo& info);
void apply_cpu_limit(Slot* slot);
bool cpu_limit_reached(Slot* slot);
// If the title has changed since home was told (body_title.cc): in front of a request, which
// follows.
void tell_title(Slot* slot);
// Calls that name memory (body_memory.cc).
Answer vmsplice_call(Trap& trap);
Answer process_vm_call(Trap& trap, const syscalls::SyscallInfo& info);
Answer process_madvise_call(Trap& trap);

// A request of the stub's own: fixed arguments, up to two segments in stub memory.
struct OwnSegment {
  const void* in;
  uint32_t in_size;
  void* out;
  uint32_t out_size;
  Trim trim = kTrimNone;  // kTrimResult counts bytes
  uint8_t arg = kNoArg;   // argument that points to it
};
// Result, or kRestart/kKicked; signals of the reply wait in `pending_signals(slot)`.
int64_t own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                    uint32_t count, uint32_t fd_mask);
// Lower level, for a reply whose segments are streamed: send, then read the reply header. `put`
// leaves it to the next send to go out, and has the number of the last request.
void put_own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                     uint32_t count, uint32_t fd_mask);
void send_own_request(Slot* slot, uint32_t op, const uint64_t args[6], const OwnSegment* segments,
                      uint32_t count, uint32_t fd_mask);
bool receive_reply(Slot* slot, Reply* reply);
void receive_signals(Slot* slot, const Reply& reply);

// Records received with a reply and not yet pushed: they live in the queue of SlotPrivate, counted
// by received_signals.
inline uint32_t& received_signals(Slot* slot) {
  return priv(slot).received_signals;
}
// The context stands in the vDSO, where nothing begins: it is let out of it first.
bool in_vdso(const Slot* slot, const KernelUcontext* context);
// Asks home for signals after a doorbell.
void fetch_signals(Slot* slot);
// True if a doorbell or a freeze wants the trap to end soon.
bool disturbed(Slot* slot);
// The trap's call will be made again; if it has a relative timeout, that ends at `deadline_ns`. It
// has `begun` if it may have waited already: a handler may end it then.
void remember_repeat(Trap& trap, uint64_t deadline_ns, bool begun);
[[noreturn]] void body_gone(Slot* slot);

}  // namespace tess::stub
