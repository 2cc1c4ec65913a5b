// Arguments with a shape of their own: sets of descriptors, timeouts, vectors of strings, structs
// that tell their size.
#include "stub/marshal_internal.h"

namespace tess::stub::marshal {
namespace {

void make_bad(Builder& b, uint8_t i) {
  if (b.args[i] != 0) {
    b.args[i] = kBadAddress;
  }
}

}  // namespace

int64_t plan_poll_fds(Builder& b, uint8_t i, const Arg& arg) {
  constexpr uint32_t kPollMax = 1 << 20;
  const auto count = static_cast<uint32_t>(b.args[arg.ref]);
  if (count > kPollMax) {
    make_bad(b, i);
    return 0;
  }
  const uint64_t address = b.args[i];
  const int32_t segment =
      plan_inout(b, i, address, uint64_t{count} * 8, uint64_t{count} * 8, kTrimNone);
  if (segment >= 0) {
    route_out(b, static_cast<uint32_t>(segment), Place::kRevents, address);
  }
  return 0;
}

int64_t plan_fd_set(Builder& b, uint8_t i, const Arg& arg) {
  constexpr int32_t kSelectMax = 1 << 20;  // the kernel looks no further than its fd table is long
  if (b.int_arg(arg.ref) < 0) {
    make_bad(b, i);
    return 0;
  }
  if (b.int_arg(arg.ref) > kSelectMax) {
    b.args[arg.ref] = kSelectMax;
  }
  const uint64_t size = (static_cast<uint64_t>(b.int_arg(arg.ref)) + 63) / 64 * 8;
  plan_inout(b, i, b.args[i], size, size, kTrimSuccess);
  return 0;
}

// A timeout is read; what is left is written back if that is possible (a constant timespec is
// fine).
int64_t plan_time_left(Builder& b, uint8_t i, const Arg& arg) {
  const uint64_t address = b.args[i];
  const int32_t segment = plan_in(b, i, address, arg.size);
  if (segment >= 0 && writable_bytes_app(address, arg.size) == arg.size) {
    b.plan.segments[segment].out_size = arg.size;
    route_out(b, static_cast<uint32_t>(segment), Place::kApp, address);
  }
  return 0;
}

int64_t plan_sigmask_pair(Builder& b, uint8_t i) {
  const uint64_t address = b.args[i];
  const int32_t holder = plan_in(b, i, address, 16);
  if (holder < 0) {
    return address == 0 ? 0 : -EFAULT;  // the kernel looks at the pair before all else
  }
  auto* pair = in_scratch<uint64_t>(b, static_cast<uint32_t>(b.plan.routes[holder].in_address));
  if (pair[0] == 0) {
    return 0;
  }
  const int32_t mask = plan_in(b, kNoArg, pair[0], 8);
  pair[0] = kBadAddress;
  if (mask >= 0) {
    add_fixup(b, static_cast<uint32_t>(holder), 0, static_cast<uint32_t>(mask));
  }
  return 0;
}

// argv, envp: an array of zeros and one run of strings; the deputy fills in the pointers.
int64_t plan_strings(Builder& b, uint8_t i) {
  const uint64_t vector = b.args[i];
  if (vector == 0) {
    return 0;
  }
  uint64_t total = 0;
  uint32_t count = 0;
  for (;; ++count) {
    uint64_t pointer;
    if (!copy_from_app(&pointer, vector + uint64_t{count} * 8, 8)) {
      b.args[i] = kBadAddress;
      return 0;
    }
    if (pointer == 0) {
      break;
    }
    const int64_t length = string_length_app(pointer, kArgStringMax);
    if (length < 0) {
      b.args[i] = kBadAddress;
      return 0;
    }
    total += static_cast<uint64_t>(length) + 1;
    if (length >= kArgStringMax || total + uint64_t{count} * 8 > kExecMax) {
      return -E2BIG;
    }
  }
  const uint32_t holder = add_segment(b, i, (uint64_t{count} + 1) * 8, 0);
  if (count != 0) {
    const uint32_t strings = add_segment(b, kNoArg, total, 0);
    route_in(b, strings, Place::kStrings, vector, count);
    add_fixup(b, holder, 0, strings, kFixupStrings);
  }
  return 0;
}

int64_t plan_message_queue_event(Builder& b, uint8_t i) {
  constexpr uint32_t kNotifyThread = 2;  // SIGEV_THREAD: sigev_value points to a 32-byte cookie
  const int32_t holder = plan_in(b, i, b.args[i], 64);
  if (holder < 0) {
    return 0;
  }
  const auto offset = static_cast<uint32_t>(b.plan.routes[holder].in_address);
  if (in_scratch<uint32_t>(b, offset)[3] == kNotifyThread) {
    auto* cookie = in_scratch<uint64_t>(b, offset);
    const int32_t target = plan_in(b, kNoArg, *cookie, 32);
    *cookie = kBadAddress;
    if (target >= 0) {
      add_fixup(b, static_cast<uint32_t>(holder), 0, static_cast<uint32_t>(target));
    }
  }
  return 0;
}

int64_t plan_file_handle(Builder& b, uint8_t i) {
  uint32_t bytes = 0;
  const uint64_t address = b.args[i];
  if (address == 0) {
    return 0;
  }
  if (!copy_from_app(&bytes, address, 4)) {
    b.args[i] = kBadAddress;
    return 0;
  }
  const uint64_t size = 8 + lesser(bytes, 128);  // MAX_HANDLE_SZ; a larger one is refused
  if (writable_bytes_app(address, size) == size) {
    plan_inout(b, i, address, size, size, kTrimNone);  // EOVERFLOW reports the size
  } else {
    plan_in(b, i, address, size);
  }
  return 0;
}

int64_t plan_mount_id(Builder& b, uint8_t i) {
  constexpr uint64_t kUnique = 1;  // AT_HANDLE_MNT_ID_UNIQUE
  constexpr uint8_t kFlags = 4;
  plan_out(b, i, b.args[i], (b.args[kFlags] & kUnique) != 0 ? 8 : 4, kTrimSuccess);
  return 0;
}

int64_t plan_capabilities(Builder& b) {
  constexpr uint32_t kVersion1 = 0x19980330;
  constexpr uint32_t kCapget = 125;
  uint32_t version = 0;
  if (b.args[0] != 0 && !copy_from_app(&version, b.args[0], 4)) {
    version = 0;
  }
  plan_inout(b, 0, b.args[0], 8, 8, kTrimNone);  // EINVAL reports the version wanted
  const uint64_t size = version == kVersion1 ? 12 : 24;
  if (b.info.number == kCapget) {
    plan_out(b, 1, b.args[1], size, kTrimSuccess);
  } else {
    plan_in(b, 1, b.args[1], size);
  }
  return 0;
}

int64_t plan_sized_struct(Builder& b, uint8_t i) {
  constexpr uint32_t kSmallestSize = 48;  // SCHED_ATTR_SIZE_VER0, what size 0 means
  uint32_t size = 0;
  const uint64_t address = b.args[i];
  if (address == 0) {
    return 0;
  }
  if (!copy_from_app(&size, address, 4)) {
    b.args[i] = kBadAddress;
    return 0;
  }
  if (size == 0 || size > 4096) {
    size = kSmallestSize;
  }
  const int32_t segment = plan_in(b, i, address, size < 4 ? 4 : size);
  if (segment >= 0 && writable_bytes_app(address, 4) == 4) {
    b.plan.segments[segment].out_size = 4;  // E2BIG reports the size wanted
    route_out(b, static_cast<uint32_t>(segment), Place::kApp, address);
  }
  return 0;
}

}  // namespace tess::stub::marshal
