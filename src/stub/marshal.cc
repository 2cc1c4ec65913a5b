#include "stub/marshal.h"

#include "stub/marshal_internal.h"

namespace tess::stub {
namespace marshal {
namespace {

using namespace syscalls;  // the argument flags

enum : uint32_t { kRead = 0, kWrite = 1, kPread64 = 17, kPwrite64 = 18 };
enum : uint32_t { kReadv = 19, kWritev = 20, kPreadv = 295, kPwritev = 296 };

// What a counted argument asks for.
struct Count {
  uint64_t value;
  bool valid;  // false: for the kernel to refuse
};

Count count_of(const Builder& b, const Arg& arg) {
  const uint64_t raw = b.args[arg.ref];
  if (arg.flags & kCountIsInt) {
    const auto value = static_cast<int32_t>(raw);
    return {static_cast<uint64_t>(static_cast<uint32_t>(value)), value >= 0};
  }
  return {arg.flags & kCount32 ? static_cast<uint32_t>(raw) : raw, true};
}

void make_bad(Builder& b, uint8_t i) {
  if (b.args[i] != 0) {
    b.args[i] = kBadAddress;
  }
}

// read and write of a buffer that is accessible only in part: as an iovec whose second element is
// NULL, so that the kernel at home comes to the bad page at the same byte, with the outcome that
// this has for that kind of file.
bool plan_partly_bad(Builder& b, uint8_t i, const Arg& arg, uint64_t good, uint64_t size,
                     bool reading) {
  Request& request = b.plan.request;
  if (request.op == kRead || request.op == kWrite) {
    request.op = reading ? kReadv : kWritev;
  } else if (request.op == kPread64 || request.op == kPwrite64) {
    request.op = reading ? kPreadv : kPwritev;
    b.args[4] = 0;
  } else {
    return false;
  }
  const uint32_t offset = take_scratch(b, 32);
  auto* iovec = in_scratch<uint64_t>(b, offset);
  iovec[0] = 0;
  iovec[1] = good;
  iovec[2] = 0;
  iovec[3] = size - good;
  const uint64_t address = b.args[i];
  const uint32_t holder = add_segment(b, i, 32, 0);
  route_in(b, holder, Place::kScratch, offset);
  const uint32_t data = add_segment(b, kNoArg, reading ? 0 : good, reading ? good : 0, kTrimResult);
  b.plan.segments[data].trim_unit = 1;
  if (reading) {
    route_out(b, data, Place::kApp, address);
  } else {
    route_in(b, data, Place::kApp, address);
  }
  add_fixup(b, holder, 0, data);
  b.args[arg.ref] = 2;
  return true;
}

int64_t plan_buffer(Builder& b, uint8_t i, const Arg& arg) {
  const bool reading = arg.kind == Kind::kBufferOut;
  uint64_t address = b.args[i];
  if (address == 0) {
    return 0;
  }
  uint64_t size = b.args[arg.ref];
  if (address >= kUserEnd || static_cast<int64_t>(size) < 0) {
    b.args[i] = address >= kUserEnd ? kOutside : kBadAddress;
    return 0;
  }
  const uint64_t skip = lesser(b.part.skip, size);
  address += skip;
  size = lesser(lesser(size - skip, b.part.size), kTransferMax);
  b.args[arg.ref] = size;
  uint64_t good = size;
  if (!reading) {
    good = readable_bytes_app(address, size);
  } else if (!seems_writable(address, size)) {
    good = 0;
  } else if (size != 0 && writable_bytes_app(address + size - 1, 1) == 0) {
    good = writable_bytes_app(address, size);
  }
  if (good < size) {
    if (good == 0 || !plan_partly_bad(b, i, arg, good, size, reading)) {
      b.args[i] = kBadAddress;
    }
    return 0;
  }
  const uint32_t segment =
      add_segment(b, i, reading ? 0 : size, reading ? size : 0, reading ? kTrimResult : kTrimNone);
  if (reading) {
    b.plan.segments[segment].trim_unit = 1;
    route_out(b, segment, Place::kApp, address);
  } else {
    route_in(b, segment, Place::kApp, address);
  }
  return 0;
}

int64_t plan_array(Builder& b, uint8_t i, const Arg& arg) {
  const Count count = count_of(b, arg);
  const uint64_t limit = arg.size / arg.unit;
  if (b.args[i] == 0) {
    return 0;
  }
  const bool too_many = !count.valid || count.value > limit;
  if (too_many && arg.kind == Kind::kArrayIn && (arg.flags & kPlusLong) != 0) {
    plan_in(b, i, b.args[i], 8);  // the kernel reads the type, and then refuses the size
    return 0;
  }
  const bool lowered = arg.kind == Kind::kArrayOut && (arg.flags & kBounded) == 0;
  const bool negative = (arg.flags & kPlusLong) != 0 && static_cast<int64_t>(count.value) < 0;
  const bool oversized =
      (arg.flags & kSizeIsInt) != 0 && count.value > uint64_t{0x7fff'ffff} / arg.unit;
  if (!count.valid || negative || oversized || (!lowered && count.value > limit)) {
    make_bad(b, i);
    return 0;
  }
  uint64_t elements = count.value;
  if (elements > limit) {
    elements = limit;
    b.args[arg.ref] = limit;
  }
  if ((arg.flags & kEndsAtFault) != 0) {
    const uint64_t good = writable_bytes_app(b.args[i], elements);
    if (good != 0 && good < elements) {
      elements = good;
      b.args[arg.ref] = good;
      b.plan.cut_at_fault = 1;
    }
  }
  const uint32_t extra = arg.flags & kPlusLong ? 8 : 0;
  const uint64_t size = elements * arg.unit + extra;
  if (arg.kind == Kind::kArrayIn) {
    plan_in(b, i, b.args[i], size);
  } else if (arg.kind == Kind::kArrayInOut) {
    plan_inout(b, i, b.args[i], size, size, kTrimSuccess);
  } else if (!(arg.flags & kTrimByResult)) {
    plan_out(b, i, b.args[i], size, kTrimSuccess);
  } else {
    const int32_t segment = plan_out(b, i, b.args[i], size, kTrimResult);
    if (segment >= 0) {
      b.plan.segments[segment].trim_unit = arg.unit;
      b.plan.segments[segment].trim_offset = extra;
    }
  }
  return 0;
}

}  // namespace

uint32_t add_segment(Builder& b, uint8_t arg, uint64_t in_size, uint64_t out_size, Trim trim) {
  const uint32_t index = b.plan.request.segment_count++;
  b.plan.segments[index] = {.in_size = static_cast<uint32_t>(in_size),
                            .out_size = static_cast<uint32_t>(out_size),
                            .arg = arg,
                            .trim = static_cast<uint8_t>(trim),
                            .trim_unit = 0,
                            .trim_offset = 0};
  b.plan.routes[index] = {.in_address = 0,
                          .out_address = 0,
                          .in_count = 0,
                          .out_count = 0,
                          .in = Place::kNone,
                          .out = Place::kNone};
  if (arg != kNoArg) {
    b.args[arg] = 0;
  }
  return index;
}

void add_fixup(Builder& b, uint32_t holder, uint64_t offset, uint32_t target, FixupKind kind) {
  b.plan.fixups[b.plan.request.fixup_count++] = {.holder = static_cast<uint16_t>(holder),
                                                 .target = static_cast<uint16_t>(target),
                                                 .offset = static_cast<uint32_t>(offset),
                                                 .target_offset = 0,
                                                 .kind = kind};
}

void route_in(Builder& b, uint32_t segment, Place place, uint64_t address, uint32_t count) {
  Route& route = b.plan.routes[segment];
  route.in = place;
  route.in_address = address;
  route.in_count = count;
}

void route_out(Builder& b, uint32_t segment, Place place, uint64_t address, uint32_t count) {
  Route& route = b.plan.routes[segment];
  route.out = place;
  route.out_address = address;
  route.out_count = count;
}

uint32_t take_scratch(Builder& b, uint64_t size) {
  const uint32_t offset = b.plan.scratch_used;
  b.plan.scratch_used += static_cast<uint32_t>(padded(size));
  return offset;
}

bool seems_writable(uint64_t address, uint64_t size) {
  return size == 0 || writable_bytes_app(address, 1) == 1;
}

int32_t plan_in(Builder& b, uint8_t arg, uint64_t address, uint64_t size) {
  if (address == 0) {
    return -1;
  }
  Place place = Place::kApp;
  uint64_t from = address;
  bool good = true;
  if (size <= kSmall && b.plan.scratch_used + padded(size) <= kPlanScratch) {
    place = Place::kScratch;
    from = take_scratch(b, size);
    good = copy_from_app(b.plan.scratch + from, address, size);
  } else {
    good = readable_bytes_app(address, size) == size;
  }
  if (!good) {
    if (arg != kNoArg) {
      b.args[arg] = kBadAddress;
    }
    return -1;
  }
  const uint32_t segment = add_segment(b, arg, size, 0);
  route_in(b, segment, place, from);
  return static_cast<int32_t>(segment);
}

int32_t plan_out(Builder& b, uint8_t arg, uint64_t address, uint64_t size, Trim trim) {
  if (address == 0) {
    return -1;
  }
  const bool good = trim == kTrimSuccess || trim == kTrimNone
                        ? writable_bytes_app(address, size) == size
                        : seems_writable(address, size);
  if (!good) {
    if (arg != kNoArg) {
      b.args[arg] = kBadAddress;
    }
    return -1;
  }
  const uint32_t segment = add_segment(b, arg, 0, size, trim);
  route_out(b, segment, Place::kApp, address);
  return static_cast<int32_t>(segment);
}

int32_t plan_inout(Builder& b, uint8_t arg, uint64_t address, uint64_t size, uint64_t out_size,
                   Trim trim) {
  if (address != 0 && writable_bytes_app(address, out_size) != out_size) {
    if (arg != kNoArg) {
      b.args[arg] = kBadAddress;
    }
    return -1;
  }
  const int32_t segment = plan_in(b, arg, address, size);
  if (segment >= 0) {
    b.plan.segments[segment].out_size = static_cast<uint32_t>(out_size);
    b.plan.segments[segment].trim = static_cast<uint8_t>(trim);
    route_out(b, static_cast<uint32_t>(segment), Place::kApp, address);
  }
  return segment;
}

int32_t plan_string(Builder& b, uint8_t arg, uint64_t address) {
  if (address == 0) {
    return -1;
  }
  const int64_t length = string_length_app(address, kPathMax);
  if (length < 0) {
    if (arg != kNoArg) {
      b.args[arg] = kBadAddress;
    }
    return -1;
  }
  // Too long: the first PATH_MAX bytes go, and a NUL, so that the kernel says ENAMETOOLONG in its
  // own order.
  const auto size = static_cast<uint64_t>(length);
  const uint32_t piece = b.plan.piece_count;
  b.plan.pieces[piece] = {.address = address, .size = size};
  ++b.plan.piece_count;
  const uint32_t segment = add_segment(b, arg, size + 1, 0);
  route_in(b, segment, Place::kPieces, piece, 1);  // what the pieces do not fill is zero
  return static_cast<int32_t>(segment);
}

int64_t plan_arg(Builder& b, uint8_t i, const Arg& arg) {
  switch (arg.kind) {
    case Kind::kValue:
    case Kind::kFd:
    case Kind::kDirfd:
    case Kind::kSocklen:  // done with the argument that refers to it
      return 0;
    case Kind::kBufferIn:
    case Kind::kBufferOut:
      return plan_buffer(b, i, arg);
    case Kind::kString:
      plan_string(b, i, b.args[i]);
      return 0;
    case Kind::kIn:
      plan_in(b, i, b.args[i], arg.size);
      return 0;
    case Kind::kOut:
      plan_out(b, i, b.args[i], arg.size, kTrimSuccess);
      return 0;
    case Kind::kInOut:
      plan_inout(b, i, b.args[i], arg.size, arg.size, kTrimSuccess);
      return 0;
    case Kind::kTimeLeft:
      return plan_time_left(b, i, arg);
    case Kind::kArrayIn:
    case Kind::kArrayOut:
    case Kind::kArrayInOut:
      return plan_array(b, i, arg);
    case Kind::kIovecIn:
    case Kind::kIovecOut:
      return plan_iovec(b, i, arg);
    case Kind::kMessageIn:
    case Kind::kMessageOut:
      return plan_message(b, i, arg);
    case Kind::kMessagesIn:
    case Kind::kMessagesOut:
      return plan_messages(b, i, arg);
    case Kind::kSockaddrOut:
      return plan_sockaddr_out(b, i, arg);
    case Kind::kOptionIn:
      return plan_option_in(b, i, arg);
    case Kind::kOptionOut:
      return plan_option_out(b, i, arg);
    case Kind::kPollFds:
      return plan_poll_fds(b, i, arg);
    case Kind::kFdSet:
      return plan_fd_set(b, i, arg);
    case Kind::kSigmaskPair:
      return plan_sigmask_pair(b, i);
    case Kind::kStrings:
      return plan_strings(b, i);
    case Kind::kMessageQueueEvent:
      return plan_message_queue_event(b, i);
    case Kind::kFileHandle:
      return plan_file_handle(b, i);
    case Kind::kMountId:
      return plan_mount_id(b, i);
    case Kind::kCapabilities:
      return plan_capabilities(b);
    case Kind::kSizedStruct:
      return plan_sized_struct(b, i);
    default:
      return plan_by_command(b, i, arg);
  }
}

}  // namespace marshal

int64_t plan_call(Plan& plan, const syscalls::SyscallInfo& info, const uint64_t args[6]) {
  return plan_part(plan, info, args, {0, kTransferMax});
}

int64_t plan_part(Plan& plan, const syscalls::SyscallInfo& info, const uint64_t args[6],
                  const Part& part) {
  Request& request = plan.request;
  request = {};
  request.op = info.number;
  request.fd_mask = info.fd_mask;
  for (uint8_t i = 0; i < 6; ++i) {
    request.args[i] = args[i];
  }
  plan.cut_at_fault = 0;
  plan.scratch_used = 0;
  plan.piece_count = 0;
  plan.message_count = 0;
  plan.header_address = 0;
  marshal::Builder builder{plan, info, request.args, part};
  for (uint32_t rest = info.pointer_mask; rest != 0; rest &= rest - 1) {
    const auto i = static_cast<uint8_t>(__builtin_ctz(rest));
    const int64_t error = marshal::plan_arg(builder, i, info.args[i]);
    if (error != 0) {
      return error;
    }
  }
  uint64_t payload = uint64_t{request.segment_count} * sizeof(Segment) +
                     uint64_t{request.fixup_count} * sizeof(Fixup);
  for (uint32_t s = 0; s < request.segment_count; ++s) {
    payload += marshal::padded(plan.segments[s].in_size);
  }
  request.payload_size = payload;
  return 0;
}

}  // namespace tess::stub
