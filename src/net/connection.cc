#include "net/connection.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "base/check.h"
#include "net/tls_engine.h"

namespace tess::net {
namespace {

constexpr size_t kPlainPiece = 64 << 10;
constexpr int kReadsPerTurn = 16;  // then the loop serves others

void set_nonblocking(int fd) {
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

}  // namespace

Connection::Connection(Loop& loop, sys::Fd socket, State state, Handlers handlers)
    : loop_(loop),
      socket_(std::move(socket)),
      state_(state),
      handlers_(std::move(handlers)),
      open_timer_(loop) {}

Connection::~Connection() = default;

std::shared_ptr<Connection> Connection::plain(Loop& loop, sys::Fd socket, Handlers handlers) {
  std::shared_ptr<Connection> made(
      new Connection(loop, std::move(socket), State::kOpen, std::move(handlers)));
  set_nonblocking(made->socket_.get());
  made->start();
  return made;
}

std::shared_ptr<Connection> Connection::tls_accept(Loop& loop, const TlsContext& context,
                                                   sys::Fd socket, Handlers handlers) {
  std::shared_ptr<Connection> made(
      new Connection(loop, std::move(socket), State::kHandshake, std::move(handlers)));
  set_nonblocking(made->socket_.get());
  auto engine = TlsEngine::make(context, TlsEngine::Side::kServer);
  if (engine) {
    made->engine_ = std::move(*engine);
    made->start();
  } else {
    made->fail_with_error(std::move(engine.error()));
  }
  return made;
}

std::shared_ptr<Connection> Connection::tls_connect(Loop& loop, const TlsContext& context,
                                                    const Endpoint& to, Handlers handlers) {
  auto socket = start_connect(to);
  std::shared_ptr<Connection> made(new Connection(loop, socket ? std::move(*socket) : sys::Fd(),
                                                  State::kConnecting, std::move(handlers)));
  made->to_ = to;
  auto engine = TlsEngine::make(context, TlsEngine::Side::kClient);
  if (!socket) {
    made->fail_with_error(std::move(socket.error()));
  } else if (!engine) {
    made->fail_with_error(std::move(engine.error()));
  } else {
    made->engine_ = std::move(*engine);
    made->start();
  }
  return made;
}

void Connection::start() {
  loop_.post([weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self != nullptr && self->state_ != State::kClosed && self->watch_ == nullptr) {
      self->begin_watch();
    }
  });
}

void Connection::begin_watch() {
  // Both callbacks keep the connection alive while they run: a handler may drop it.
  watch_ = std::make_unique<FdWatch>(
      loop_, socket_.get(),
      [this] {
        const auto self = shared_from_this();
        on_readable();
      },
      [this] {
        const auto self = shared_from_this();
        on_writable();
      });
  if (state_ == State::kOpen) {
    const auto self = shared_from_this();
    watch_->want_read(true);
    flush();
    if (state_ == State::kOpen && handlers_.opened) {
      handlers_.opened();
    }
    return;
  }
  open_timer_.start(kOpenTimeout, [this] {
    fail_with_error(
        Error(ErrorKind::kRetry, fmt::format("no answer within {} ms", kOpenTimeout.count())));
  });
  if (state_ == State::kConnecting) {
    watch_->want_write(true);
  } else {
    watch_->want_read(true);
  }
}

void Connection::on_writable() {
  if (state_ == State::kConnecting) {
    watch_->want_write(false);
    if (auto done = finish_connect(socket_, to_); !done) {
      fail_with_error(std::move(done.error()));
      return;
    }
    state_ = State::kHandshake;
    watch_->want_read(true);
    advance_handshake();
    return;
  }
  flush();
}

void Connection::on_readable() {
  if (engine_ == nullptr) {
    for (int i = 0; i < kReadsPerTurn && state_ == State::kOpen; ++i) {
      if (!receive()) {
        return;
      }
    }
    return;
  }
  for (int i = 0; i < kReadsPerTurn && state_ != State::kClosed; ++i) {
    if (!receive()) {
      return;
    }
    if (state_ == State::kHandshake) {
      advance_handshake();
    }
    if (state_ == State::kOpen) {
      deliver();
    }
  }
}

bool Connection::receive() {
  if (engine_ == nullptr) {
    scratch_.resize(kPlainPiece);
  }
  const std::span<std::byte> space =
      engine_ != nullptr ? engine_->receive_space() : std::span(scratch_);
  const ssize_t n = ::recv(socket_.get(), space.data(), space.size(), MSG_DONTWAIT);
  if (n < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      fail_with_error(
          Error(ErrorKind::kDisconnected, std::string("connection lost: ") + ::strerror(errno)));
    }
    return false;
  }
  if (engine_ != nullptr) {
    if (n == 0) {
      engine_->received_end();
    }
    engine_->received(static_cast<size_t>(n));
    return true;
  }
  if (n == 0) {
    fail_with_error(Error(ErrorKind::kDisconnected, "the other side closed the connection"));
    return false;
  }
  if (!finishing_) {
    handlers_.data(space.first(static_cast<size_t>(n)));
  }
  return true;
}

