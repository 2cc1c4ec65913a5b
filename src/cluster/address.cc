#include "cluster/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace tess::cluster {
namespace {
constexpr std::array<uint8_t, 12> kV4Prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
}

bool Address::is_v4() const {
  return std::equal(kV4Prefix.begin(), kV4Prefix.end(), ip.begin());
}

std::string Address::text() const {
  char buffer[INET6_ADDRSTRLEN] = {};
  if (is_v4()) {
    ::inet_ntop(AF_INET, ip.data() + 12, buffer, sizeof buffer);
    return fmt::format("{}:{}", buffer, port);
  }
  ::inet_ntop(AF_INET6, ip.data(), buffer, sizeof buffer);
  return fmt::format("[{}]:{}", buffer, port);
}

Address Address::v4(uint32_t ip, uint16_t port) {
  Address out;
  std::copy(kV4Prefix.begin(), kV4Prefix.end(), out.ip.begin());
  for (size_t i = 0; i < 4; ++i) {
    out.ip[12 + i] = static_cast<uint8_t>(ip >> (24 - 8 * i));
  }
  out.port = port;
  return out;
}

Result<Address> Address::parse(std::string_view text) {
  const auto bad = [&] {
    return fail(ErrorKind::kBadInput, "'{}' is not an address like 10.0.0.7:7117 or [fe80::1]:7117",
                text);
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return bad();
  }
  Address out;
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (error != std::errc() || end != port.data() + port.size() || out.port == 0) {
    return bad();
  }
  std::string_view host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    if (::inet_pton(AF_INET6, std::string(host.substr(1, host.size() - 2)).c_str(),
                    out.ip.data()) != 1) {
      return bad();
    }
    return out;
  }
  std::copy(kV4Prefix.begin(), kV4Prefix.end(), out.ip.begin());
  if (::inet_pton(AF_INET, std::string(host).c_str(), out.ip.data() + 12) != 1) {
    return bad();
  }
  return out;
}

void write_address(ByteWriter& out, const Address& address) {
  if (address.is_v4()) {
    out.u8(4);
    out.bytes(Bytes(address.ip).subspan(12));
  } else {
    out.u8(6);
    out.bytes(address.ip);
  }
  out.u16(address.port);
}

Address read_address(ByteReader& in) {
  Address out;
  const uint8_t family = in.u8();
  if (family == 4) {
    std::copy(kV4Prefix.begin(), kV4Prefix.end(), out.ip.begin());
    const Bytes ip = in.bytes(4);
    std::copy(ip.begin(), ip.end(), out.ip.begin() + 12);
  } else if (family == 6) {
    const Bytes ip = in.bytes(16);
    std::copy(ip.begin(), ip.end(), out.ip.begin());
  } else {
    in.fail();
  }
  out.port = in.u16();
  return out;
}

}  // namespace tess::cluster
