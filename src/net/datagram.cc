#include "net/datagram.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <ctime>

namespace tess::net {
namespace {

// Of the addresses that an organisation may use as it likes.
constexpr char kBeaconGroup[] = "239.255.71.17";
constexpr size_t kDatagramRoom = 2048;
constexpr int kReceiveBuffer = 1 << 20;

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress v4_address(const in_addr& ip, uint16_t port) {
  SocketAddress address;
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_addr = ip;
  in.sin_port = htons(port);
  std::memcpy(&address.storage, &in, sizeof in);
  address.size = sizeof in;
  return address;
}

SocketAddress v6_address(const uint8_t* ip, uint16_t port) {
  SocketAddress address;
  sockaddr_in6 in{};
  in.sin6_family = AF_INET6;
  std::memcpy(&in.sin6_addr, ip, sizeof in.sin6_addr);
  in.sin6_port = htons(port);
  std::memcpy(&address.storage, &in, sizeof in);
  address.size = sizeof in;
  return address;
}

bool is_v4(const std::array<uint8_t, 16>& ip) {
  static constexpr uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(ip.data(), kMapped, sizeof kMapped) == 0;
}

DatagramAddress from_socket(const sockaddr_storage& storage) {
  DatagramAddress address;
  if (storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &storage, sizeof in);
    address.ip[10] = address.ip[11] = 0xff;
    std::memcpy(&address.ip[12], &in.sin_addr, 4);
    address.port = ntohs(in.sin_port);
  } else {
    sockaddr_in6 in{};
    std::memcpy(&in, &storage, sizeof in);
    std::memcpy(address.ip.data(), &in.sin6_addr, 16);
    address.port = ntohs(in.sin6_port);
  }
  return address;
}

void set_option(const sys::Fd& fd, int level, int name, int value) {
  ::setsockopt(fd.get(), level, name, &value, sizeof value);
}

Result<sys::Fd> make_socket(int family) {
  sys::Fd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail_errno("make a UDP socket");
  }
  if (family == AF_INET6) {
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  }
  set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  set_option(fd, SOL_SOCKET, SO_RCVBUF, kReceiveBuffer);
  return fd;
}

std::chrono::microseconds waited(const msghdr& message) {
  for (const cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr;
       c = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(c))) {
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
      timespec came{};
      std::memcpy(&came, CMSG_DATA(c), sizeof came);
      timespec now{};
      ::clock_gettime(CLOCK_REALTIME, &now);
      const int64_t us =
          (now.tv_sec - came.tv_sec) * int64_t{1'000'000} + (now.tv_nsec - came.tv_nsec) / 1000;
      // A clock that was set meanwhile says nothing.
      return std::chrono::microseconds(us < 0 || us > 60'000'000 ? 0 : us);
    }
  }
  return {};
}

void receive_from(int fd, const DatagramSocket::Received& received, size_t most) {
  std::array<uint8_t, kDatagramRoom> data;
  std::array<char, 256> control;
  for (size_t i = 0; i < most; ++i) {
    sockaddr_storage from{};
    iovec part{data.data(), data.size()};
    msghdr message{};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd, &message, MSG_DONTWAIT);
    if (size < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) {
        return;
      }
      continue;  // the answer to something that was sent to nobody
    }
    received(std::span<const uint8_t>(data.data(), static_cast<size_t>(size)), from_socket(from),
             waited(message));
  }
}

}  // namespace

Result<DatagramSocket> DatagramSocket::open(const Endpoint& at) {
  in_addr v4{};
  in6_addr v6{};
  const bool is_four = ::inet_pton(AF_INET, at.address.c_str(), &v4) == 1;
  if (!is_four && ::inet_pton(AF_INET6, at.address.c_str(), &v6) != 1) {
    return fail(ErrorKind::kBadInput, "'{}' is not a numeric address", at.address);
  }
  const SocketAddress address = is_four
                                    ? v4_address(v4, at.port)
                                    : v6_address(reinterpret_cast<const uint8_t*>(&v6), at.port);
  TESS_TRY_ASSIGN(sys::Fd fd, make_socket(is_four ? AF_INET : AF_INET6));
  if (::bind(fd.get(), address.get(), address.size) != 0) {
    return fail_errno("listen on UDP {}", at.to_string());
  }
  return DatagramSocket(std::move(fd), at, !is_four);
}

Result<> DatagramSocket::join_beacons() {
  if (v6_) {
    return fail(ErrorKind::kNotPossible, "beacons are sent over IPv4 only");
  }
  in_addr group{};
  in_addr own{};
  ::inet_pton(AF_INET, kBeaconGroup, &group);
  ::inet_pton(AF_INET, at_.address.c_str(), &own);
  sys::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail_errno("make a UDP socket");
  }
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);  // several nodes on one machine hear them all
  set_option(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  const SocketAddress address = v4_address(group, at_.port);
  if (::bind(fd.get(), address.get(), address.size) != 0) {
    return fail_errno("listen on UDP {}:{}", kBeaconGroup, at_.port);
  }
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return fail_errno("list the network interfaces");
  }
  size_t joined = 0;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    constexpr unsigned kNeeded = IFF_UP | IFF_MULTICAST;
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET ||
        (each->ifa_flags & kNeeded) != kNeeded) {
      continue;
    }
    sockaddr_in in{};
    std::memcpy(&in, each->ifa_addr, sizeof in);
    if (own.s_addr != INADDR_ANY && own.s_addr != in.sin_addr.s_addr) {
      continue;
    }
    const ip_mreq wish{group, in.sin_addr};
    if (::setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &wish, sizeof wish) == 0) {
      ++joined;
    }
  }
  ::freeifaddrs(list);
  if (joined == 0) {
    return fail(ErrorKind::kNotPossible, "no network interface of this node takes multicast");
  }
  if (own.s_addr != INADDR_ANY) {
    ::setsockopt(socket_.get(), IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own);
  }
  beacons_ = std::move(fd);
  return {};
}

void DatagramSocket::receive(const Received& received, size_t most) {
  receive_from(socket_.get(), received, most);
  if (beacons_.valid()) {
    receive_from(beacons_.get(), received, most);
  }
}

bool DatagramSocket::send(std::span<const uint8_t> bytes, const DatagramAddress& to) {
  SocketAddress address;
  if (v6_) {
    address = v6_address(to.ip.data(), to.port);
  } else if (is_v4(to.ip)) {
    in_addr ip{};
    std::memcpy(&ip, &to.ip[12], sizeof ip);
    address = v4_address(ip, to.port);
  } else {
    return false;
  }
  return ::sendto(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  address.get(), address.size) >= 0;
}

bool DatagramSocket::send_beacon(std::span<const uint8_t> bytes) {
  if (!beacons_.valid()) {
    return false;
  }
  in_addr group{};
  ::inet_pton(AF_INET, kBeaconGroup, &group);
  const SocketAddress address = v4_address(group, at_.port);
  return ::sendto(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  address.get(), address.size) >= 0;
}

}  // namespace tess::net
