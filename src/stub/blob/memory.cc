// The application's memory as the marshaller sees it, slots, locks and the clock.
#include "stub/blob/core.h"
#include "stub/marshal.h"

namespace tess::stub {

bool copy_from_app(void* to, uint64_t from, size_t n) {
  return tess_copy(to, (const void*)from, n) == 0;
}
bool copy_to_app(uint64_t to, const void* from, size_t n) {
  return tess_copy((void*)to, from, n) == 0;
}

int64_t string_length_app(uint64_t from, size_t max) {
  const long n = tess_string_length(from, max);
  return n < 0 ? kEfault : n;
}

namespace {

inline constexpr uint64_t kPage = 4096;

uint64_t accessible(uint64_t from, uint64_t n, int (*probe)(uint64_t)) {
  if (n == 0) {
    return 0;
  }
  if (from + n < from) {
    n = 0 - from;
  }
  uint64_t at = from;
  while (at - from < n) {
    if (probe(at) != 0) {
      return at - from;
    }
    at = (at & ~(kPage - 1)) + kPage;
  }
  return n;
}

}  // namespace

uint64_t readable_bytes_app(uint64_t from, uint64_t n) {
  return accessible(from, n, tess_probe_read);
}
uint64_t writable_bytes_app(uint64_t from, uint64_t n) {
  return accessible(from, n, tess_probe_write);
}

void lock(uint32_t* word) {
  constexpr int kWaitPrivate = 128;
  uint32_t expected = 0;
  if (__atomic_compare_exchange_n(word, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
    return;
  }
  while (__atomic_exchange_n(word, 2, __ATOMIC_ACQUIRE) != 0) {
    sys(__NR_futex, word, kWaitPrivate, 2, 0, 0, 0);
  }
}

void unlock(uint32_t* word) {
  constexpr int kWakePrivate = 129;
  if (__atomic_exchange_n(word, 0, __ATOMIC_RELEASE) == 2) {
    sys(__NR_futex, word, kWakePrivate, 1, 0, 0, 0);
  }
}

int64_t clock_ns(int clock) {
  Timespec now{};
  sys(__NR_clock_gettime, clock, &now);
  return ns_of(now);
}

int64_t monotonic_ns() {
  return clock_ns(1);
}

int32_t take_slot(Slot* self) {
  ControlBlock& control = control_of(self);
  lock(&control.slots_lock);
  int32_t found = -1;
  for (uint32_t word = 0; word < 64 && found < 0; ++word) {
    const uint64_t bits = __atomic_load_n(&control.slot_bitmap[word], __ATOMIC_RELAXED);
    if (bits != ~uint64_t{0}) {
      const uint32_t bit = (uint32_t)__builtin_ctzll(~bits);
      const uint32_t index = word * 64 + bit;
      if (index < kSlotCount) {
        found = (int32_t)index;
      }
    }
  }
  constexpr int kReadWrite = 3;
  Slot* slot = found < 0 ? nullptr : slot_at(self, (uint32_t)found);
  if (slot == nullptr || sys(__NR_mprotect, slot, kSlotSize, kReadWrite) < 0) {
    unlock(&control.slots_lock);
    return -1;
  }
  memset(slot, 0, sizeof(Slot));
  slot->region_base = self->region_base;
  slot->index = (uint32_t)found;
  slot->state = kSlotStarting;
  slot->channel_fd = control.fd_base + 1 + found;
  slot->thread.repeat_number = -1;
  // Last: other threads look into every slot in use.
  __atomic_or_fetch(&control.slot_bitmap[found / 64], uint64_t{1} << (found % 64),
                    __ATOMIC_RELEASE);
  unlock(&control.slots_lock);
  return found;
}

void free_slot(Slot* self, uint32_t index) {
  __atomic_and_fetch(&control_of(self).slot_bitmap[index / 64], ~(uint64_t{1} << (index % 64)),
                     __ATOMIC_RELEASE);
}

void close_other_channels(Slot* slot) {
  const ControlBlock& control = control_of(slot);
  for_each_slot(control, [&](uint32_t index) {
    if (index != slot->index) {
      sys(__NR_close, slot_at(slot, index)->channel_fd);
    }
  });
}

int32_t out_of_the_way(const ControlBlock& control, int32_t fd) {
  constexpr int kFDupfdCloexec = 1030, kRlimitNofile = 7;
  const int32_t first = control.fd_base + 1 + (int32_t)kSlotCount;
  long moved = sys(__NR_fcntl, fd, kFDupfdCloexec, first);
  if (moved < 0) {
    uint64_t limit[2] = {0, 0};
    sys(__NR_prlimit64, 0, kRlimitNofile, 0, limit);
    limit[0] = limit[1];
    sys(__NR_prlimit64, 0, kRlimitNofile, limit, 0);
    moved = sys(__NR_fcntl, fd, kFDupfdCloexec, first);
  }
  if (moved < 0) {
    return fd;
  }
  sys(__NR_close, fd);
  return (int32_t)moved;
}

void begin_alone(Slot* slot) {
  ControlBlock& control = control_of(slot);
  memset(control.slot_bitmap, 0, sizeof(control.slot_bitmap));
  control.slot_bitmap[slot->index / 64] = uint64_t{1} << (slot->index % 64);
  control.in_use = 1;
  control.parked = 0;
  control.freeze = 0;
  control.has_server = 0;
  control.server_wanted = 0;
  control.mailbox_lock = 0;
  control.slots_lock = 0;
  control.all_locked = 0;
  control.timers_lock = 0;
  control.actions_lock = 0;
  control.posix_timer_count = 0;
  control.cpu_limit_timer = 0;
}

}  // namespace tess::stub
