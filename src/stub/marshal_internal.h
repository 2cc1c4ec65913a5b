// Between the marshal_*.cc files only. A planner routine for argument i leaves args[i] as it is to
// travel: a value, 0, or kBadAddress; or attaches a segment to it. An application address never
// travels: at home it would be followed.
#pragma once

#include <asm-generic/errno.h>

#include "stub/marshal.h"

namespace tess::stub::marshal {

using syscalls::Arg;
using syscalls::Kind;
using syscalls::SyscallInfo;

inline constexpr uint32_t kArgStringMax = 128 << 10;  // MAX_ARG_STRLEN
inline constexpr uint32_t kExecMax = 16 << 20;        // more than any kernel takes (3/4 of 8 MiB)
inline constexpr uint32_t kPathMax = 4096;
inline constexpr uint32_t kSmall = 512;  // up to here, copy into scratch instead of probing first
inline constexpr uint32_t kIovMax = 1024;

// The end of the addresses that a program can have: the kernel refuses ranges beyond it before it
// looks at anything else.
inline constexpr uint64_t kUserEnd = 0x7fff'ffff'f000;
inline constexpr uint64_t kOutside = ~uint64_t{0xfff};

struct Builder {
  Plan& plan;
  const SyscallInfo& info;
  uint64_t (&args)[6];  // of the request
  Part part;            // of the data that is written

  int32_t int_arg(uint8_t i) const { return static_cast<int32_t>(args[i]); }
};

inline uint64_t padded(uint64_t size) {
  return (size + 7) & ~uint64_t{7};
}
inline bool outside(uint64_t address, uint64_t size) {
  return address > kUserEnd || size > kUserEnd - address;
}

// A new segment; its data from and to nowhere yet. Callers keep within kPlanSegments.
uint32_t add_segment(Builder& b, uint8_t arg, uint64_t in_size, uint64_t out_size,
                     Trim trim = kTrimNone);
void add_fixup(Builder& b, uint32_t holder, uint64_t offset, uint32_t target,
               FixupKind kind = kFixupPointer);
void route_in(Builder& b, uint32_t segment, Place place, uint64_t address, uint32_t count = 0);
void route_out(Builder& b, uint32_t segment, Place place, uint64_t address, uint32_t count = 0);
// Offset of `size` bytes in scratch, 8-aligned. Callers keep within kPlanScratch.
uint32_t take_scratch(Builder& b, uint64_t size);
template <typename T>
T* in_scratch(Builder& b, uint32_t offset) {
  return reinterpret_cast<T*>(b.plan.scratch + offset);
}
// Whether a buffer that may stay partly unused can be written: looks at its first byte only.
bool seems_writable(uint64_t address, uint64_t size);

// One argument by its kind. 0 or -errno.
int64_t plan_arg(Builder& b, uint8_t i, const Arg& arg);

// marshal.cc: nested or not, `arg` may be kNoArg (then the caller adds the fixup). Each returns the
// segment, or -1 if the address is bad or NULL. With an arg, args[arg] is set to kBadAddress if
// bad.
int32_t plan_in(Builder& b, uint8_t arg, uint64_t address, uint64_t size);
int32_t plan_out(Builder& b, uint8_t arg, uint64_t address, uint64_t size, Trim trim);
int32_t plan_inout(Builder& b, uint8_t arg, uint64_t address, uint64_t size, uint64_t out_size,
                   Trim trim);
int32_t plan_string(Builder& b, uint8_t arg, uint64_t address);

// marshal_struct.cc
int64_t plan_poll_fds(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_fd_set(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_time_left(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_sigmask_pair(Builder& b, uint8_t i);
int64_t plan_strings(Builder& b, uint8_t i);
int64_t plan_message_queue_event(Builder& b, uint8_t i);
int64_t plan_file_handle(Builder& b, uint8_t i);
int64_t plan_mount_id(Builder& b, uint8_t i);
int64_t plan_capabilities(Builder& b);
int64_t plan_sized_struct(Builder& b, uint8_t i);

// marshal_message.cc
int64_t plan_iovec(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_message(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_messages(Builder& b, uint8_t i, const Arg& arg);
bool finish_messages(Plan& plan, int64_t result);  // false: a header could not be written

// marshal_socket.cc
int64_t plan_sockaddr_out(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_option_in(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_option_out(Builder& b, uint8_t i, const Arg& arg);

// marshal_command.cc, marshal_ioctl.cc
int64_t plan_by_command(Builder& b, uint8_t i, const Arg& arg);
int64_t plan_ioctl(Builder& b, uint8_t i, uint32_t command);

}  // namespace tess::stub::marshal
