// The stub's memory layout and its three protocols (mailbox with the agent, channel with the peer stub, signal
// records). Shared by the freestanding blob and by the agents; both sides are always of the same build, which `kAbiVersion`
// asserts. All integers are little-endian, all structs are plain data. Shape of the region: docs/architecture.md section 2.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tess::stub {

inline constexpr uint32_t kAbiVersion = 6;

// ---- region ----
inline constexpr uint64_t kRegionSize = uint64_t{2} << 30;
inline constexpr uint64_t kRegionLowest = 0x2a0000000000;
inline constexpr uint64_t kRegionHighest = 0x3f0000000000;
inline constexpr uint64_t kCodeMax = 1 << 20;           // r-x, blob at region base
inline constexpr uint64_t kControlOffset = kCodeMax;    // rw, ControlBlock
inline constexpr uint64_t kControlSize = 1 << 16;
inline constexpr uint64_t kSharedTableOffset = kControlOffset + (32 << 10);  // rw, SharedTable; deputies only
inline constexpr uint64_t kSlotsOffset = 2 << 20;
inline constexpr uint64_t kSlotSize = 512 << 10;        // aligned to its size: the stub finds its slot from rsp
inline constexpr uint32_t kSlotCount = 4092;            // as many as fit in the region
inline constexpr uint64_t kSlotSendOffset = 32 << 10;   // one sealed record
inline constexpr uint64_t kSlotReceiveOffset = 112 << 10;
inline constexpr uint64_t kSlotArenaOffset = 192 << 10; // deputy: buffers of the call
inline constexpr uint64_t kSlotArenaSize = 128 << 10;
inline constexpr uint64_t kSlotStackOffset = 384 << 10; // grows down from the end of the slot
inline constexpr uint32_t kRecordPayloadMax = 64 << 10; // plaintext bytes of one record

constexpr uint64_t slot_address(uint64_t region_base, uint32_t slot) {
  return region_base + kSlotsOffset + uint64_t{slot} * kSlotSize;
}

// First bytes of the blob. Offsets are from the blob's start.
struct BlobHeader {
  char magic[8];  // "TESSTUB1"
  uint32_t abi_version;
  uint32_t blob_size;
  uint32_t entry_park;         // a native thread is sent here: rdi = slot address, rsp = top of the slot's stack
  uint32_t entry_blank;        // a blank body starts here: the same arguments
  uint32_t syscall_site;       // address after the one `syscall` instruction (what seccomp sees)
  uint32_t cp_begin;           // [cp_begin, cp_end]: a kick or signal here aborts the call before it starts
  uint32_t cp_end;             // address of the cancellable `syscall` instruction itself
  uint32_t cp_abort;           // where to go on when aborted
  uint32_t cp_site;            // address after the cancellable `syscall` instruction
  uint32_t deputy_handler;     // sa_handler of the deputy's signals
  uint32_t body_sigsys;        // sa_handlers of the body
  uint32_t body_doorbell;
  uint32_t body_fault;
  uint32_t restorer;           // sa_restorer for all of these
  uint32_t body_timer;         // body's handler for SIGVTALRM and SIGPROF
};

// ---- threads ----
enum SlotState : uint32_t {
  kSlotFree = 0,
  kSlotParked = 1,
  kSlotDeputy = 2,
  kSlotBody = 3,
  kSlotStarting = 4,  // allocated for a thread being made
};

enum Phase : uint32_t {
  kPhaseParked = 0,
  kPhaseNative = 1,    // leave the stub: run the application here from slot->thread
  kPhaseDeputy = 2,    // become deputy threads
  kPhaseBody = 3,      // become body threads, running from slot->thread
  kPhaseContinue = 4,  // thaw: go on as before parking
  kPhaseExit = 5,      // exit_group at once, without any effect of the application's
};

enum Role : uint32_t { kRoleNone = 0, kRoleDeputy = 1, kRoleBody = 2 };

