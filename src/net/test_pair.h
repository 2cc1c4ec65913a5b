// For tests: the two ends of a TLS connection over loopback, shaken hands or with the reason why
// not; and a port on which nobody listens.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <future>
#include <memory>

#include "net/tcp.h"
#include "net/tls_stream.h"

namespace tess::net {

using StreamResult = Result<std::unique_ptr<TlsStream>>;

struct Pair {
  StreamResult client = fail(ErrorKind::kFailed, "not run");
  StreamResult server = fail(ErrorKind::kFailed, "not run");
};

inline Pair connect_pair(const TlsContext& client, const TlsContext& server,
                         std::chrono::seconds patience = std::chrono::seconds(60)) {
  const auto listener = listen_tcp("127.0.0.1", 0);
  const uint16_t port = local_endpoint(*listener)->port;
  auto accepted = std::async(std::launch::async, [&]() -> StreamResult {
    TESS_TRY_ASSIGN(sys::Fd fd, accept_tcp(*listener, patience));
    return TlsStream::accept(server, std::move(fd), patience);
  });
  Pair pair;
  pair.client = TlsStream::connect(client, "127.0.0.1", port, patience);
  pair.server = accepted.get();
  return pair;
}

// Taken, so that nobody else comes to listen on it meanwhile.
class ClosedPort {
 public:
  ClosedPort() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof(any)), 0);
  }
  uint16_t number() const { return local_endpoint(socket_).value().port; }

 private:
  sys::Fd socket_;
};

}  // namespace tess::net
