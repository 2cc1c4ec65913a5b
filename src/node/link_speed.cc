#include "node/link_speed.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>

#include "net/tcp.h"
#include "sys/fd.h"
#include "sys/files.h"

namespace tess::node {
namespace {

constexpr cluster::Duration kFresh = std::chrono::seconds(10);
// Mbit/s. No link is faster yet; drivers that do not know say 65535 or 4294967295.
constexpr int64_t kFastest = 4'000'000;
constexpr int64_t kSixteenBitsOfDoubt = 65535;

// Without the zone of a link-local one.
std::string text_of(const sockaddr* address, socklen_t size) {
  char text[NI_MAXHOST] = "";
  if (::getnameinfo(address, size, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) != 0) {
    return {};
  }
  const std::string all = text;
  return all.substr(0, all.find('%'));
}

socklen_t size_of(const sockaddr& address) {
  return address.sa_family == AF_INET    ? sizeof(sockaddr_in)
         : address.sa_family == AF_INET6 ? sizeof(sockaddr_in6)
                                         : 0;
}

// Empty if it cannot be read.
std::string line_of(const std::string& path) {
  const auto text = sys::read_file(path, 256);
  return text ? text->substr(0, text->find('\n')) : std::string();
}

std::string station_of(const ifaddrs* list, const std::string& name) {
  std::string text;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_PACKET ||
        name != entry->ifa_name) {
      continue;
    }
    const auto* link = reinterpret_cast<const sockaddr_ll*>(entry->ifa_addr);
    for (size_t i = 0; i < std::min<size_t>(link->sll_halen, sizeof(link->sll_addr)); ++i) {
      text += fmt::format("{}{:02x}", i == 0 ? "" : ":", link->sll_addr[i]);
    }
    return text;
  }
  return text;
}

std::string host_of(const std::string& address) {
  const auto endpoint = net::Endpoint::parse(address, 0);
  return endpoint ? endpoint->address : std::string();
}

}  // namespace

uint32_t parse_link_speed(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  const int64_t value = std::strtoll(text.c_str(), &end, 10);
  const bool number = end != text.c_str() && (*end == '\0' || *end == '\n') && errno == 0;
  const bool known = number && value > 0 && value <= kFastest && value != kSixteenBitsOfDoubt;
  return known ? static_cast<uint32_t>(value) : 0;
}

uint32_t read_link_speed(const Interface& interface, const std::string& classes) {
  const std::string folder = classes + "/" + interface.name + "/";
  if (interface.name.empty() || line_of(folder + "ifindex") != std::to_string(interface.index) ||
      line_of(folder + "address") != interface.station) {
    return 0;
  }
  return parse_link_speed(line_of(folder + "speed"));  // EINVAL: it is down, or has no speed
}

Interface interface_with(const std::string& address) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return {};
  }
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(list, &::freeifaddrs);
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr != nullptr && size_of(*entry->ifa_addr) != 0 &&
        text_of(entry->ifa_addr, size_of(*entry->ifa_addr)) == address) {
      return {entry->ifa_name, ::if_nametoindex(entry->ifa_name),
              station_of(list, entry->ifa_name)};
    }
  }
  return {};
}

std::string address_towards(const std::string& address) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(address.c_str(), "7117", &hints, &found) != 0) {
    return {};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  // Nothing is sent: the kernel only looks for the way.
  const sys::Fd socket(::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  auto* as_address = reinterpret_cast<sockaddr*>(&own);  // as the socket calls want it
  if (!socket.valid() || ::connect(socket.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::getsockname(socket.get(), as_address, &size) != 0) {
    return {};
  }
  return text_of(as_address, size);
}

bool LinkSpeed::due(cluster::Time now) const {
  return read_at_ == cluster::Time() || now - read_at_ >= kFresh;
}

uint32_t LinkSpeed::read(cluster::Time now, const std::string& own, const std::string& peer) {
  Interface interface = own.empty() ? Interface() : interface_with(host_of(own));
  if (interface.name.empty() && !peer.empty()) {
    interface = interface_with(address_towards(host_of(peer)));
  }
  mbit_ = read_link_speed(interface);
  read_at_ = now;
  return mbit_;
}

}  // namespace tess::node
