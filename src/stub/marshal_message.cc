// Scattered data: iovecs, msghdr and vectors of msghdr. The pieces of one iovec become one segment
// at home, behind an iovec of one element; a bad piece becomes a second element at NULL, where the
// kernel stops as it would have stopped here.
#include "stub/marshal_internal.h"

namespace tess::stub::marshal {
namespace {

inline constexpr uint32_t kSockaddrMax = 128;       // sizeof(sockaddr_storage)
inline constexpr uint32_t kControlMax = 256 << 10;  // more than any optmem_max in use
inline constexpr uint32_t kZeroCopy = 0x4000000;    // MSG_ZEROCOPY

struct MessageHeader {  // struct user_msghdr
  uint64_t name;
  int32_t name_length;
  uint32_t pad;
  uint64_t iovec;
  uint64_t iovec_count;
  uint64_t control;
  uint64_t control_length;
  uint32_t flags;
  uint32_t pad2;
};
static_assert(sizeof(MessageHeader) == 56);
inline constexpr uint32_t kMessagesStride = 64;  // struct mmsghdr: and u32 msg_len, u32

struct Vector {    // an iovec of the application, looked through
  uint32_t first;  // pieces
  uint32_t count;
  uint64_t good;  // accessible bytes before the first bad one
  uint64_t total;
  uint64_t address;  // what the kernel shall see as the iovec's address: 0 if it is to be built
  bool bad_length;   // some length is negative: EINVAL
};

uint64_t accessible(const Piece& piece, bool reading) {
  if (reading) {
    return readable_bytes_app(piece.address, piece.size);
  }
  if (piece.size != 0 && writable_bytes_app(piece.address, 1) == 0) {
    return 0;
  }
  if (piece.size > 1 && writable_bytes_app(piece.address + piece.size - 1, 1) == 0) {
    return writable_bytes_app(piece.address, piece.size);
  }
  return piece.size;
}

// Leaves out the first `skip` bytes.
void skip_bytes(Piece* pieces, uint32_t count, uint64_t skip) {
  for (uint32_t k = 0; k < count && skip != 0; ++k) {
    const uint64_t n = lesser(pieces[k].size, skip);
    pieces[k].address += n;
    pieces[k].size -= n;
    skip -= n;
  }
}

// Takes the iovec into plan.pieces. false: there is no room for it now.
bool look_through(Builder& b, uint64_t address, uint64_t count, bool reading, uint64_t limit,
                  Vector& v) {
  v = {.first = b.plan.piece_count,
       .count = 0,
       .good = 0,
       .total = 0,
       .address = 0,
       .bad_length = false};
  if (count == 0) {
    return true;
  }
  if (count > kIovMax) {
    v.address = kBadAddress;  // the kernel looks at the count first: EINVAL or EMSGSIZE
    return true;
  }
  if (b.plan.piece_count + count > kPlanPieces) {
    return false;
  }
  Piece* pieces = b.plan.pieces + v.first;
  if (address == 0 || !copy_from_app(pieces, address, count * sizeof(Piece))) {
    v.address = kBadAddress;
    return true;
  }
  for (uint32_t k = 0; k < count; ++k) {
    v.bad_length = v.bad_length || static_cast<int64_t>(pieces[k].size) < 0;
    v.address = outside(pieces[k].address, pieces[k].size) ? kBadAddress : v.address;
  }
  if (v.bad_length || v.address != 0) {
    v.address = v.bad_length ? 0 : v.address;  // lengths are what the kernel looks at first
    return true;
  }
  v.count = static_cast<uint32_t>(count);
  b.plan.piece_count += v.count;
  skip_bytes(pieces, v.count, b.part.skip);
  limit = lesser(limit, b.part.size);
  bool all_good = true;
  for (uint32_t k = 0; k < v.count; ++k) {
    pieces[k].size = lesser(pieces[k].size, limit - v.total);
    v.total += pieces[k].size;
    if (all_good) {
      const uint64_t good = accessible(pieces[k], reading);
      v.good += good;
      all_good = good == pieces[k].size;
    }
  }
  return true;
}

// The iovec as the deputy gets it, at `iovec` in segment `holder`, and its data segment. Returns
// the number of elements.
uint32_t build_vector(Builder& b, const Vector& v, uint64_t* iovec, uint32_t holder,
                      uint64_t offset, bool reading, int32_t* data_segment) {
  *data_segment = -1;
  iovec[0] = 0;
  iovec[1] = v.bad_length ? ~uint64_t{0} : v.total;
  iovec[2] = 0;
  iovec[3] = v.total - v.good;
  if (v.bad_length || (v.good == 0 && v.total != 0)) {
    return 1;
  }
  const uint32_t data = add_segment(b, kNoArg, reading ? v.good : 0, reading ? 0 : v.good,
                                    reading ? kTrimNone : kTrimResult);
  b.plan.segments[data].trim_unit = reading ? 0 : 1;
  if (reading) {
    route_in(b, data, Place::kPieces, v.first, v.count);
  } else {
    route_out(b, data, Place::kPieces, v.first, v.count);
  }
  add_fixup(b, holder, offset, data);
  *data_segment = static_cast<int32_t>(data);
  iovec[1] = v.good;
  return v.good < v.total ? 2 : 1;
}

struct Headers {     // the array of headers being planned
  uint32_t scratch;  // of the first one
  uint32_t stride;
  uint32_t segment;
  uint32_t iovec_scratch;
  uint32_t iovec_segment;
  bool reading;  // from the application: a send
  bool single;   // trimmed by the call's result
};

void plan_name(Builder& b, const Headers& h, uint32_t index, MessageHeader& header) {
  const uint64_t at = uint64_t{index} * h.stride;
  if (header.name == 0 || header.name_length < 0) {
    header.name = header.name == 0 ? 0 : kBadAddress;
    return;
  }
  const uint64_t size = lesser(static_cast<uint32_t>(header.name_length), kSockaddrMax);
  int32_t name;
  if (h.reading) {
    name = plan_in(b, kNoArg, header.name, size);
  } else {
    name = plan_out(b, kNoArg, header.name, size, kTrimField);
    header.name_length = static_cast<int32_t>(size);
  }
  header.name = kBadAddress;
  if (name < 0) {
    return;
  }
  add_fixup(b, h.segment, at, static_cast<uint32_t>(name));
  if (!h.reading) {
    b.plan.segments[name].trim_unit = static_cast<uint16_t>(h.segment);
    b.plan.segments[name].trim_offset =
        static_cast<uint32_t>(at + offsetof(MessageHeader, name_length));
    b.plan.routes[name].out_count = index + 1;
  }
}

void plan_control(Builder& b, const Headers& h, uint32_t index, MessageHeader& header) {
  const uint64_t at = uint64_t{index} * h.stride;
  if (header.control == 0) {
    return;
  }
  const uint64_t address = header.control;
  header.control = kBadAddress;
  int32_t control;
  if (h.reading) {
    if (header.control_length > kControlMax) {
      return;  // ENOBUFS, before the kernel looks
    }
    control = plan_in(b, kNoArg, address, header.control_length);
  } else {
    header.control_length = lesser(header.control_length, kControlMax);
    control = plan_out(b, kNoArg, address, header.control_length, kTrimField);
  }
  if (control < 0) {
    return;
  }
  add_fixup(b, h.segment, at + offsetof(MessageHeader, control), static_cast<uint32_t>(control));
  if (!h.reading) {
    b.plan.segments[control].trim_unit = static_cast<uint16_t>(h.segment);
    b.plan.segments[control].trim_offset =
        static_cast<uint32_t>(at + offsetof(MessageHeader, control_length));
    b.plan.routes[control].out_count = index + 1;
  }
}

// One header, already in scratch as the application has it, becomes what the deputy gets.
void plan_header(Builder& b, const Headers& h, uint32_t index, const Vector& v) {
  auto* header = in_scratch<MessageHeader>(b, h.scratch + index * h.stride);
  const uint64_t at = uint64_t{index} * h.stride;
  if (v.address != 0) {
    header->iovec = v.address;
  } else if (header->iovec_count != 0) {
    auto* iovec = in_scratch<uint64_t>(b, h.iovec_scratch + index * 32);
    int32_t data;
    header->iovec = 0;
    header->iovec_count =
        build_vector(b, v, iovec, h.iovec_segment, uint64_t{index} * 32, h.reading, &data);
    add_fixup(b, h.segment, at + offsetof(MessageHeader, iovec), h.iovec_segment);
    b.plan.fixups[b.plan.request.fixup_count - 1].target_offset = index * 32;
    if (data >= 0 && !h.reading && !h.single) {
      Segment& segment = b.plan.segments[data];
      segment.trim = kTrimField;
      segment.trim_unit = static_cast<uint16_t>(h.segment);
      segment.trim_offset = static_cast<uint32_t>(at + sizeof(MessageHeader));
    }
  } else {
    header->iovec = 0;
  }
  plan_name(b, h, index, *header);
  plan_control(b, h, index, *header);
}

// The two segments that hold all headers and all iovecs.
void add_headers(Builder& b, uint8_t i, Headers& h, uint32_t count) {
  const uint64_t address = b.args[i];
  const uint64_t size = uint64_t{count} * h.stride;
  h.segment = add_segment(b, i, size, h.reading && h.single ? 0 : size, kTrimSuccess);
  route_in(b, h.segment, Place::kScratch, h.scratch);
  if (!h.reading || !h.single) {
    route_out(b, h.segment, Place::kScratch, h.scratch);
    b.plan.header_address = address;
    b.plan.header_scratch = h.scratch;
    b.plan.header_stride = h.stride;
    b.plan.message_count = count;
    b.plan.receiving = h.reading ? 0 : 1;
  }
  h.iovec_scratch = take_scratch(b, uint64_t{count} * 32);
  h.iovec_segment = add_segment(b, kNoArg, uint64_t{count} * 32, 0);
  route_in(b, h.iovec_segment, Place::kScratch, h.iovec_scratch);
  for (uint32_t k = 0; k < count * 4; ++k) {
    in_scratch<uint64_t>(b, h.iovec_scratch)[k] = 0;
  }
}

}  // namespace

int64_t plan_iovec(Builder& b, uint8_t i, const Arg& arg) {
  const bool reading = arg.kind == Kind::kIovecIn;
  Vector v;
  look_through(b, b.args[i], b.args[arg.ref], reading, kTransferMax, v);  // the first: fits
  if (v.address != 0 || b.args[arg.ref] == 0) {
    b.args[i] = kBadAddress;
    return 0;
  }
  const uint32_t offset = take_scratch(b, 32);
  const uint32_t holder = add_segment(b, i, 32, 0);
  route_in(b, holder, Place::kScratch, offset);
  int32_t data;
  b.args[arg.ref] = build_vector(b, v, in_scratch<uint64_t>(b, offset), holder, 0, reading, &data);
  return 0;
}

int64_t plan_message(Builder& b, uint8_t i, const Arg& arg) {
  Headers h{};
  h.reading = arg.kind == Kind::kMessageIn;
  h.single = true;
  h.stride = sizeof(MessageHeader);
  if (h.reading && (b.args[arg.ref] & kZeroCopy)) {
    return -ENOBUFS;  // pages of the deputy cannot be lent for an unknown time; callers fall back
  }
  if (b.args[i] == 0) {
    return 0;
  }
  h.scratch = take_scratch(b, h.stride);
  auto* header = in_scratch<MessageHeader>(b, h.scratch);
  if (!copy_from_app(header, b.args[i], h.stride)) {
    b.args[i] = kBadAddress;
    return 0;
  }
  Vector v;
  look_through(b, header->iovec, header->iovec_count, h.reading, kTransferMax, v);
  add_headers(b, i, h, 1);
  plan_header(b, h, 0, v);
  return 0;
}

int64_t plan_messages(Builder& b, uint8_t i, const Arg& arg) {
  constexpr uint8_t kFlagsArg = 3;
  Headers h{};
  h.reading = arg.kind == Kind::kMessagesIn;
  h.single = false;
  h.stride = kMessagesStride;
  if (h.reading && (b.args[kFlagsArg] & kZeroCopy)) {
    return -ENOBUFS;
  }
  const uint64_t address = b.args[i];
  const auto wanted =
      static_cast<uint32_t>(lesser(static_cast<uint32_t>(b.args[arg.ref]), kPlanMessages));
  if (wanted == 0 || address == 0) {
    b.args[i] = address == 0 ? 0 : kBadAddress;
    return 0;
  }
  // First how many fit: fewer messages than wanted is an outcome that a caller has to expect.
  Vector vectors[kPlanMessages];
  uint64_t left = kTransferMax;
  uint32_t count = 0;
  h.scratch = take_scratch(b, uint64_t{wanted} * kMessagesStride);
  for (; count < wanted; ++count) {
    auto* header = in_scratch<MessageHeader>(b, h.scratch + count * kMessagesStride);
    Vector& v = vectors[count];
    if (!copy_from_app(header, address + uint64_t{count} * kMessagesStride, kMessagesStride) ||
        !look_through(b, header->iovec, header->iovec_count, h.reading, left, v) ||
        (count != 0 && v.total != 0 && v.total == left)) {
      break;
    }
    in_scratch<uint32_t>(b, h.scratch + count * kMessagesStride)[14] = 0;  // msg_len
    left -= v.total;
  }
  if (count == 0) {
    b.args[i] = kBadAddress;
    return 0;
  }
  b.args[arg.ref] = count;
  add_headers(b, i, h, count);
  for (uint32_t k = 0; k < count; ++k) {
    plan_header(b, h, k, vectors[k]);
  }
  return 0;
}

bool finish_messages(Plan& plan, int64_t result) {
  const bool single = plan.header_stride == sizeof(MessageHeader);
  const uint64_t count = single ? 1 : lesser(static_cast<uint64_t>(result), plan.message_count);
  bool good = true;
  for (uint64_t k = 0; k < count; ++k) {
    const uint8_t* from = plan.scratch + plan.header_scratch + k * plan.header_stride;
    const uint64_t to = plan.header_address + k * plan.header_stride;
    const auto put = [&](size_t offset, size_t size) {
      good = copy_to_app(to + offset, from + offset, size) && good;
    };
    if (!single) {
      put(sizeof(MessageHeader), 4);
    }
    if (plan.receiving != 0) {
      put(offsetof(MessageHeader, name_length), 4);
      put(offsetof(MessageHeader, control_length), 8);
      put(offsetof(MessageHeader, flags), 4);
    }
  }
  return good;
}

}  // namespace tess::stub::marshal
