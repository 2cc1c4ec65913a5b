// A range of addresses: "192.168.1.0/24", "fe80::/10", or one address. Values only.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace tess::node {

struct IpRange {
  std::array<uint8_t, 16> bits{};  // IPv4 as ::ffff:a.b.c.d
  unsigned prefix = 0;             // of 128

  static Result<IpRange> parse(const std::string& text);
  // False for what is not an address.
  bool contains(const std::string& address) const;
  std::string text() const;
  bool operator==(const IpRange&) const = default;
};

}  // namespace tess::node
