// The bytes of a plan: the request onto the wire, the reply's segments into place.
#include "stub/marshal.h"
#include "stub/marshal_internal.h"

namespace tess::stub {
namespace marshal {
namespace {

bool write_zeros(const RequestWriter& writer, uint64_t size) {
  constexpr uint64_t kZeros[8] = {};
  while (size != 0) {
    const uint64_t n = lesser(size, sizeof(kZeros));
    if (!writer.write(writer.context, kZeros, n)) {
      return false;
    }
    size -= n;
  }
  return true;
}

// The strings of a vector, as planned: `left` bytes in all. Another thread may have changed them
// since; then they are cut or filled with zeros.
bool write_strings(const RequestWriter& writer, const Route& route, uint64_t left) {
  for (uint32_t k = 0; k < route.in_count && left != 0; ++k) {
    uint64_t pointer = 0;
    if (!copy_from_app(&pointer, route.in_address + uint64_t{k} * 8, 8) || pointer == 0) {
      break;
    }
    const int64_t length = string_length_app(pointer, kArgStringMax);
    if (length < 0) {
      break;
    }
    const uint64_t n = lesser(static_cast<uint64_t>(length), left - 1);
    if (!writer.write_app(writer.context, pointer, n) || !write_zeros(writer, 1)) {
      return false;
    }
    left -= n + 1;
  }
  return write_zeros(writer, left);
}

bool write_pieces(const Plan& plan, const RequestWriter& writer, const Route& route,
                  uint64_t left) {
  for (uint32_t k = 0; k < route.in_count && left != 0; ++k) {
    const Piece& piece = plan.pieces[route.in_address + k];
    const uint64_t n = lesser(piece.size, left);
    if (n != 0 && !writer.write_app(writer.context, piece.address, n)) {
      return false;
    }
    left -= n;
  }
  return write_zeros(writer, left);
}

bool write_segment(const Plan& plan, const RequestWriter& writer, uint32_t s) {
  const Route& route = plan.routes[s];
  const uint64_t size = plan.segments[s].in_size;
  bool good = true;
  switch (route.in) {
    case Place::kApp:
      good = writer.write_app(writer.context, route.in_address, size);
      break;
    case Place::kScratch:
      good = writer.write(writer.context, plan.scratch + route.in_address, size);
      break;
    case Place::kPieces:
      good = write_pieces(plan, writer, route, size);
      break;
    case Place::kStrings:
      good = write_strings(writer, route, size);
      break;
    default:
      good = write_zeros(writer, size);
      break;
  }
  return good && write_zeros(writer, padded(size) - size);
}

bool skip(const ReplyReader& reader, uint64_t size) {
  uint8_t waste[64];
  while (size != 0) {
    const uint64_t n = lesser(size, sizeof(waste));
    if (!reader.read(reader.context, waste, n)) {
      return false;
    }
    size -= n;
  }
  return true;
}

bool read_to_app(const ReplyReader& reader, uint64_t to, uint64_t size, bool* fault) {
  size_t copied = 0;
  if (size != 0 && !reader.read_app(reader.context, to, size, &copied)) {
    return false;
  }
  *fault = *fault || copied < size;
  return true;
}

bool read_pieces(const Plan& plan, const ReplyReader& reader, const Route& route, uint64_t left,
                 bool* fault) {
  for (uint32_t k = 0; k < route.out_count && left != 0; ++k) {
    const Piece& piece = plan.pieces[route.out_address + k];
    const uint64_t n = lesser(piece.size, left);
    if (!read_to_app(reader, piece.address, n, fault)) {
      return false;
    }
    left -= n;
  }
  return skip(reader, left);
}

// The kernel writes revents only; the rest of a pollfd may be another thread's to change.
bool read_revents(const ReplyReader& reader, uint64_t to, uint64_t size, bool* fault) {
  constexpr uint32_t kReventsOffset = 6;
  uint8_t fds[64 * 8];
  while (size >= 8) {
    const uint64_t n = lesser(size, sizeof(fds));
    if (!reader.read(reader.context, fds, n)) {
      return false;
    }
    for (uint64_t at = 0; at + 8 <= n; at += 8) {
      *fault = !copy_to_app(to + at + kReventsOffset, fds + at + kReventsOffset, 2) || *fault;
    }
    to += n;
    size -= n;
  }
  return skip(reader, size);
}

// Name or control data of a message that was not received: the lengths that trimmed it are still
// the application's.
bool is_unused(const Plan& plan, const Route& route, int64_t result) {
  return plan.message_count > 1 && route.out_count != 0 &&
         static_cast<int64_t>(route.out_count) > result;
}

bool read_segment(Plan& plan, const ReplyReader& reader, uint32_t s, int64_t result, bool* fault) {
  uint32_t header[2];
  if (!reader.read(reader.context, header, sizeof(header))) {
    return false;
  }
  const uint64_t size = header[0];
  const Route& route = plan.routes[s];
  if (size > plan.segments[s].out_size || header[1] != 0) {
    return false;
  }
  bool good = true;
  switch (route.out) {
    case Place::kApp:
      good = is_unused(plan, route, result) ? skip(reader, size)
                                            : read_to_app(reader, route.out_address, size, fault);
      break;
    case Place::kScratch:
      good = size == 0 || reader.read(reader.context, plan.scratch + route.out_address, size);
      break;
    case Place::kPieces:
      good = read_pieces(plan, reader, route, size, fault);
      break;
    case Place::kRevents:
      good = read_revents(reader, route.out_address, size, fault);
      break;
    default:
      good = skip(reader, size);
      break;
  }
  return good && skip(reader, padded(size) - size);
}

}  // namespace
}  // namespace marshal

bool write_request(const Plan& plan, const RequestWriter& writer) {
  const Request& request = plan.request;
  if (!writer.write(writer.context, &request, sizeof(request))) {
    return false;
  }
  if (request.segment_count != 0 &&
      !writer.write(writer.context, plan.segments, request.segment_count * sizeof(Segment))) {
    return false;
  }
  if (request.fixup_count != 0 &&
      !writer.write(writer.context, plan.fixups, request.fixup_count * sizeof(Fixup))) {
    return false;
  }
  for (uint32_t s = 0; s < request.segment_count; ++s) {
    if (plan.segments[s].in_size != 0 && !marshal::write_segment(plan, writer, s)) {
      return false;
    }
  }
  return true;
}

bool finish_call(Plan& plan, int64_t* result, const ReplyReader& reader) {
  bool fault = false;
  for (uint32_t s = 0; s < plan.request.segment_count; ++s) {
    if (plan.segments[s].out_size != 0 &&
        !marshal::read_segment(plan, reader, s, *result, &fault)) {
      return false;
    }
  }
  if (*result >= 0 && plan.header_address != 0) {
    fault = !marshal::finish_messages(plan, *result) || fault;
  }
  if (plan.cut_at_fault != 0 && *result == -EINVAL) {
    *result = -EFAULT;
  }
  if (fault && *result >= 0) {
    *result = -EFAULT;
  }
  return true;
}

}  // namespace tess::stub
