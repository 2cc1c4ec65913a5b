// Large writes that do not wait. A socket or pipe takes what it has room for, and the program comes
// with the rest again: carrying all of it each time would cost many times the data. So it goes in
// parts, until the kernel itself takes less than it is given: that is what the program is told.
#include "stub/blob/body.h"
#include "stub/transfer.h"

namespace tess::stub {
namespace {

inline constexpr uint64_t kLarge = 128 << 10;  // less than that costs no more than to ask
inline constexpr uint64_t kPage = 4096;

// Bytes of a vector; 0 if it is none, for the call to find out.
uint64_t vector_size(uint64_t address, uint64_t count) {
  constexpr uint64_t kIovMax = 1024, kAtOnce = 32;
  uint64_t total = 0;
  Piece pieces[kAtOnce];
  for (uint64_t at = 0; count <= kIovMax && at < count; at += kAtOnce) {
    const uint64_t n = lesser(count - at, kAtOnce);
    if (!copy_from_app(pieces, address + at * sizeof(Piece), n * sizeof(Piece))) {
      return 0;
    }
    for (uint64_t i = 0; i < n; ++i) {
      if ((int64_t)pieces[i].size < 0) {
        return 0;
      }
      total = lesser(total + lesser(pieces[i].size, kTransferMax), kTransferMax);
    }
  }
  return total;
}

// Of the data; 0 if it is to be carried as it is. What comes with a message beside its data comes
// with all of it.
uint64_t data_size(const Trap& trap) {
  const uint64_t* a = trap.args;
  MessageHeader header;
  switch (trap.number) {
    case __NR_writev:
      return vector_size(a[1], a[2]);
    case __NR_sendmsg:
      return copy_from_app(&header, a[1], sizeof(header)) && header.control == 0
                 ? vector_size(header.iovec, header.iovec_count)
                 : 0;
    default:
      return (int64_t)a[2] < 0 ? 0 : lesser(a[2], kTransferMax);
  }
}

int64_t ask_room(Trap& trap) {
  const uint64_t* a = trap.args;
  const uint64_t flags =
      trap.number == __NR_sendto ? a[3] : (trap.number == __NR_sendmsg ? a[2] : 0);
  const uint64_t args[6] = {a[0], (uint32_t)flags, 0, 0, 0, 0};
  return own_request(trap.slot, kOpWriteRoom, args, nullptr, 0, 1u << 0);
}

}  // namespace

Answer write_call(Trap& trap, const syscalls::SyscallInfo& info) {
  constexpr uint32_t kManySignals = 4;  // the queue has room for more of one reply
  const uint64_t total = data_size(trap);
  if (total <= kLarge || trap.done != 0) {
    return carried_call(trap, info);
  }
  const int64_t room = ask_room(trap);
  if (received_signals(trap.slot) != 0) {
    return again();  // their handlers come before a call that may wait
  }
  if (room < (int64_t)kPage) {
    return carried_call(trap, info);
  }
  // A pipe puts what is beyond whole pages where its last page has room: that goes first.
  const uint64_t whole = (uint64_t)room & ~(kPage - 1);
  const uint64_t first = lesser(total, whole + (total & (kPage - 1)));
  const Answer begun = carried_part(trap, info, {0, first}, 0);
  if (begun.outcome != Outcome::kResult || begun.result != (int64_t)first) {
    return begun;
  }
  uint64_t done = first;
  while (done < total && received_signals(trap.slot) < kManySignals) {
    const uint64_t size = lesser(total - done, whole);
    const Answer next = carried_part(trap, info, {done, size}, kRequestGoOn);
    if (next.outcome != Outcome::kResult || next.result <= 0) {
      break;
    }
    done += (uint64_t)next.result;
    if ((uint64_t)next.result < size) {
      break;
    }
  }
  return answer((int64_t)done);
}

}  // namespace tess::stub
