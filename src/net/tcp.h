// TCP sockets: listen, accept, connect, each with a deadline and errors a person can act on
// (refused, unreachable, timed out). Every socket made here is CLOEXEC, non-blocking and tuned:
// TCP_NODELAY, keepalive, and TCP_USER_TIMEOUT of 15 s, so a silent peer is noticed. An address is
// a numeric IPv4 or IPv6 address or a host name (connect may then ask the resolver).
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::net {

struct Endpoint {
  std::string address;
  uint16_t port = 0;
  // "10.0.0.1:7117" or "[fe80::1]:7117"; a text without a port gets `default_port`.
  static Result<Endpoint> parse(const std::string& text, uint16_t default_port);
  std::string to_string() const;
  bool operator==(const Endpoint&) const = default;
};

// port 0: any free one (see local_endpoint).
Result<sys::Fd> listen_tcp(const std::string& address, uint16_t port);
Result<Endpoint> local_endpoint(const sys::Fd& fd);
Result<Endpoint> peer_endpoint(const sys::Fd& fd);

// kRetry when the timeout passes without a connection; timeout 0 only looks.
Result<sys::Fd> accept_tcp(const sys::Fd& listener, std::chrono::milliseconds timeout);

Result<sys::Fd> connect_tcp(const std::string& address, uint16_t port,
                            std::chrono::milliseconds timeout);

// For event loops: starts a connection to a numeric address; when the socket is writable ask
// finish_connect.
Result<sys::Fd> start_connect(const Endpoint& to);
Result<> finish_connect(const sys::Fd& fd, const Endpoint& to);

// Waits for poll(2) events; false: timed out. A negative timeout waits for ever.
Result<bool> wait_fd(int fd, short events, std::chrono::milliseconds timeout);

}  // namespace tess::net