void Connection::advance_handshake() {
  Result<bool> done = engine_->handshake();
  std::vector<std::byte> output;
  engine_->take_output(output);
  queue_.insert(queue_.end(), output.begin(), output.end());
  flush();
  if (state_ == State::kClosed) {
    return;
  }
  if (!done) {
    fail_with_error(std::move(done.error()));
    return;
  }
  if (!*done) {
    return;
  }
  state_ = State::kOpen;
  open_timer_.stop();
  if (handlers_.opened) {
    handlers_.opened();
  }
  if (state_ == State::kOpen && !unsent_before_open_.empty()) {
    const std::string unsent = std::move(unsent_before_open_);
    send(unsent);
  }
}

void Connection::deliver() {
  std::byte buffer[16 << 10];
  while (state_ == State::kOpen) {
    Result<size_t> count = engine_->read(buffer);
    if (!count) {
      fail_with_error(std::move(count.error()));
      return;
    }
    if (*count == 0) {
      return;
    }
    if (!finishing_) {
      handlers_.data(std::span(buffer).first(*count));
    }
  }
}

void Connection::send(std::string_view bytes) {
  if (state_ == State::kClosed) {
    return;
  }
  if (state_ != State::kOpen) {
    unsent_before_open_.append(bytes);
    return;
  }
  if (engine_ != nullptr) {
    if (auto written = engine_->write(std::as_bytes(std::span(bytes))); !written) {
      fail_with_error(std::move(written.error()));
      return;
    }
    engine_->take_output(scratch_);
    queue_.insert(queue_.end(), scratch_.begin(), scratch_.end());
  } else {
    const auto raw = std::as_bytes(std::span(bytes));
    queue_.insert(queue_.end(), raw.begin(), raw.end());
  }
  if (queue_.size() - queue_start_ > kQueueMax) {
    fail_with_error(Error(ErrorKind::kDisconnected, "the other side does not read"));
    return;
  }
  flush();
}

void Connection::flush() {
  while (queue_start_ < queue_.size()) {
    const ssize_t n = ::send(socket_.get(), queue_.data() + queue_start_,
                             queue_.size() - queue_start_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      queue_start_ += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      if (watch_ != nullptr) {
        watch_->want_write(true);
      }
      return;
    } else if (errno != EINTR) {
      fail_with_error(
          Error(ErrorKind::kDisconnected, std::string("connection lost: ") + ::strerror(errno)));
      return;
    }
  }
  queue_.clear();
  queue_start_ = 0;
  if (watch_ != nullptr) {
    watch_->want_write(false);
  }
  if (finishing_) {
    close();
  }
}

void Connection::fail_with_error(Error error) {
  if (state_ == State::kClosed) {
    return;
  }
  auto closed = finishing_ ? nullptr : std::move(handlers_.closed);
  close();
  if (closed != nullptr) {
    // Posted: the caller may be the owner in the middle of send(). Not after the owner has dropped
    // us.
    loop_.post([weak = weak_from_this(), closed = std::move(closed), error = std::move(error)] {
      if (const auto self = weak.lock()) {
        closed(error);
      }
    });
  }
}

void Connection::receive_now() {
  const auto self = shared_from_this();
  if (state_ == State::kOpen && watch_ == nullptr) {
    begin_watch();
  }
  if (state_ == State::kOpen || state_ == State::kHandshake) {
    on_readable();
  }
}

void Connection::close() {
  if (state_ == State::kClosed) {
    return;
  }
  if (engine_ != nullptr && state_ == State::kOpen && socket_.valid()) {
    engine_->close();
    engine_->take_output(scratch_);
    if (queue_start_ == queue_.size()) {
      (void)::send(socket_.get(), scratch_.data(), scratch_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  }
  state_ = State::kClosed;
  open_timer_.stop();
  watch_.reset();
  socket_.reset();
}

void Connection::close_after_sending() {
  if (state_ == State::kClosed) {
    return;
  }
  finishing_ = true;
  const auto self = shared_from_this();
  // Held until the queue is empty, even if the owner lets go now.
  if (state_ == State::kOpen && queue_start_ == queue_.size()) {
    close();
    return;
  }
  open_timer_.start(kOpenTimeout, [self] { self->close(); });
}

bool Connection::joining() const {
  return engine_ != nullptr && engine_->joining();
}

Result<std::string> Connection::session_secret() const {
  TESS_CHECK(engine_ != nullptr, "a plain connection has no secret");
  return engine_->session_secret();
}

const std::string& Connection::peer_name() const {
  static const std::string kNobody;
  return engine_ != nullptr ? engine_->peer_name() : kNobody;
}

}  // namespace tess::net