// Order of the general registers in ThreadContext::gregs: that of sigcontext (linux asm/sigcontext.h).
enum Greg : uint32_t {
  kR8, kR9, kR10, kR11, kR12, kR13, kR14, kR15, kRdi, kRsi, kRbp, kRbx, kRdx, kRax, kRcx, kRsp, kRip, kEflags,
  kCsGsFs, kErr, kTrapno, kOldmask, kCr2, kGregCount
};

inline constexpr uint32_t kXsaveMax = 12 << 10;
inline constexpr uint32_t kPolicyNodeWords = 16;  // MAX_NUMNODES bits

// Bits of ThreadContext::settings.
enum ThreadSetting : uint32_t {
  kSettingNoTsc = 1,    // PR_SET_TSC
  kSettingNoCpuid = 2,  // ARCH_SET_CPUID
  kSettingNoThp = 4,    // PR_SET_THP_DISABLE; this and the next are the process's: in every context, true while it rests
  kSettingMerge = 8,    // PR_SET_MEMORY_MERGE
  kSignalsWait = 16,    // no setting: signals that it has not blocked come before its next instruction, wherever that is
};

// A POSIX timer on CPU time (timer_create). The one of home's gives it its number and its signals; it runs where the
// CPU time is used, by one of that kernel's.
struct CpuTimer {
  int32_t id;           // home's; kNoTimer: none
  int32_t clock;        // of this process (0 in place of its pid) or of a thread by its tid, as linux/posix-timers.h makes them
  int32_t signal;       // 0: it tells nobody
  int32_t local;        // body: the host's, kNoTimer if it could not be made
  int64_t interval_ns;  // this and the next are true while the process rests
  int64_t left_ns;      // 0: disarmed
  uint32_t overrun;     // how often it has gone off since its signal became pending
  uint32_t reserved;
};
inline constexpr int32_t kNoTimer = -1;
inline constexpr uint32_t kCpuTimersMax = 32;

// Everything that the kernel keeps of an application thread and that must be true again where it runs next.
struct alignas(64) ThreadContext {
  uint8_t xsave[kXsaveMax];  // signal frame format: XSAVE area, sw_reserved at 464, FP_XSTATE_MAGIC2 at the end
  uint64_t gregs[kGregCount];
  uint64_t fs_base;
  uint64_t gs_base;
  uint64_t signal_mask;  // the application's
  uint64_t altstack_sp;
  uint64_t altstack_size;
  uint32_t altstack_flags;  // SS_*
  uint32_t xsave_size;      // bytes used of xsave, magic2 included
  uint64_t robust_list_head;
  uint64_t robust_list_size;
  uint64_t clear_child_tid;
  uint64_t rseq_address;
  uint32_t rseq_size;
  uint32_t rseq_signature;
  // A call that was interrupted by a kick in the middle and is to be repeated: valid for the next call only, if it is at the same
  // rip with the same number.
  uint64_t repeat_rip;
  uint64_t repeat_deadline_ns;  // CLOCK_MONOTONIC of home at which its relative timeout ends, 0 if it has none
  uint64_t repeat_done;         // bytes that it has transferred already (stub/transfer.h)
  int32_t repeat_number;        // -1: none
  int32_t tid;                  // at home, as the application sees it
  char comm[16];
  // CPU time used so far, wherever: so that CPU clocks never go back while away.
  uint64_t thread_cpu_ns;
  uint64_t process_cpu_ns;      // of the whole process; meaningful in the context of the lowest slot
  uint64_t cpu_timers[2][4];    // ITIMER_VIRTUAL, ITIMER_PROF as struct itimerval; as process_cpu_ns
  // As set_mempolicy takes them.
  uint64_t policy_nodes[kPolicyNodeWords];
  uint64_t timerslack_ns;  // 0: the usual
  uint32_t settings;       // ThreadSetting
  int32_t policy_mode;
  uint32_t personality;
  uint32_t repeat_ends;  // the call to be repeated has a timeout of its socket's: a handler ends it, whatever SA_RESTART says
  uint32_t posix_timer_count;
  CpuTimer posix_timers[kCpuTimersMax];  // as process_cpu_ns
};

