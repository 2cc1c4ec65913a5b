// Socket addresses that come back, and socket options.
#include "stub/marshal_internal.h"

namespace tess::stub::marshal {
namespace {

inline constexpr uint32_t kOptionMax = 1 << 20;

enum : int32_t { kSolIp = 0, kSolSocket = 1, kSolIpv6 = 41 };
enum : int32_t {
  kSoAttachFilter = 26,  // getsockopt: SO_GET_FILTER
  kSoAttachReuseportCbpf = 51,
  kSoZerocopy = 60,
};
inline constexpr int32_t kNetfilterFirst = 64;  // IPT_SO_*, ARPT_SO_*, EBT_SO_*
inline constexpr int32_t kNetfilterLast = 131;

// The length that args[ref] points to, as a segment that comes back. -1: there is none (args[ref]
// says why).
int32_t plan_length(Builder& b, uint8_t ref, int32_t* length) {
  *length = 0;
  const int32_t segment = plan_inout(b, ref, b.args[ref], 4, 4, kTrimSuccess);
  if (segment >= 0) {
    const auto offset = static_cast<uint32_t>(b.plan.routes[segment].in_address);
    *length = *in_scratch<int32_t>(b, offset);
  }
  return segment;
}

void set_length(Builder& b, int32_t segment, int32_t length) {
  *in_scratch<int32_t>(b, static_cast<uint32_t>(b.plan.routes[segment].in_address)) = length;
}

}  // namespace

int64_t plan_sockaddr_out(Builder& b, uint8_t i, const Arg& arg) {
  constexpr int32_t kSockaddrMax = 128;
  int32_t length;
  const int32_t holder = plan_length(b, arg.ref, &length);
  const uint64_t address = b.args[i];
  if (address == 0) {
    return 0;
  }
  if (holder < 0) {
    b.args[i] = kBadAddress;
    return 0;
  }
  if (length > kSockaddrMax) {
    length = kSockaddrMax;
    set_length(b, holder, length);
  }
  const int32_t segment =
      plan_out(b, i, address, length < 0 ? 0 : static_cast<uint64_t>(length), kTrimField);
  if (segment >= 0) {
    b.plan.segments[segment].trim_unit = static_cast<uint16_t>(holder);
  }
  return 0;
}

int64_t plan_option_in(Builder& b, uint8_t i, const Arg& arg) {
  const int32_t level = b.int_arg(1);
  const int32_t name = b.int_arg(2);
  const int32_t length = b.int_arg(arg.ref);
  if (level == kSolSocket && name == kSoZerocopy) {
    return -EOPNOTSUPP;  // as by a protocol that cannot: the deputy's buffers are not the
                         // application's
  }
  if ((level == kSolIp || level == kSolIpv6) && name >= kNetfilterFirst && name <= kNetfilterLast) {
    return only_at_home(ENOPROTOOPT);  // tables with pointers to more tables
  }
  if (length < 0 || static_cast<uint32_t>(length) > kOptionMax) {
    b.args[i] = b.args[i] == 0 ? 0 : kBadAddress;
    return 0;
  }
  const int32_t segment = plan_in(b, i, b.args[i], static_cast<uint32_t>(length));
  if (segment < 0 || level != kSolSocket ||
      (name != kSoAttachFilter && name != kSoAttachReuseportCbpf) || length != 16) {
    return 0;
  }
  // struct sock_fprog: u16 number of 8-byte instructions, pointer to them
  const auto offset = static_cast<uint32_t>(b.plan.routes[segment].in_address);
  const uint16_t count = *in_scratch<uint16_t>(b, offset);
  auto* pointer = in_scratch<uint64_t>(b, offset + 8);
  const int32_t code = plan_in(b, kNoArg, *pointer, uint64_t{count} * 8);
  *pointer = *pointer == 0 ? 0 : kBadAddress;
  if (code >= 0) {
    add_fixup(b, static_cast<uint32_t>(segment), 8, static_cast<uint32_t>(code));
  }
  return 0;
}

int64_t plan_option_out(Builder& b, uint8_t i, const Arg& arg) {
  int32_t length;
  const int32_t holder = plan_length(b, arg.ref, &length);
  const uint64_t address = b.args[i];
  if (address == 0) {
    return 0;
  }
  if (holder < 0 || length < 0) {
    b.args[i] = kBadAddress;
    return 0;
  }
  const bool filter = b.int_arg(1) == kSolSocket && b.int_arg(2) == kSoAttachFilter;
  const uint32_t unit = filter ? 8 : 1;  // SO_GET_FILTER counts instructions
  if (static_cast<uint32_t>(length) > kOptionMax / unit) {
    length = static_cast<int32_t>(kOptionMax / unit);
    set_length(b, holder, length);
  }
  const uint64_t size = uint64_t{static_cast<uint32_t>(length)} * unit;
  // The old content goes along: some options look at it, some fill the buffer only in part.
  const int32_t segment = plan_inout(b, i, address, size, size, filter ? kTrimSuccess : kTrimField);
  if (segment >= 0) {
    b.plan.segments[segment].trim_unit = static_cast<uint16_t>(filter ? 0 : holder);
  }
  return 0;
}

}  // namespace tess::stub::marshal
