// What the parts of the blob share: raw system calls, access to the application's memory, this
// thread's slot, the channel, parking. Freestanding: no libc, no static data, no thread-local data
// (%fs belongs to the application).
#pragma once

#include <asm/unistd.h>
#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>

#include "stub/abi.h"

// The kernel's own layout of a signal frame on x86-64 (arch/x86/include/asm/sigframe.h).
struct KernelUcontext {
  uint64_t flags;
  uint64_t link;
  uint64_t stack_sp;
  uint32_t stack_flags;
  uint32_t stack_pad;
  uint64_t stack_size;
  uint64_t gregs[23];
  uint64_t fpstate;
  uint64_t reserved[8];
  uint64_t mask;
};
static_assert(sizeof(KernelUcontext) == 304);

struct KernelFrame {
  uint64_t restorer;
  KernelUcontext context;
  uint8_t siginfo[128];
};

struct KernelSigaction {
  uint64_t handler;
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

struct Timespec {
  int64_t seconds;
  int64_t nanoseconds;
};

struct TimerSpec {  // struct itimerspec
  Timespec interval;
  Timespec value;
};

#pragma GCC visibility push(hidden)
extern "C" {
extern const tess::stub::BlobHeader tess_blob_header;
long tess_syscall(long number, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5,
                  uint64_t a6);
long tess_cp_syscall(void* pending, long number, const uint64_t args[7]);
long tess_clone3(clone_args* args, size_t size, void (*child)(tess::stub::Slot*),
                 tess::stub::Slot* slot);
[[noreturn]] void tess_leave(tess::stub::Slot* slot, uint64_t frame_sp, void* pending);
// body_leave on the stack below the frame: for a thread that still runs on the one above it.
[[noreturn]] void tess_leave_first(tess::stub::Slot* slot, uint64_t frame_sp);
[[noreturn]] void tess_leave_again(tess::stub::Slot* slot, KernelUcontext* context);
[[noreturn]] void tess_sigreturn(uint64_t frame_sp);
[[noreturn]] void tess_exit_thread(uint64_t* bitmap_word, uint64_t keep_mask, int status, int fd);
size_t tess_copy(void* to, const void* from, size_t n);
long tess_string_length(uint64_t address, uint64_t max);
int tess_probe_read(uint64_t address);
int tess_probe_write(uint64_t address);
void* memcpy(void* to, const void* from, size_t n);
void* memmove(void* to, const void* from, size_t n);
void* memset(void* to, int byte, size_t n);

extern const uint8_t tess_cp_begin[], tess_cp_end[], tess_cp_abort[], tess_cp_site[];
extern const uint8_t tess_copy_fault[], tess_copy_fixup[], tess_string_fault[], tess_string_fixup[];
extern const uint8_t tess_probe_read_fault[], tess_probe_write_fault[], tess_probe_fixup[];
void tess_restorer();
}
#pragma GCC visibility pop

namespace tess::stub {

inline constexpr long kEintr = -4, kEagain = -11, kEnomem = -12, kEfault = -14, kEinval = -22,
                      kEnosys = -38, kEperm = -1, kEexist = -17, kEbadf = -9, kEnodev = -19,
                      kEnotsup = -95, kEio = -5, kEsrch = -3;
inline constexpr long kAborted = -513;  // what tess_cp_syscall returns when it did not start

template <typename... Args>
inline long sys(long number, Args... args) {
  const uint64_t a[6] = {(uint64_t)args...};
  return tess_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
inline long sys(long number) {
  return tess_syscall(number, 0, 0, 0, 0, 0, 0);
}

// ---- files ----
struct KernelStat {  // struct stat of x86-64
  uint64_t dev, ino, nlink;
  uint32_t mode, uid, gid, pad;
  uint64_t rdev;
  int64_t size, blksize, blocks, times[6], unused[3];
};
static_assert(sizeof(KernelStat) == 144);
// The device by its numbers, as glibc's gnu_dev_major and gnu_dev_minor have them below 2^32.
inline FileIdentity identity_of(const KernelStat& stat) {
  FileIdentity identity{};
  identity.dev_major = (uint32_t)((stat.dev >> 8) & 0xfff);
  identity.dev_minor = (uint32_t)((stat.dev & 0xff) | ((stat.dev >> 12) & 0xfff00));
  identity.inode = stat.ino;
  identity.size = (uint64_t)stat.size;
  identity.mode = stat.mode;
  return identity;
}

// ---- slots ----
struct QueuedSignals {
  SignalRecord records[24];
};

struct NewChannel {
  int32_t channel_fd;
  int32_t mailbox_fd;  // -1 unless asked for
  uint64_t id;
  ChannelKeys keys;
};

// Lives in Slot::private_area.
struct SlotPrivate {
  SignalAction*
      actions;  // deputy: this process's table (control block's, or own_actions of a vfork child)
  int32_t mailbox_fd;
  int32_t pid;           // thread group at home, as the application sees it
  uint32_t vfork_child;  // shares its parent's region: never parks
  uint32_t busy;         // deputy: a request is being served (its reply will carry signals)
  uint32_t rung;         // deputy: the doorbell has been rung for what is queued
  uint32_t
      received_signals;  // body: records in `queued` that came with a reply and are not yet pushed
  uint64_t temporary_mask;  // deputy: mask in force during sigsuspend, ppoll and the like
  uint32_t has_temporary_mask;
  uint32_t raw_begin, raw_end;      // received bytes not yet unsealed
  uint32_t plain_begin, plain_end;  // unsealed bytes not yet read
  uint32_t send_used;               // plaintext bytes in the send buffer
  uint32_t lost;                    // the channel has failed
  uint32_t executing;               // body: an execve is under way: end of file means success
  uint32_t has_kept_channel;        // body: kept_channel was meant for a clone that parking aborted
  uint32_t kept_has_mailbox;
  NewChannel kept_channel;
  int32_t fresh_text;   // deputy: descriptor + 1 of a text of /proc made for the read to come, or 0
  uint32_t at_rest;     // deputy: the last request said that the body thread parks
  uint32_t stepping;    // body: on its way out of the vDSO, one instruction at a time
  uint32_t timer_bits;  // body: bits 0 SIGXCPU, 2 SIGVTALRM, 3 SIGPROF: gone off while in the stub
  uint32_t posix_timer_bits;   // body: which of the control block's posix_timers have gone off
  uint64_t clone_flags;        // of the clone that made this thread
  int64_t thread_cpu_base_ns;  // body: what to add to the host's CPU clock of the thread
  int64_t deadline_ns;         // deputy: end of the current call's relative timeout, 0 none
  uint32_t policy_refused;     // body: this host has not the nodes of the memory policy
  uint32_t signalling;         // body, futex: odd while a call that sends a signal is on its way
  int32_t proc_text_fd;  // deputy: where pieces of kOpProcText go, -1 none (valid during the op)
  SignalAction own_actions[65];
  QueuedSignals queued;
};
static_assert(sizeof(SlotPrivate) <= sizeof(Slot::private_area));

inline SlotPrivate& priv(Slot* slot) {
  return *reinterpret_cast<SlotPrivate*>(slot->private_area);
}
inline Slot* this_slot() {
  return reinterpret_cast<Slot*>((uint64_t)__builtin_frame_address(0) & ~(kSlotSize - 1));
}
inline ControlBlock& control_of(const Slot* slot) {
  return *reinterpret_cast<ControlBlock*>(slot->region_base + kControlOffset);
}
inline Slot* slot_at(const Slot* any, uint32_t index) {
  return reinterpret_cast<Slot*>(slot_address(any->region_base, index));
}
// Where memory of ours goes that does not fit the region, if there is room: where the kernel would
// put it, another thread may just be mapping a file for the body, at the address that the body has
// found free.
inline uint64_t beside_region(const Slot* slot) {
  return slot->region_base + kRegionSize;
}
inline bool in_blob(uint64_t region_base, uint64_t rip) {
  return rip - region_base < kCodeMax;
}
inline bool in_cp_window(uint64_t rip) {
  return rip >= (uint64_t)tess_cp_begin && rip <= (uint64_t)tess_cp_end;
}

// Takes a free slot and maps it; -1 if none is left. Initialised as a copy of nothing: zeroed
// header, own index.
int32_t take_slot(Slot* self);
void free_slot(Slot* self, uint32_t index);
// Visits every slot in use, with its index. Its memory is there, even if it is given up meanwhile.
template <typename Visit>
inline void for_each_slot(const ControlBlock& control, Visit visit) {
  for (uint32_t word = 0; word < 64; ++word) {
    for (uint64_t bits = control.slot_bitmap[word]; bits != 0; bits &= bits - 1) {
      visit(word * 64 + (uint32_t)__builtin_ctzll(bits));
    }
  }
}
// What the stub has of the process's memory for data: its block and the slots in use.
inline uint64_t stub_data_size(const ControlBlock& control) {
  uint64_t slots = 0;
  for_each_slot(control, [&](uint32_t) { ++slots; });
  return slots * kSlotSize + kControlSize;
}
// In a child with descriptors of its own: those of the parent's other threads mean nothing.
void close_other_channels(Slot* slot);
// In a child with memory of its own: this thread is the only one, nobody rests, nothing is locked.
// Its pid is left to the caller, who tells by it that the block is the child's own.
void begin_alone(Slot* slot);
void lock(uint32_t* word);
void unlock(uint32_t* word);
int64_t monotonic_ns();
inline constexpr int64_t kSecondNs = 1'000'000'000;
inline Timespec timespec_of(int64_t ns) {
  return {ns / kSecondNs, ns % kSecondNs};
}
inline int64_t ns_of(const Timespec& time) {
  return time.seconds * kSecondNs + time.nanoseconds;
}
int64_t clock_ns(int clock);
inline constexpr int kClockProcessCpu = 2, kClockThreadCpu = 3;

// ---- application memory (body: faults are caught; see body_fault) ----
bool copy_from_app(void* to, uint64_t from, size_t n);
bool copy_to_app(uint64_t to, const void* from, size_t n);

// ---- channel ----
void channel_reset(Slot* slot);
void send_bytes(Slot* slot, const void* from,
                size_t n);  // buffered; after a failure `lost` is set and the rest is swallowed
bool send_bytes_from_app(Slot* slot, uint64_t from,
                         size_t n);  // false: bad address (zeros are sent in its place)
void send_flush(Slot* slot);
bool receive_bytes(Slot* slot, void* to, size_t n);  // false: lost
// Waits for the first byte of a message; kAborted if `mask` of *pending becomes set first, 0 when
// there is one, -1 when lost.
long receive_wait(Slot* slot, uint64_t mask);
bool seal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4], uint8_t tag[16]);
bool unseal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4],
            const uint8_t tag[16]);