struct ChannelKeys {
  uint8_t send_round_keys[176];  // AES-128 expanded, in the order AES-NI wants
  uint8_t receive_round_keys[176];
  uint8_t send_hash_key[16];     // GHASH key H
  uint8_t receive_hash_key[16];
  uint64_t send_counter;         // nonce: 4 zero bytes, then this, little-endian; +1 per record
  uint64_t receive_counter;
  uint32_t encrypted;            // 0 on a trusted network: records carry no tag
  uint32_t reserved;
};

struct Slot {
  ThreadContext thread;
  uint64_t region_base;
  uint32_t index;
  uint32_t state;           // SlotState
  int32_t channel_fd;
  uint32_t reserved;
  alignas(8) uint32_t pending;  // deputy: kPendingKick, written only by the agent, cleared by the stub when it parks
  uint32_t signal_count;        // deputy: queued records; body: the doorbell has rung. Read together with `pending`
  ChannelKeys keys;
  uint32_t in_application;  // body: 1 while application code runs
  uint32_t reserved2;
  uint64_t sequence;        // of the last request
  uint64_t frame;           // body: address of the ucontext being served
  uint8_t private_area[12 << 10];  // the stub's own; agents must not touch
};
static_assert(sizeof(Slot) <= kSlotSendOffset);

// Parking a deputy and its body: both get their freeze word, then deputies are kicked (pending = kPendingKick, so that calls in progress and new ones are
// answered kKicked). Each body thread then comes to rest and says so on its channel (kOpRest); its deputy answers that and parks. So no
// request is ever left without its reply.
// A stopped process has not left its last rest when it is to rest again: what its bodies have asked for since then waits in the channels, and has
// to wait until the process is continued. kPendingHold does to those calls what a kick does, but outlasts the end of that rest.
inline constexpr uint32_t kPendingKick = 1;
inline constexpr uint32_t kPendingHold = 2;

struct SignalAction {
  uint64_t handler;  // 0 SIG_DFL, 1 SIG_IGN
  uint64_t flags;
  uint64_t restorer;
  uint64_t mask;
};

inline constexpr uint32_t kEndedMax = 256;
inline constexpr uint32_t kLeaversMax = 64;

