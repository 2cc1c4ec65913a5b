// Transfers that only a handler, an error or a timeout ends early. A move that comes in the middle
// of one finds a part of it done; the program must not see that: the call goes on with the rest.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace tess::stub {

// How such a call names its data: args[1] and args[2] are a buffer and its size, a vector and its
// length, or args[1] is a message. kNone: any other call.
enum class Transfer { kNone, kBuffer, kVector, kMessage };

struct MessageHeader {  // struct user_msghdr
  uint64_t name;
  uint64_t name_length;
  uint64_t iovec;
  uint64_t iovec_count;
  uint64_t control;
  uint64_t control_length;
  uint64_t flags;
};

inline constexpr Transfer transfer_of(uint64_t number, const uint64_t args[6]) {
  constexpr uint64_t kMsgOob = 1, kMsgPeek = 2, kMsgDontwait = 0x40, kMsgWaitall = 0x100;
  constexpr uint64_t kOther = kMsgOob | kMsgPeek | kMsgDontwait;
  const auto sends = [](uint64_t flags) { return (flags & kOther) == 0; };
  const auto receives = [](uint64_t flags) {
    return (flags & (kOther | kMsgWaitall)) == kMsgWaitall;
  };
  switch (number) {
    case __NR_write:
      return Transfer::kBuffer;
    case __NR_writev:
      return Transfer::kVector;
    case __NR_sendto:
      return sends(args[3]) ? Transfer::kBuffer : Transfer::kNone;
    case __NR_recvfrom:
      return receives(args[3]) ? Transfer::kBuffer : Transfer::kNone;
    case __NR_sendmsg:
      return sends(args[2]) ? Transfer::kMessage : Transfer::kNone;
    case __NR_recvmsg:
      return receives(args[2]) ? Transfer::kMessage : Transfer::kNone;
    default:
      return Transfer::kNone;
  }
}

// Pipes, sockets and terminals, if they wait at all (`file_flags`: those of F_GETFL). A socket has
// to be one of streams without a timeout of its own, besides.
inline constexpr bool waits_for_room(uint32_t mode, uint64_t device, uint64_t file_flags) {
  constexpr uint32_t kTypeMask = 0170000, kSocket = 0140000, kFifo = 0010000, kTerminal = 0020000;
  constexpr uint64_t kNonblock = 04000;
  const uint64_t major = device >> 8 & 0xfff;
  const uint32_t type = mode & kTypeMask;
  // Documentation/admin-guide/devices.txt: 4, 5 and those of /dev/pts.
  const bool terminal =
      type == kTerminal && (major == 4 || major == 5 || (major >= 136 && major <= 143));
  return (file_flags & kNonblock) == 0 && (type == kSocket || type == kFifo || terminal);
}

}  // namespace tess::stub
