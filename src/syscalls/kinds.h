// What the system call table says of a call: where it runs and how each argument travels.
// Freestanding (shared by the stub blob, the filter generator and the documentation); plain small
// integers only, so that tables of it need no relocation.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tess::syscalls {

enum class Class : uint8_t {
  kUnknown = 0,  // no such call
  kLocal,        // runs natively in the body; the filter lets it through
  kCached,   // answered by the body stub from state kept in step with home; may be carried home too
  kHome,     // carried to the deputy by its argument kinds
  kSplit,    // both sides do their part: `special` names the handler in the stub core
  kRefused,  // fails with `refusal` without asking anyone
  kHomeward,  // the process returns home and makes the call there; `refusal` if it cannot
};

// Handlers in the stub core. A call with a special and argument kinds can also be planned
// generically (plan_call).
enum class Special : uint8_t {
  kNone = 0,
  kClone,
  kClone3,
  kFork,
  kVfork,
  kExec,
  kExit,
  kExitGroup,
  kSigreturn,
  kSigaction,
  kSigaltstack,
  kRestart,
  kMmap,
  kFutex,
  kNanosleep,
  kClockNanosleep,
  kClockGettime,
  kArchPrctl,  // asking for AMX goes home
  kMembarrier,
  kSetTidAddress,
  kSetRobustList,
  kRseq,
  kPrctl,
  kSeccomp,
  kOpen,        // may name /proc/self/...: path argument is args[1], for open(2) args[0]
  kReadlink,    // the same
  kCloseRange,  // must step over the stub's own descriptors; a table for one thread alone is home's
  kRusage,      // CPU times are those of the body
  kTimes,
  kItimer,      // timers on CPU time run where the CPU time is spent
  kPosixTimer,  // the same
  kRlimit,      // the host's kernel has to enforce some of them
  kLock,
  kAffinity,
  kVmsplice,
  kProcessVm,  // local memory is here
  kProcessMadvise,
  kPersonality,
  kMaybeHome,  // some uses are homeward
  kMsync,
  kShmat,
  kShmdt,
  kMunmap,  // of 4 GiB and more: around the stub
  kGetRobustList,
  kTruncate,      // the file may be mapped private
  kPkeyMprotect,  // without a key: mprotect
  kGetrandom,     // of more than a page, which our doorbell would cut short
  kMadvise,       // guard pages, which the oldest kernels have not
  kWrite,         // a large one that does not wait goes in parts
  kMremap,        // what is shared moves at home, too
};

// A relative timeout, so that an interrupted call can be repeated with what is left. Its argument
// is `timeout_arg`.
enum class Timeout : uint8_t {
  kNone = 0,
  kMilliseconds,  // an int by value; negative: none
  kTimespec,      // pointer to two int64 (s, ns); NULL: none
  kTimeval,       // pointer to two int64 (s, us); NULL: none
};

enum class Kind : uint8_t {
  kValue = 0,  // by value, also an address that is not followed
  kFd,         // a descriptor, or -1
  kDirfd,      // a descriptor or AT_FDCWD
  // ---- from here on: pointers ----
  kFirstPointer,
  kString = kFirstPointer,  // NUL-terminated, PATH_MAX at most
  kIn,                      // `size` bytes, read by the kernel
  kOut,                     // `size` bytes, written in full on success
  kInOut,                   // `size` bytes, perhaps written; the old content goes along
  kTimeLeft,                // a timeout of which the kernel writes back what is left, if it can
  kBufferIn,                // bytes counted by argument `ref` (times `unit`): data of a write
  kBufferOut,               // the same, of a read: min(result * unit, capacity) come back
  kArrayIn,   // like kBufferIn, but more than `size` bytes are for the kernel to refuse, not to
              // shorten
  kArrayOut,  // written in full on success; capacity at most `size`
  kArrayInOut,
  kIovecIn,  // iovec[args[ref]]
  kIovecOut,
  kMessageIn,  // msghdr
  kMessageOut,
  kMessagesIn,  // mmsghdr[args[ref]]
  kMessagesOut,
  kSockaddrOut,        // capacity in *(int*)args[ref]; that argument is kSocklen
  kSocklen,            // handled with the argument that refers to it
  kOptionIn,           // setsockopt's value
  kOptionOut,          // getsockopt's value
  kPollFds,            // pollfd[args[ref]]
  kFdSet,              // fd_set of args[ref] bits
  kSigmaskPair,        // pselect6's {pointer, size}
  kStrings,            // argv, envp
  kMessageQueueEvent,  // mq_notify's sigevent
  kFileHandle,         // file_handle, its size inside
  kMountId,            // name_to_handle_at's: 8 bytes with AT_HANDLE_MNT_ID_UNIQUE, else 4
  kCapabilities,       // capget, capset: header is args[0], data args[1]
  kSizedStruct,        // first u32 is its size (sched_attr): inout
  // The kind depends on a command argument: src/stub/marshal_command.cc.
  kIoctl,
  kFcntl,
  kPrctl,
  kSemctl,
  kMsgctl,
  kShmctl,
  kKeyctl,
  kQuotactl,
  kFsconfig,
  kLandlock,
};

enum ArgFlag : uint8_t {
  kCountIsInt = 1,    // the count argument is an int: negative is for the kernel to refuse
  kTrimByResult = 2,  // kArrayOut: result * unit bytes come back
  kCount32 = 4,       // the count argument is an unsigned int
  kPlusLong = 8,      // eight bytes more than counted (msgsnd, msgrcv)
  kBounded = 16,      // kArrayOut: the kernel refuses a count beyond the bound
  kEndsAtFault =
      32,           // kArrayOut: filled as far as it can be written; EFAULT only if that is nothing
  kSizeIsInt = 64,  // the kernel refuses a count whose size in bytes no int can hold
};

struct Arg {
  Kind kind = Kind::kValue;
  uint8_t ref = 0;    // index of the argument that counts
  uint8_t unit = 1;   // bytes per counted element
  uint8_t flags = 0;  // ArgFlag
  uint32_t size = 0;  // of a fixed struct, or the bound of a counted one
};

struct SyscallInfo {
  uint16_t number = 0;
  Class where = Class::kUnknown;
  Special special = Special::kNone;
  uint8_t fd_mask = 0;       // bit i: argument i is a descriptor
  uint8_t pointer_mask = 0;  // bit i: argument i points to something that travels
  uint8_t refusal = 0;       // errno of a refused call, or of a homeward one that cannot go home
  Timeout timeout = Timeout::kNone;
  uint8_t timeout_arg = 0;
  uint8_t arg_count = 0;
  Arg args[6] = {};
};
static_assert(sizeof(SyscallInfo) == 60);

inline constexpr uint32_t kTableSize = 470;  // numbers from this on are unknown

// nullptr for a number that is no system call.
const SyscallInfo* syscall_info(uint64_t number);

}  // namespace tess::syscalls