struct ControlBlock {
  char magic[8];  // "TESSCTL1"
  uint32_t abi_version;
  uint32_t role;           // Role
  uint32_t phase;          // Phase of the last release; meaningful when generation has moved
  uint32_t freeze;         // 1: threads park at their next safe point
  uint32_t in_use;         // threads that must park; kept by the stub, set by the agent at injection (1 for a blank body)
  uint32_t parked;         // threads parked now
  int32_t mailbox_fd;
  int32_t fd_base;         // mailbox at fd_base, channel of slot s at fd_base + 1 + s; a deputy's at the next number that is free
  int32_t pid;             // thread group id as the application sees it
  uint32_t fault;          // test only: armed fault point
  uint64_t region_base;
  uint64_t job;
  uint32_t mailbox_lock;   // futex
  uint32_t slots_lock;     // futex
  uint64_t slot_bitmap[64];
  SignalAction actions[65];  // deputy: what the application believes is installed
  uint64_t monotonic_offset_ns;
  int64_t process_cpu_base_ns;  // body: what to add to the host's CPU clock of the process
  uint64_t host_vdso;      // body: 0, or where the host's own vDSO was parked
  uint64_t vdso_begin;     // body: the code of home's vDSO, in which no thread may rest: what it has read of the clock
  uint64_t vdso_end;       // there means nothing on another machine
  int32_t shared_fds_end;  // deputy: what processes that share the table of descriptors have of ours is below this; 0: none do
  uint32_t generation;     // futex of parked threads: +1 at each release
  uint32_t server_wanted;  // a thread left while all others were parked: one of them has to serve
  uint32_t has_server;     // a parked thread is serving the agent
  uint32_t memory_files;   // deputy: may files of /proc be open? MemoryFiles of deputy_proc.h
  uint32_t timed_sockets;  // deputy: some socket has, or had, a timeout of its own
  uint32_t all_locked;     // mlockall(MCL_CURRENT) in force
  uint32_t shares;         // body: it has, or had, shared memory that is home's, too
  // Deputy: CPU time of reaped children beyond what home's kernel counts (they used it on hosts).
  int64_t children_user_ns;
  int64_t children_system_ns;
  uint64_t cpu_limit_soft;  // body: RLIMIT_CPU at home, seconds; ~0 none
  uint64_t cpu_limit_hard;
  uint32_t cpu_limit_timer;  // body: what tells of it: 1 + number of a timer of the host's, 0 none
  uint32_t children_maxrss_kb;  // deputy: the most memory that a child that has been waited for, or a child of it, has had
  uint32_t timers_lock;     // futex: who makes posix_timers
  uint32_t actions_lock;    // futex: who reads or changes actions; with all signals blocked
  uint32_t posix_timer_count;
  CpuTimer posix_timers[kCpuTimersMax];  // body
  uint64_t title_begin;     // body: its arguments, and up to environment_end its environment: what a program that gives itself
  uint64_t title_end;       // a title (setproctitle) writes over
  uint64_t environment_end;
  uint64_t title_told;      // body: a digest of the title that home has; 0: not known
  uint32_t ended_next;      // children that have ended and told their CPU time; written by the agent
  struct EndedChild {
    int32_t pid;            // as this process sees it; 0: none
    uint32_t maxrss_kb;     // the most memory that it or a child of it has had at a time
    int64_t user_ns;
    int64_t system_ns;
  } ended[kEndedMax];
  uint32_t leavers_next;    // deputy: threads whose bodies hear that they have ended, and which do so next; 0: none
  int32_t leavers[kLeaversMax];
};
static_assert(sizeof(ControlBlock) <= kSharedTableOffset - kControlOffset);

// The files of the job that bodies have mapped shared: written by the home agent into every deputy (entries first, then count), so that
// a deputy knows which of its calls see or change what a body has in memory. docs/adr/0005.
struct SharedFile {
  uint64_t device;  // st_dev
  uint64_t inode;
  uint64_t segment;  // and kSharedReadOnly
};
// No body can write to it: home has what bodies have, and only what changes it is told.
inline constexpr uint64_t kSharedReadOnly = uint64_t{1} << 63;
inline constexpr uint32_t kSharedFilesMax = 1000;
struct SharedTable {
  uint32_t count;
  uint32_t reserved;
  SharedFile files[kSharedFilesMax];
};
static_assert(kSharedTableOffset + sizeof(SharedTable) <= kControlOffset + kControlSize);

// ---- mailbox (SOCK_SEQPACKET, one per process; agent at the other end) ----
// Commands are sent by the agent only to a parked process (after ALL_PARKED) and are executed in order by the server thread, which answers
// each with one MailboxAnswer (kBatch: followed by the requests with results filled in).
enum class Command : uint32_t {
  kBatch = 1,         // count SyscallRequests; flag kStopOnError
  kPlaceFds = 2,      // count int32 targets; the fds come as SCM_RIGHTS in the same message; dup3(.., O_CLOEXEC)
  kSpawnThreads = 3,  // count uint32 slots (mapped and filled by the agent): one clone each with set_tid = slot->thread.tid; they park
  kRelease = 4,       // value = Phase; flag kReleaseStopped. Answered before the server itself leaves
  kDiscardMemory = 5, // count pairs (address, length): MADV_DONTNEED, skipping what refuses
  kGoOn = 6,          // after kRelease with kReleaseStopped, not answered
};
inline constexpr uint32_t kStopOnError = 1;
inline constexpr uint32_t kReleaseStopped = 1;  // all threads rest until kGoOn has come, too
inline constexpr uint32_t kMailboxMessageMax = 48 << 10;
inline constexpr uint32_t kBatchMax = 512;
inline constexpr uint32_t kFdsMax = 250;

