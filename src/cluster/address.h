// Address: where a node's datagrams go at the moment (IPv4 or IPv6 and a port). Never an identity.
// A plain value.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cluster/bytes.h"

namespace tess::cluster {

struct Address {
  std::array<uint8_t, 16> ip{};  // IPv4 as ::ffff:a.b.c.d
  uint16_t port = 0;

  auto operator<=>(const Address&) const = default;
  bool is_v4() const;
  // Port 0: not known yet.
  bool empty() const { return port == 0; }
  // "10.0.0.7:7117", "[fe80::1]:7117"
  std::string text() const;

  static Address v4(uint32_t ip, uint16_t port);
  // kBadInput unless it is as text() writes it, with a port that is not 0.
  static Result<Address> parse(std::string_view text);
};

inline constexpr size_t kAddressWireMax = 19;
// One byte 4 or 6, the address, the port.
void write_address(ByteWriter& out, const Address& address);
Address read_address(ByteReader& in);

}  // namespace tess::cluster

template <>
struct std::hash<tess::cluster::Address> {
  size_t operator()(const tess::cluster::Address& a) const noexcept {
    uint64_t h = a.port;
    for (const uint8_t byte : a.ip) {
      h = (h ^ byte) * 0x100000001b3ull;
    }
    return h;
  }
};
