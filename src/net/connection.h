// Connection: bytes to and from one peer on a loop; a plain socket (unix) or TLS over TCP. Never
// blocks; what cannot be sent at once is queued, up to kQueueMax. Loop thread only. Handlers:
// `opened` once (TLS: the peer's certificate is checked, peer_name() known), then `data` any number
// of times, `closed` at most once and last, never from within send(). The owner may drop the
// connection in a handler.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/loop.h"
#include "net/tcp.h"
#include "net/tls_stream.h"
#include "sys/fd.h"

namespace tess::net {

class TlsEngine;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  static constexpr size_t kQueueMax = 64 << 20;
  static constexpr std::chrono::milliseconds kOpenTimeout{5000};

  struct Handlers {
    std::function<void()> opened;
    std::function<void(std::span<const std::byte>)> data;
    std::function<void(const Error&)> closed;
  };

  // The handlers are called from the loop, never from these.
  static std::shared_ptr<Connection> plain(Loop& loop, sys::Fd socket, Handlers handlers);
  static std::shared_ptr<Connection> tls_accept(Loop& loop, const TlsContext& context,
                                                sys::Fd socket, Handlers handlers);
  // Numeric addresses only. Failure to connect arrives at `closed`.
  static std::shared_ptr<Connection> tls_connect(Loop& loop, const TlsContext& context,
                                                 const Endpoint& to, Handlers handlers);
  ~Connection();

  void send(std::string_view bytes);
  // Delivers what has already arrived, before the loop would.
  void receive_now();
  // No handler is called after this.
  void close();
  // Sends what is queued, then closes; no handler but those of sending is called.
  void close_after_sending();
  const std::string& peer_name() const;
  // TLS: the other side has no certificate and wants to join; see TlsContext::load.
  bool joining() const;
  Result<std::string> session_secret() const;
  int fd() const { return socket_.get(); }

 private:
  enum class State { kConnecting, kHandshake, kOpen, kClosed };

  Connection(Loop& loop, sys::Fd socket, State state, Handlers handlers);
  void start();
  void begin_watch();
  void on_readable();
  void on_writable();
  void advance_handshake();
  void deliver();
  bool receive();  // false: nothing now, or closed
  void flush();
  void fail_with_error(Error error);

  Loop& loop_;
  sys::Fd socket_;
  State state_;
  Handlers handlers_;
  Endpoint to_;
  std::unique_ptr<TlsEngine> engine_;
  std::unique_ptr<FdWatch> watch_;
  Timer open_timer_;
  std::string unsent_before_open_;
  std::vector<std::byte> queue_;
  size_t queue_start_ = 0;
  std::vector<std::byte> scratch_;
  bool finishing_ = false;
};

}  // namespace tess::net