struct MailboxCommand {
  Command kind;
  uint32_t count;
  uint32_t value;
  uint32_t flags;
};

struct SyscallRequest {
  int64_t number;
  uint64_t args[6];
  int64_t result;  // value or -errno; -ENOSYS-like untouched (kNotRun) if an earlier one stopped the batch
};
inline constexpr int64_t kNotRun = -4095;

// Stub to agent. kNeedChannel is answered (by the agent, at any time but while parked) with a MailboxAnswer carrying fds by SCM_RIGHTS.
enum class Note : uint32_t {
  kAnswer = 1,       // to a command: result
  kAllParked = 2,    // value = server's slot
  kNeedChannel = 3,  // body: wants any free channel; deputy: wants channel `id`. value = 1: also a mailbox for a forked child
  kUnsupported = 4,  // value = system call number refused with ENOSYS
  kBodyLost = 5,     // deputy: the channel ended; the process is about to die
  kExecFailed = 6,   // reserved
  kNeedProc = 7,     // body: wants its host's /proc file (value: ProcFile; id: pid << 32 | tid, as the application sees them).
                     // Answered as kNeedChannel, with the open file
  kEnding = 8,       // deputy: this process is about to end; result, id: user and system ns that home's kernel does not count.
                     // Answered as kNeedChannel, without a channel, once the parent has been told
  kGoHome = 9,       // deputy: the body wants to make system call `value` at home, on process `result` or 0; the agent brings both there.
                     // Answered as kNeedChannel, without a channel: result 0, or -EPERM if it has failed to do so several times
  // The rest is about shared memory. Each is answered with a ChannelAnswer, at any time but while parked.
  kNeedShared = 10,   // body: the memory behind the shared mapping that home has made at `id`; value = 1: not for writing. Answer: one descriptor
  kSharedSize = 11,   // body: which is the first mapping, from page `value` on, of the segment attached at `id`? Answer: result: the page at which it
                      // begins << 32 | its pages, 0: there is none
  kSharedCall = 12,   // deputy: a SharedCall follows the note; value = SharedMoment
  kIsAway = 13,       // deputy: is the memory of process `result` away from home? Answered as kNeedChannel, without a channel: result 1 or 0
  kCallState = 14,    // deputy: does thread `id` of process `result` wait in a call of its program at home? Answered as kNeedChannel, without a
                      // channel: result 1 or 0
};

// What a deputy's call has to do with shared memory, and when.
enum class SharedMoment : uint32_t {
  kBefore = 1,  // the call reads the file: what bodies have written comes home first
  kOpen = 2,    // the call changes it: the same, and nothing goes home until kClose
  kClose = 3,   // it has been changed: bodies see it before this is answered
  kAll = 4,     // everything of the job comes home: sync, exit, exec
  kHold = 5,    // the call changes bytes that kClose will tell, and no others: nothing goes home until then
};
struct SharedCall {
  uint64_t segment;
  uint64_t offset;  // kBefore: what is looked at; kClose: what has changed. Size 0: nothing, kSharedAll: perhaps everything
  uint64_t size;
};
inline constexpr uint64_t kSharedAll = ~uint64_t{0};
inline constexpr uint64_t kSharedLength = kSharedAll - 1;  // as size: only how long the file is

struct MailboxNote {
  Note kind;
  uint32_t slot;
  int32_t tid;
  uint32_t value;
  int64_t result;
  uint64_t id;
};

// Agent to stub, answer to kNeedChannel: fds [channel] or [channel, mailbox], keys for the channel.
struct ChannelAnswer {
  int64_t result;  // 0 or -errno
  uint64_t id;
  ChannelKeys keys;
};

