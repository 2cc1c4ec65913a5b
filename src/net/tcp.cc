#include "net/tcp.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <memory>

namespace tess::net {
namespace {

using std::chrono::milliseconds;

constexpr unsigned kUserTimeoutMs = 15000;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<Address> resolve(const std::string& host, uint16_t port, bool numeric_only) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const int status = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0) {
    return fail(ErrorKind::kBadInput, "'{}' is not {}: {}", host,
                numeric_only ? "an IP address" : "a known host", ::gai_strerror(status));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  Address address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.size = found->ai_addrlen;
  return address;
}

Endpoint to_endpoint(const Address& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.storage.ss_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
      ::inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, text, sizeof(text));
    } else {
      ::inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
    }
    return {text, ntohs(in6->sin6_port)};
  }
  const auto* in4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
  ::inet_ntop(AF_INET, &in4->sin_addr, text, sizeof(text));
  return {text, ntohs(in4->sin_port)};
}

Result<> set_option(const sys::Fd& fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd.get(), level, option, &value, sizeof(value)) != 0) {
    return fail_errno("setsockopt {}", name);
  }
  return {};
}

Result<> tune(const sys::Fd& fd) {
  TESS_TRY(set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
  TESS_TRY(set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
  TESS_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 5, "TCP_KEEPIDLE"));
  TESS_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 3, "TCP_KEEPINTVL"));
  TESS_TRY(set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT"));
  return set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs, "TCP_USER_TIMEOUT");
}

// What failed and what a person can do about it.
tl::unexpected<Error> connect_error(int error, const Endpoint& to) {
  const std::string where = to.to_string();
  switch (error) {
    case ECONNREFUSED:
      return tl::unexpected(Error(
          ErrorKind::kRetry, "connect to " + where + ": refused, nothing listens there", error));
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
      return tl::unexpected(Error(ErrorKind::kRetry,
                                  "connect to " + where + ": unreachable, no way to that address",
                                  error));
    case ETIMEDOUT:
      return tl::unexpected(
          Error(ErrorKind::kRetry,
                "connect to " + where + ": timed out, the machine does not answer", error));
    default:
      return tl::unexpected(
          Error(ErrorKind::kFailed, "connect to " + where + ": " + ::strerror(error), error));
  }
}

Result<sys::Fd> begin_connect(const Address& address, const Endpoint& to) {
  sys::Fd fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail_errno("socket");
  }
  TESS_TRY(tune(fd));
  if (::connect(fd.get(), address.get(), address.size) != 0 && errno != EINPROGRESS) {
    return connect_error(errno, to);
  }
  return fd;
}

}  // namespace

Result<Endpoint> Endpoint::parse(const std::string& text, uint16_t default_port) {
  std::string host = text;
  std::string port_text;
  if (!text.empty() && text[0] == '[') {
    const size_t end = text.find(']');
    if (end == std::string::npos) {
      return fail(ErrorKind::kBadInput, "'{}': ']' is missing", text);
    }
    host = text.substr(1, end - 1);
    const std::string rest = text.substr(end + 1);
    if (!rest.empty() && rest[0] != ':') {
      return fail(ErrorKind::kBadInput, "'{}': expected [ADDRESS]:PORT", text);
    }
    port_text = rest.empty() ? "" : rest.substr(1);
  } else if (const size_t colon = text.find(':');
             colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    host = text.substr(0, colon);
    port_text = text.substr(colon + 1);
  }
  if (host.empty()) {
    return fail(ErrorKind::kBadInput, "'{}': the address is missing (expected ADDRESS:PORT)", text);
  }
  Endpoint endpoint{host, default_port};
  if (!port_text.empty()) {
    const char* last = port_text.data() + port_text.size();
    const auto [end, error] = std::from_chars(port_text.data(), last, endpoint.port);
    if (error != std::errc() || end != last) {
      return fail(ErrorKind::kBadInput, "'{}': '{}' is not a port (0 to 65535)", text, port_text);
    }
  }
  return endpoint;
}

std::string Endpoint::to_string() const {
  const bool v6 = address.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", address, v6 ? "]" : "", port);
}

Result<sys::Fd> listen_tcp(const std::string& address, uint16_t port) {
  TESS_TRY_ASSIGN(const Address to, resolve(address, port, false));
  sys::Fd fd(::socket(to.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) {
    return fail_errno("socket");
  }
  TESS_TRY(set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"));
  if (::bind(fd.get(), to.get(), to.size) != 0 || ::listen(fd.get(), 1024) != 0) {
    return fail_errno("listen on {}", Endpoint{address, port}.to_string());
  }
  return fd;
}

Result<Endpoint> local_endpoint(const sys::Fd& fd) {
  Address address;
  if (::getsockname(fd.get(), address.get(), &address.size) != 0) {
    return fail_errno("getsockname");
  }
  return to_endpoint(address);
}

Result<Endpoint> peer_endpoint(const sys::Fd& fd) {
  Address address;
  if (::getpeername(fd.get(), address.get(), &address.size) != 0) {
    return fail_errno("getpeername");
  }
  return to_endpoint(address);
}

Result<sys::Fd> accept_tcp(const sys::Fd& listener, milliseconds timeout) {
  while (true) {
    sys::Fd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      TESS_TRY(tune(fd));
      return fd;
    }
    if (errno == EINTR || errno == ECONNABORTED) {
      continue;
    }
    if (errno != EAGAIN) {
      return fail_errno("accept");
    }
    TESS_TRY_ASSIGN(const bool ready, wait_fd(listener.get(), POLLIN, timeout));
    if (!ready) {
      return fail(ErrorKind::kRetry, "nobody connected within {} ms", timeout.count());
    }
  }
}

Result<sys::Fd> connect_tcp(const std::string& address, uint16_t port, milliseconds timeout) {
  const Endpoint to{address, port};
  TESS_TRY_ASSIGN(const Address resolved, resolve(address, port, false));
  TESS_TRY_ASSIGN(sys::Fd fd, begin_connect(resolved, to));
  TESS_TRY_ASSIGN(const bool ready, wait_fd(fd.get(), POLLOUT, timeout));
  if (!ready) {
    return connect_error(ETIMEDOUT, to);
  }
  TESS_TRY(finish_connect(fd, to));
  return fd;
}

Result<sys::Fd> start_connect(const Endpoint& to) {
  TESS_TRY_ASSIGN(const Address address, resolve(to.address, to.port, true));
  return begin_connect(address, to);
}

Result<> finish_connect(const sys::Fd& fd, const Endpoint& to) {
  int error = 0;
  socklen_t size = sizeof(error);
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
    return fail_errno("getsockopt SO_ERROR");
  }
  if (error != 0) {
    return connect_error(error, to);
  }
  return {};
}

Result<bool> wait_fd(int fd, short events, milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  milliseconds left = timeout;
  while (true) {
    pollfd poll_fd{fd, events, 0};
    const int n = ::poll(&poll_fd, 1, left.count() < 0 ? -1 : static_cast<int>(left.count()));
    if (n >= 0) {
      return n > 0;
    }
    if (errno != EINTR) {
      return fail_errno("poll");
    }
    if (timeout.count() >= 0) {
      left = std::max(milliseconds(0),
                      std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()));
    }
  }
}

}  // namespace tess::net
