#include "host/door.h"

#include <openssl/crypto.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "base/log.h"
#include "net/tcp.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"

namespace tess::host {
namespace {

constexpr size_t kPreambleSize = 48;
constexpr size_t kPreambleToken = 24;
constexpr size_t kVisitorsMax = 256;
constexpr int kHandshakesMax = 32;
constexpr std::chrono::seconds kVisitTime{10};
constexpr wire::Timeout kHandshakeTimeout{10'000};
constexpr std::byte kTlsHandshake{0x16};

struct Preamble {
  char magic[8];
  uint64_t job;
  uint64_t id;
  char token[kPreambleToken];
};
static_assert(sizeof(Preamble) == kPreambleSize);

}  // namespace

struct Door::Shared {
  std::mutex mutex;
  bool open = true;
  int handshakes = 0;
};

Door::Door(net::Loop& loop, sys::Fd listener, const net::TlsContext& tls, uint64_t job,
           std::string token, Handlers handlers)
    : loop_(loop),
      listener_(std::move(listener)),
      tls_(tls),
      job_(job),
      token_(std::move(token)),
      handlers_(std::move(handlers)),
      shared_(std::make_shared<Shared>()) {
  watch_ = std::make_unique<net::FdWatch>(
      loop_, listener_.get(), [this] { accept_all(); }, [] {});
  watch_->want_read(true);
}

Door::~Door() {
  close();
}

void Door::close() {
  watch_.reset();
  visitors_.clear();
  listener_.reset();
  const std::lock_guard guard(shared_->mutex);
  shared_->open = false;
}

void Door::accept_all() {
  while (true) {
    auto socket = net::accept_tcp(listener_, std::chrono::milliseconds(0));
    if (!socket) {
      return;
    }
    if (visitors_.size() >= kVisitorsMax) {
      visitors_.pop_front();  // the one that has been silent longest
    }
    auto visitor = std::make_unique<Visitor>(loop_);
    Visitor* const raw = visitor.get();
    visitor->socket = std::move(*socket);
    visitor->watch = std::make_unique<net::FdWatch>(
        loop_, visitor->socket.get(), [this, raw] { look_at(raw); }, [] {});
    visitor->watch->want_read(true);
    visitor->deadline.start(kVisitTime, [this, raw] { drop(raw); });
    visitors_.push_back(std::move(visitor));
  }
}

void Door::drop(Visitor* visitor) {
  visitors_.remove_if([visitor](const auto& other) { return other.get() == visitor; });
}

void Door::look_at(Visitor* visitor) {
  std::array<std::byte, kPreambleSize> first{};
  const ssize_t n =
      ::recv(visitor->socket.get(), first.data(), first.size(), MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n > 0 && first[0] == kTlsHandshake) {
    visitor->watch.reset();
    sys::Fd socket = std::move(visitor->socket);
    drop(visitor);
    shake_hands(std::move(socket));
    return;
  }
  Preamble preamble;
  std::memcpy(&preamble, first.data(), sizeof(preamble));
  const size_t known = n > 0 ? std::min<size_t>(static_cast<size_t>(n), 8) : 0;
  if (known == 0 || std::memcmp(preamble.magic, "TESSCHAN", known) != 0) {
    drop(visitor);
    return;
  }
  if (n < static_cast<ssize_t>(kPreambleSize)) {
    return;  // more will come, or the deadline
  }
  if (preamble.job != job_ || CRYPTO_memcmp(preamble.token, token_.data(), kPreambleToken) != 0) {
    log::warn("host", "event=channel_refused reason=\"wrong job or token\"");
    drop(visitor);
    return;
  }
  (void)!::recv(visitor->socket.get(), first.data(), first.size(), 0);
  visitor->watch.reset();
  sys::Fd socket = std::move(visitor->socket);
  drop(visitor);
  handlers_.channel(preamble.id, std::move(socket));
}

void Door::shake_hands(sys::Fd socket) {
  {
    const std::lock_guard guard(shared_->mutex);
    if (shared_->handshakes >= kHandshakesMax) {
      return;
    }
    ++shared_->handshakes;
  }
  std::thread([this, shared = shared_, socket = std::move(socket), tls = tls_,
               job = job_]() mutable {
    auto stream = net::TlsStream::accept(tls, std::move(socket), kHandshakeTimeout);
    auto hello = std::make_shared<wire::AgentHello>();
    if (stream) {
      if (auto read = wire::read_frame(**stream, *hello, kHandshakeTimeout, 4096); !read) {
        stream = tl::unexpected(std::move(read.error()));
      }
    }
    if (stream && (hello->job() != job || hello->node() != (*stream)->peer_name())) {
      stream = fail(ErrorKind::kBadInput, "it names another job or node");
    }
    const std::lock_guard guard(shared->mutex);
    --shared->handshakes;
    if (!stream) {
      log::warn("host", "event=connection_refused reason=\"{}\"", stream.error().message());
      return;
    }
    if (shared->open) {
      // The loop's tasks are run by the thread that closes the door, so `this` is alive in them if
      // the door is still open.
      auto shared_stream = std::make_shared<std::unique_ptr<net::TlsStream>>(std::move(*stream));
      loop_.post([this, shared, shared_stream, hello] {
        {
          const std::lock_guard inner(shared->mutex);
          if (!shared->open) {
            return;
          }
        }
        handlers_.tls(std::move(*shared_stream), *hello);
      });
    }
  }).detach();
}

}  // namespace tess::host