// ---- mailbox ----
void note(Slot* slot, Note kind, uint32_t value, int64_t result);
// Asks the agent for a channel (id 0: any). Negative errno on failure. The fds are where the kernel
// put them.
// kNoDescriptor: it came, but this process has no room for it.
inline constexpr long kNoDescriptor = -24;
// kOpMapShared, kOpMapFile: the file's pages are of home's hugetlb pool, and are mapped there only.
inline constexpr long kHomesPool = -15;
long request_channel(Slot* slot, uint64_t id, bool with_mailbox, NewChannel* out);
long place_fd(Slot* slot, int32_t from, int32_t to);
// At the first number from `lowest` on that is free. Its number, or -errno; `from` is closed then.
long place_above(int32_t from, int32_t lowest);
// A body's channels stand at low numbers, where what its agent sends arrives, too: one that another
// thread puts in its place would end it. A body's limit of descriptors is not the application's.
int32_t out_of_the_way(const ControlBlock& control, int32_t fd);
// A question to the agent, perhaps with more behind it, that it answers with a ChannelAnswer and
// perhaps descriptors, `max` at most. Negative errno on failure.
long ask_agent(Slot* slot, MailboxNote question, ChannelAnswer* answer, int32_t* fds, uint32_t max,
               uint32_t* fd_count, const void* more = nullptr, size_t size = 0);