// ---- channel (TCP stream of records; strictly request, reply) ----
// Record: u32 length of what follows (ciphertext + tag), then ciphertext, then 16 bytes of tag if encrypted; the length is the
// additional data. A message may span records; its parts are read as a byte stream.
struct Segment {          // one pointer argument or nested buffer of a call
  // The deputy's buffer holds max(in_size, out_size) bytes, 8-aligned, the in-data at its start; the rest need not be cleared. An argument
  // with a segment of size 0 still gets a valid address.
  uint32_t in_size;       // bytes that follow in the request
  uint32_t out_size;      // capacity of the buffer at the deputy; bytes returned unless trimmed
  uint8_t arg;            // argument that points to it; kNoArg if only reached by a fixup
  uint8_t trim;           // Trim
  uint16_t trim_unit;     // bytes per counted element for kTrimResult; index of the segment for kTrimField
  uint32_t trim_offset;   // kTrimResult, kTrimField; else 0
};
inline constexpr uint8_t kNoArg = 0xff;
enum Trim : uint8_t {
  kTrimNone = 0,     // always out_size bytes
  kTrimResult = 1,   // if result >= 0: min(out_size, result * trim_unit + trim_offset) bytes
  kTrimSuccess = 2,  // out_size bytes if result >= 0, else none
  kTrimField = 3,    // if result >= 0: min(out_size, *(u32*)(segment[trim_unit] + trim_offset)) bytes, as it is after the call
};
enum FixupKind : uint32_t {
  kFixupPointer = 0,
  // segment[target] from target_offset to the end of its in-data is a run of NUL-terminated strings; the address of the k-th goes
  // to segment[holder] + offset + 8 * k, as far as holder's in-data reaches (argv, envp).
  kFixupStrings = 1,
};
struct Fixup {            // at the deputy: *(u64*)(segment[holder] + offset) = address of segment[target] + target_offset
  uint16_t holder;
  uint16_t target;
  uint32_t offset;
  uint32_t target_offset;
  uint32_t kind;          // FixupKind
};
inline constexpr uint32_t kSegmentMax = 1100;  // UIO_MAXIOV and a few

struct Request {
  uint64_t sequence;
  uint32_t op;             // system call number, or Op
  uint32_t fd_mask;        // bit i: argument i is a descriptor (the deputy guards its own)
  uint64_t args[6];
  uint32_t segment_count;
  uint32_t fixup_count;
  uint32_t flags;          // kRequest*
  uint32_t reserved;
  uint64_t deadline_ns;    // 0, or for kRequestRepeat: CLOCK_MONOTONIC at which the timeout ends
  uint64_t payload_size;   // segments, fixups, data of in-segments each padded to 8
};
inline constexpr uint32_t kRequestRepeat = 1;
inline constexpr uint32_t kRequestGoOn = 2;  // a later part of a write that does not wait: neither a kick nor a signal keeps it back

enum Op : uint32_t {
  kOpFirst = 0x10000,
  kOpPollSignals = 0x10000,  // after a doorbell
  kOpClone = 0x10001,        // args: flags, exit_signal, slot, channel id, parent_tid wanted etc. (stub's own)
  kOpFault = 0x10002,        // segment 0: siginfo of a fault or timer raised at the host
  kOpMapFile = 0x10004,      // mmap of a file: arguments of mmap with a fixed address. Segment 0 out: FileIdentity, segment 1 out: content
  kOpSetMask = 0x10006,      // sigreturn: args[1] becomes the mask. Never aborted
  kOpRest = 0x10007,         // the body thread parks as soon as this is answered
  kOpReadFile = 0x10005,     // more of a mapped file: args: fd, offset, size. Segment 0 out: content
  // args: fd that home has opened, ProcFile, kProcTextFirst | kProcTextLast, tid (0: the process), ns of CPU time used elsewhere.
  // Segment 0: a piece of the host's text. After the last one fd reads as the made-up text.
  kOpProcText = 0x10100,
  kOpMayLock = 0x10101,      // result: bytes that the process may lock, -1 without a bound
  kOpPidOf = 0x10102,        // args: a pidfd. Result: its process, or -errno
  kOpGoHome = 0x10103,       // args: a system call that only home can make, a process it acts on or 0: the agent is asked to bring both home
  kOpIsAway = 0x10104,       // args: a process. Result: 1 its memory is away, 0 it is at home, or the errno that forbids looking at it
  // args: address, size. Segment 0: the process's arguments, as the program has changed them. No reply: another request follows at once.
  kOpTitle = 0x10106,
  kOpWriteRoom = 0x10105,    // args: fd, MSG_*. Result: how much a write that does not wait should carry at a time, 0: all
  kOpMapShared = 0x10008,    // as kOpMapFile with MAP_SHARED, or for shared anonymous memory (fd -1); no content comes. Segment 0 out: FileIdentity
  kOpSyncShared = 0x10009,   // msync: what the job's bodies have written to shared mappings is in home's files when this is answered
};

