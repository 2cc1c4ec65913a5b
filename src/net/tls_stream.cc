#include "net/tls_stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "net/tls_engine.h"

namespace tess::net {
namespace {

using wire::Timeout;

constexpr size_t kWritePiece = 256 << 10;

bool is_gone(int error) {
  return error == EPIPE || error == ECONNRESET || error == ETIMEDOUT || error == EHOSTUNREACH;
}

// Everything, waiting for room for up to `timeout` without progress.
Result<> send_all(int fd, std::span<const std::byte> bytes, Timeout timeout) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno == EAGAIN) {
      TESS_TRY_ASSIGN(const bool ready, wait_fd(fd, POLLOUT, timeout));
      if (!ready) {
        return fail(ErrorKind::kRetry, "nothing could be sent for {} ms", timeout.count());
      }
    } else if (is_gone(errno)) {
      return fail(ErrorKind::kDisconnected, "connection lost: {}", ::strerror(errno));
    } else if (errno != EINTR) {
      return fail_errno("send");
    }
  }
  return {};
}

}  // namespace

// Lock order: send_mutex, then engine_mutex. engine_mutex is held only while OpenSSL computes;
// send_mutex keeps ciphertext in order while it is being sent. The input buffer belongs to the
// reading thread.
struct TlsStream::Impl {
  sys::Fd socket;
  std::unique_ptr<TlsEngine> engine;
  std::mutex engine_mutex;
  std::mutex send_mutex;
  std::vector<std::byte> outgoing;  // under send_mutex
  std::atomic<bool> closed = false;
  bool drained = true;  // reader's: the last look found nothing that can be decrypted

  // Bytes into the engine without waiting; false: there are none now.
  Result<bool> receive_now() {
    const std::span<std::byte> space = engine->receive_space();
    while (true) {
      const ssize_t n = ::recv(socket.get(), space.data(), space.size(), MSG_DONTWAIT);
      if (n > 0) {
        engine->received(static_cast<size_t>(n));
        return true;
      }
      if (n == 0) {
        engine->received_end();
        return true;
      }
      if (errno == EAGAIN) {
        return false;
      }
      if (is_gone(errno)) {
        return fail(ErrorKind::kDisconnected, "connection lost: {}", ::strerror(errno));
      }
      if (errno != EINTR) {
        return fail_errno("recv");
      }
    }
  }

  Result<> handshake(Timeout timeout) {
    while (true) {
      Result<bool> done = engine->handshake();
      // Also after a failure: the alert tells the other side why.
      engine->take_output(outgoing);
      const Result<> sent = send_all(socket.get(), outgoing, timeout);
      if (!done) {
        return tl::unexpected(std::move(done.error()));
      }
      TESS_TRY(sent);
      if (*done) {
        return {};
      }
      TESS_TRY_ASSIGN(const bool ready, wait_fd(socket.get(), POLLIN, timeout));
      if (!ready) {
        return fail(ErrorKind::kRetry, "the TLS handshake timed out after {} ms", timeout.count());
      }
      TESS_TRY(receive_now());
    }
  }
};

TlsStream::TlsStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

TlsStream::~TlsStream() {
  shutdown();
}

Result<std::unique_ptr<TlsStream>> TlsStream::connect(const TlsContext& context,
                                                      const std::string& address, uint16_t port,
                                                      Timeout timeout) {
  auto impl = std::make_unique<Impl>();
  TESS_TRY_ASSIGN(impl->socket, connect_tcp(address, port, timeout));
  TESS_TRY_ASSIGN(impl->engine, TlsEngine::make(context, TlsEngine::Side::kClient));
  if (auto done = impl->handshake(timeout); !done) {
    return fail_with(std::move(done.error()), "connect to {}", Endpoint{address, port}.to_string());
  }
  return std::unique_ptr<TlsStream>(new TlsStream(std::move(impl)));
}

Result<std::unique_ptr<TlsStream>> TlsStream::accept(const TlsContext& context, sys::Fd socket,
                                                     Timeout timeout) {
  auto impl = std::make_unique<Impl>();
  impl->socket = std::move(socket);
  TESS_TRY_ASSIGN(impl->engine, TlsEngine::make(context, TlsEngine::Side::kServer));
  if (auto done = impl->handshake(timeout); !done) {
    const auto peer = peer_endpoint(impl->socket);
    return fail_with(std::move(done.error()), "connection from {}",
                     peer ? peer->to_string() : "a vanished peer");
  }
  return std::unique_ptr<TlsStream>(new TlsStream(std::move(impl)));
}

Result<size_t> TlsStream::read_some(std::span<std::byte> into, Timeout timeout) {
  while (true) {
    {
      const std::lock_guard lock(impl_->engine_mutex);
      TESS_TRY_ASSIGN(const size_t count, impl_->engine->read(into));
      if (count > 0) {
        impl_->drained = false;
        return count;
      }
    }
    TESS_TRY_ASSIGN(const bool received, impl_->receive_now());
    if (received) {
      continue;
    }
    impl_->drained = true;
    TESS_TRY_ASSIGN(const bool ready, wait_fd(impl_->socket.get(), POLLIN, timeout));
    if (!ready) {
      return size_t{0};
    }
  }
}

Result<> TlsStream::read_exact(std::span<std::byte> into, Timeout timeout) {
  while (!into.empty()) {
    TESS_TRY_ASSIGN(const size_t count, read_some(into, timeout));
    if (count == 0) {
      return fail(ErrorKind::kRetry, "nothing received for {} ms", timeout.count());
    }
    into = into.subspan(count);
  }
  return {};
}

Result<> TlsStream::write_all(std::span<const std::byte> from, Timeout timeout) {
  const std::lock_guard send_lock(impl_->send_mutex);
  while (!from.empty()) {
    if (impl_->closed) {
      return fail(ErrorKind::kDisconnected, "the connection has been shut down");
    }
    const auto piece = from.first(std::min(from.size(), kWritePiece));
    {
      const std::lock_guard lock(impl_->engine_mutex);
      TESS_TRY(impl_->engine->write(piece));
      impl_->engine->take_output(impl_->outgoing);
    }
    TESS_TRY(send_all(impl_->socket.get(), impl_->outgoing, timeout));
    from = from.subspan(piece.size());
  }
  return {};
}

bool TlsStream::pending() const {
  const std::lock_guard lock(impl_->engine_mutex);
  return impl_->engine->decrypted_pending() || (!impl_->drained && !impl_->engine->input_empty());
}

const std::string& TlsStream::peer_name() const {
  return impl_->engine->peer_name();
}

Result<KeyPrint> TlsStream::peer_ca() const {
  const std::lock_guard lock(impl_->engine_mutex);
  return impl_->engine->peer_ca();
}

Result<std::string> TlsStream::session_secret() const {
  const std::lock_guard lock(impl_->engine_mutex);
  return impl_->engine->session_secret();
}

int TlsStream::fd() const {
  return impl_->socket.get();
}

void TlsStream::shutdown() {
  if (impl_->closed.exchange(true)) {
    return;
  }
  // Only if nobody is in the middle of sending: half a record followed by an alert would be
  // garbage.
  if (impl_->send_mutex.try_lock()) {
    const std::lock_guard send_lock(impl_->send_mutex, std::adopt_lock);
    {
      const std::lock_guard lock(impl_->engine_mutex);
      impl_->engine->close();
      impl_->engine->take_output(impl_->outgoing);
    }
    (void)send_all(impl_->socket.get(), impl_->outgoing, Timeout(0));
  }
  ::shutdown(impl_->socket.get(), SHUT_RDWR);
}

}  // namespace tess::net