// The same about shared memory. `fd` (may be null): the
// descriptor that came along, or -1. The answer's result, kEagain if the agent is gone.
int64_t ask_shared(Slot* slot, Note kind, uint32_t value, uint64_t id, const void* more,
                   size_t size, int32_t* fd);

// ---- parking ----
// Parks the calling thread, whose application context is in slot->thread, until the agent releases
// everyone.
Phase park(Slot* slot);
bool must_park(Slot* slot);
// Called by a thread that leaves the process: the parked others may now be complete.
void thread_gone(Slot* slot);
// Fills the frame at the top of the slot's stack from slot->thread and returns its ucontext.
KernelUcontext* build_resume_frame(Slot* slot, uint64_t mask, bool native);
[[noreturn]] void run_native(Slot* slot);
// The context stands before a wait that a move has interrupted, and a handler with these flags is
// about to run: if the handler ends the wait, it has failed with EINTR. True if so.
bool end_repeated_wait(ThreadContext& t, uint64_t* gregs, uint64_t sa_flags);
// Where the program wants to read what is left of the sleep that was ended, and what; 0: nowhere.
uint64_t rest_of_sleep(const ThreadContext& t, const uint64_t* gregs, int64_t left[2]);
// CPU time of the process and the timers on it (cpu_timers.cc), in the context of the thread in its
// lowest slot. All threads rest, and only the one that serves them calls these: what one of them
// sets until it rests is saved, and none runs before they run.
void save_cpu_times(Slot* any);
// run: the process has returned; or it becomes a deputy, whose CPU time is not the program's.
void set_cpu_timers_at_home(Slot* any, bool run);
// Of a body, or of a child that a body has just forked.
void begin_cpu_times(Slot* any);
// A timer of the host's, not armed, kNoTimer if there can be none. `clock` and `signal` as those of
// a CpuTimer: it tells by kSigLocalTimer with this value, whatever the signal, or nobody if that is
// 0.
int32_t make_host_timer(int32_t clock, int32_t signal, uint32_t value);
// The value of the one that tells of RLIMIT_CPU.
inline constexpr uint32_t kCpuLimitTimer = kCpuTimersMax;
inline constexpr int kSigLocalTimer = 16;  // SIGSTKFLT, which no kernel raises here
// Of the calling thread.
void save_memory_policy(Slot* slot);
void set_memory_policy(Slot* slot);
// What prctl and arch_prctl have set that the kernel looks at where the code runs: of the calling
// thread, or of the process, all of whose threads rest. Only what is not as usual is set again.
void save_settings(Slot* slot);
void save_process_settings(Slot* any);
void apply_settings(const Slot* slot);
// The kernel gives a child those of its process: what is noted of them may be old.
void inherit_settings(ThreadContext& child);
// A setting has been made away from home, by this command of prctl or arch_prctl: it goes along.
void note_setting(Slot* slot, int command, uint64_t value);
void block_all_signals(uint64_t* old_mask);
void set_signal_mask(uint64_t mask);

// ---- signals ----
// Pushes an application signal frame for `record` on top of `context`. False: the application's
// stack is bad.
bool push_signal_frame(Slot* slot, KernelUcontext* context, const SignalRecord& record);
void clear_fpstate(KernelUcontext* context);

// ---- roles ----
void install_deputy_handlers(Slot* slot);
void restore_application_handlers(Slot* slot);
[[noreturn]] void deputy_start(Slot* slot);
[[noreturn]] void deputy_loop(Slot* slot);
void install_body_handlers(Slot* slot);
[[noreturn]] void body_start(Slot* slot);
[[noreturn]] void body_leave(Slot* slot, KernelUcontext* context);
[[noreturn]] void die_quietly(Slot* slot);
// The calling thread's end in its own process: no signal, no count, no slot of it is left.
[[noreturn]] void leave_process(Slot* slot, int status);
void drop_kept_channel(Slot* slot);
// A thread's application state moves from the signal frame into slot->thread.
void save_context(Slot* slot, const KernelUcontext* context);

}  // namespace tess::stub
