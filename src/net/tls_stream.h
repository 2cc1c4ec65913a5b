// TlsStream: a blocking TLS 1.3 connection between two nodes of one cluster, with mutual
// certificates. Both ends show a certificate of the cluster's CA; its CN is the node's name.
// Timeouts as in wire/byte_stream.h. Threads: one may read while another writes; the SSL object is
// guarded inside and nobody holds it while waiting. Errors: kDisconnected (peer gone), kRetry
// (timed out; refused or unreachable when connecting), kNotPossible (certificate of a foreign
// cluster, not our protocol). In an event loop: wait for fd() to be readable unless pending(), then
// read_some(…, 0) until 0.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "net/certificate.h"
#include "net/tcp.h"
#include "sys/fd.h"
#include "wire/byte_stream.h"

namespace tess::net {

// Certificates of this node: ca.crt, node.crt, node.key from a state directory, and whom the
// cluster has expelled (charter, if it is there). Cheap to copy; immutable.
class TlsContext {
 public:
  // `admits`: as a server, machines without a certificate may connect too, if they say that they
  // want to join (Connection::joining).
  static Result<TlsContext> load(const std::string& state_dir, bool admits = false);
  // For a machine that has no certificate yet: a client that believes only servers with a
  // certificate of the CA whose key has this fingerprint (node/join_token.h), and says that it
  // wants to join. Without a fingerprint it believes anybody: a person has to compare
  // TlsStream::peer_ca then.
  static Result<TlsContext> for_joining(const std::optional<KeyPrint>& ca);
  const std::string& node_name() const;  // CN of node.crt

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  explicit TlsContext(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

class TlsStream final : public wire::ByteStream {
 public:
  // `timeout` bounds TCP connect and TLS handshake each.
  static Result<std::unique_ptr<TlsStream>> connect(const TlsContext& context,
                                                    const std::string& address, uint16_t port,
                                                    wire::Timeout timeout);
  // The server's side of the handshake on an accepted socket.
  static Result<std::unique_ptr<TlsStream>> accept(const TlsContext& context, sys::Fd socket,
                                                   wire::Timeout timeout);
  ~TlsStream() override;

  Result<> read_exact(std::span<std::byte> into, wire::Timeout timeout) override;
  Result<> write_all(std::span<const std::byte> from, wire::Timeout timeout) override;
  size_t unread() const override { return wire::unread_bytes(fd()); }

  // What is there, at most into.size(): waits up to `timeout` for the first byte; 0: nothing came
  // in that time.
  Result<size_t> read_some(std::span<std::byte> into, wire::Timeout timeout);
  // Bytes have been received that read_some can give (or is about to decrypt) without waiting for
  // fd().
  bool pending() const;

  const std::string& peer_name() const;
  // Fingerprint of the CA's key that stands at the end of the peer's chain.
  Result<KeyPrint> peer_ca() const;
  // 32 bytes that only the two ends of this connection know: binds what is said here to it.
  Result<std::string> session_secret() const;
  int fd() const;

  // Says goodbye (close_notify, without waiting) and shuts the socket down: both directions, any
  // thread; calls in progress end.
  void shutdown();

 private:
  struct Impl;
  explicit TlsStream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tess::net
