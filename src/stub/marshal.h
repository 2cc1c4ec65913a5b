// The body's marshalling: turns one system call of the application into a Request with its
// segments, and the reply's segments into what the kernel would have written. Freestanding, no
// state of its own, no locks: the caller owns the Plan (one per thread, e.g. in the slot's arena)
// for the length of one call:
//   plan_call -> set request.sequence, flags, deadline_ns -> write_request -> [Reply] ->
//   finish_call -> [SignalRecords]
// Bad pointers: an argument or nested pointer that cannot be read or written travels as kBadAddress
// without a segment, so that the deputy's kernel finds the very error, in the very order, that a
// native call would. Nothing here trusts the reply: sizes are bounded by the plan.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "stub/abi.h"
#include "syscalls/kinds.h"

namespace tess::stub {

// ---- provided by the core: application memory with fault fix-up ----
bool copy_from_app(void* to, uint64_t from, size_t n);      // false: some byte is not readable
bool copy_to_app(uint64_t to, const void* from, size_t n);  // false: some byte is not writable
// Bytes before the NUL; `max` if there is none in the first `max` bytes; -EFAULT.
int64_t string_length_app(uint64_t from, size_t max);
// Length of the accessible prefix of [from, from + n): touches one byte a page. The writable probe
// must not change the content even if another thread writes there (lock or 0).
uint64_t readable_bytes_app(uint64_t from, uint64_t n);
uint64_t writable_bytes_app(uint64_t from, uint64_t n);

// ---- provided by the core: the channel's byte stream. false: the channel has ended ----
struct RequestWriter {
  void* context;
  bool (*write)(void* context, const void* from, size_t n);
  // From application memory; bytes that have become unreadable since the plan was made are sent as
  // zeros.
  bool (*write_app)(void* context, uint64_t from, size_t n);
};
struct ReplyReader {
  void* context;
  bool (*read)(void* context, void* to, size_t n);
  // To application memory. `*copied` is the length of the prefix that could be written; the rest is
  // read and dropped.
  bool (*read_app)(void* context, uint64_t to, size_t n, size_t* copied);
};

// ---- the plan ----
// Below what may be mapped. It passes access_ok, as the application's address has done: EFAULT
// comes only when the kernel gets so far as to follow it.
inline constexpr uint64_t kBadAddress = 0x1000;
inline constexpr uint64_t kTransferMax =
    uint64_t{256} << 20;  // data of one call; longer reads and writes are shortened
inline constexpr uint32_t kPlanMessages = 64;  // of one sendmmsg or recvmmsg
inline constexpr uint32_t kPlanSegments = 4 + 3 * kPlanMessages;
inline constexpr uint32_t kPlanFixups = 4 + 4 * kPlanMessages;
inline constexpr uint32_t kPlanPieces = 1024 + 8;
inline constexpr uint32_t kPlanScratch = 16 << 10;

struct Piece {  // a struct iovec of the application
  uint64_t address;
  uint64_t size;
};

enum class Place : uint8_t {
  kNone,     // in: zeros. out: dropped
  kApp,      // application memory at `address`; out: of message `count` - 1 if `count` is not 0
  kScratch,  // plan.scratch + address
  kPieces,   // plan.pieces[address .. address + count), one after the other
  kStrings,  // in: the NUL-terminated strings of the application's pointer vector at `address`
  kRevents,  // out: pollfds at `address`, of which only revents is written
};

struct Route {  // where a segment's data comes from and goes to
  uint64_t in_address;
  uint64_t out_address;
  uint32_t in_count;
  uint32_t out_count;
  Place in;
  Place out;
};

struct Plan {
  Request request;
  uint32_t scratch_used;
  uint32_t piece_count;
  uint32_t message_count;   // kMessage(s)Out: headers to finish
  uint32_t header_scratch;  // where the first header is in scratch
  uint32_t header_stride;   // 56 (msghdr) or 64 (mmsghdr)
  uint32_t cut_at_fault;  // an array to be filled ends before a bad page: EINVAL, too short, means
                          // EFAULT
  uint32_t receiving;     // names, control data and flags come back too
  uint64_t header_address;  // of the first header in the application, 0: nothing to finish
  Segment segments[kPlanSegments];
  Route routes[kPlanSegments];
  Fixup fixups[kPlanFixups];
  Piece pieces[kPlanPieces];
  alignas(8) uint8_t scratch[kPlanScratch];
};
static_assert(sizeof(Plan) <= kSlotArenaSize);

// What plan_call says of a call that only a process at home can make: this less the errno for one
// that cannot go there. Its first argument is a descriptor.
inline constexpr int64_t kPlanAtHome = -8192;
inline int64_t only_at_home(int64_t error) {
  return kPlanAtHome - error;
}

// Fills the plan from the call's table entry. 0: send it. -errno: the call fails so without asking
// home. Plan need not be initialised. Leaves request.sequence, flags and deadline_ns 0.
int64_t plan_call(Plan& plan, const syscalls::SyscallInfo& info, const uint64_t args[6]);

constexpr uint64_t lesser(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

// Of the data of a write or send: `size` bytes at most, those behind the first `skip`.
struct Part {
  uint64_t skip;
  uint64_t size;
};
int64_t plan_part(Plan& plan, const syscalls::SyscallInfo& info, const uint64_t args[6],
                  const Part& part);

// Request header, segments, fixups, in-data: all that is on the wire.
bool write_request(const Plan& plan, const RequestWriter& writer);

// Reads the out-segments of a reply whose result is `*result` (also kRestart and kKicked), puts
// them where they belong, and corrects *result if application memory has become bad. false: the
// channel ended or the reply makes no sense.
bool finish_call(Plan& plan, int64_t* result, const ReplyReader& reader);

}  // namespace tess::stub
