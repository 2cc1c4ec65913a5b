// Random bytes are as good from the host's kernel. It ends a long call at a page when our doorbell
// rings; natively there is none to end it.
#include "stub/blob/body.h"

namespace tess::stub {

// What is made again is made from the start: bytes that nobody has seen are as good as others. In
// the vDSO it would be made again at each step out of it, so that it is completed there.
Answer getrandom_call(Trap& trap) {
  constexpr uint64_t kPage = 4096, kMost = 0x7fff'f000;  // MAX_RW_COUNT
  Slot* slot = trap.slot;
  const uint64_t size = lesser(trap.args[1], kMost);
  uint64_t done = 0;
  while (true) {
    const long part = sys(__NR_getrandom, trap.args[0] + done, size - done, trap.args[2]);
    if (part < 0) {
      return answer(done != 0 ? (int64_t)done : part);
    }
    done += (uint64_t)part;
    if (done == size || part == 0 || (uint64_t)part % kPage != 0) {
      return answer((int64_t)done);
    }
    if (must_park(slot)) {
      if (!in_vdso(slot, trap.context)) {
        return again();
      }
    } else if (slot->signal_count != 0) {
      fetch_signals(slot);
      if (received_signals(slot) != 0) {
        return answer((int64_t)done);
      }
    }
  }
}

}  // namespace tess::stub