struct Reply {
  uint64_t sequence;
  int64_t result;          // value, -errno, or one of the two below
  uint32_t signal_count;   // SignalRecords after the data
  uint32_t flags;          // kReply*
  uint64_t payload_size;   // data of out-segments (each u32 size, u32 zero, bytes padded to 8), then SignalRecords
  uint64_t deadline_ns;    // with kKicked: when the relative timeout of the call ends, 0 if it has none
  uint32_t proc_file;      // with kReplyProc: which file of which process has been opened
  int32_t proc_pid;
  int32_t proc_tid;
  uint32_t reserved;
};
struct FileIdentity {
  uint32_t dev_major;
  uint32_t dev_minor;
  uint64_t inode;
  uint64_t size;      // bytes in the file now
  uint32_t mode;      // st_mode
  uint32_t reserved;
};

// Files of /proc/PID whose truth is where the body is. An open of one at home is told to the body (kReplyProc), which answers with
// kOpProcText, or keeps the file in mind (kProcMem and kProcPagemap: see kOpMemoryFile).
enum ProcFile : uint32_t {
  kProcNone = 0,
  kProcMaps,
  kProcSmaps,
  kProcSmapsRollup,
  kProcNumaMaps,
  kProcStat,
  kProcStatm,
  kProcStatus,
  kProcCmdline,
  kProcEnviron,
  kProcSchedstat,
  kProcClearRefs,
  kProcMem,
  kProcPagemap,
  kProcFdDir,    // handled at home
  kProcTaskDir,  // handled at home
  kProcCall = 32,  // no file: kNeedProc for it is answered with a CallState
};

// What a thread does on its host.
enum CallState : int64_t {
  kCallUnknown = 0,
  kCallCarried,  // runs, or waits for home
  kCallLocal,    // sleeps in a call that is its host's
};

inline constexpr int64_t kRestart = -512;  // run the handlers, then the call again
inline constexpr int64_t kKicked = -513;   // the agents are parking everyone: repeat the call later
inline constexpr uint32_t kReplyBegun = 1;  // with kKicked: the call was waiting
inline constexpr uint32_t kReplyProc = 2;
inline constexpr uint32_t kReplyHome = 8;  // the call is to be made at home; the result is what it fails with if it cannot
inline constexpr uint32_t kReplyTimed = 4;  // with kReplyBegun: by a timeout of its socket's (ThreadContext::repeat_ends)
inline constexpr uint32_t kReplyCut = 16;  // a transfer would have gone on but for our kick: it is to, with the rest (stub/transfer.h)
inline constexpr uint64_t kProcTextFirst = 1, kProcTextLast = 2;

struct SignalRecord {
  uint32_t signal;
  uint32_t reserved;
  SignalAction action;     // as it was at delivery
  uint64_t old_mask;       // goes into the frame: the mask to return to
  uint64_t new_mask;       // the mask inside the handler
  uint8_t siginfo[128];
};

}  // namespace tess::stub
