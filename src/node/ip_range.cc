#include "node/ip_range.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace tess::node {
namespace {

constexpr std::array<uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool to_bits(const std::string& address, std::array<uint8_t, 16>& bits, bool& is_v4) {
  in_addr v4{};
  if (::inet_pton(AF_INET, address.c_str(), &v4) == 1) {
    std::copy(kMapped.begin(), kMapped.end(), bits.begin());
    const auto* bytes = reinterpret_cast<const uint8_t*>(&v4);
    std::copy(bytes, bytes + 4, bits.begin() + kMapped.size());
    is_v4 = true;
    return true;
  }
  is_v4 = false;
  return ::inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), bits.data()) == 1;
}

}  // namespace

Result<IpRange> IpRange::parse(const std::string& text) {
  const size_t slash = text.find('/');
  IpRange range;
  bool is_v4 = false;
  if (!to_bits(text.substr(0, slash), range.bits, is_v4)) {
    return fail(ErrorKind::kBadInput, "'{}' is not an address or a range like 192.168.1.0/24",
                text);
  }
  const unsigned most = is_v4 ? 32 : 128;
  unsigned prefix = most;
  if (slash != std::string::npos) {
    const char* first = text.data() + slash + 1;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(first, last, prefix);
    if (error != std::errc() || end != last || first == last || prefix > most) {
      return fail(ErrorKind::kBadInput, "'{}': the part behind '/' is a number from 0 to {}", text,
                  most);
    }
  }
  range.prefix = prefix + (is_v4 ? 96 : 0);
  for (unsigned bit = range.prefix; bit < 128; ++bit) {
    range.bits[bit / 8] &= static_cast<uint8_t>(~(0x80U >> bit % 8));
  }
  return range;
}

bool IpRange::contains(const std::string& address) const {
  auto one = parse(address);
  if (!one || one->prefix != 128) {
    return false;
  }
  for (unsigned bit = prefix; bit < 128; ++bit) {
    one->bits[bit / 8] &= static_cast<uint8_t>(~(0x80U >> bit % 8));
  }
  return one->bits == bits;
}

std::string IpRange::text() const {
  char buffer[INET6_ADDRSTRLEN] = "";
  if (prefix >= 96 && std::equal(kMapped.begin(), kMapped.end(), bits.begin())) {
    ::inet_ntop(AF_INET, bits.data() + kMapped.size(), buffer, sizeof(buffer));
    return fmt::format("{}/{}", buffer, prefix - 96);
  }
  ::inet_ntop(AF_INET6, bits.data(), buffer, sizeof(buffer));
  return fmt::format("{}/{}", buffer, prefix);
}

}  // namespace tess::node
