#include "net/agent_socket.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/log.h"
#include "sys/unix_socket.h"
#include "wire/node.pb.h"

namespace tess::net {
namespace {

constexpr std::chrono::seconds kRetryInterval{1};
constexpr size_t kFrameMax = 1 << 20;

}  // namespace

AgentSocket::AgentSocket(Loop& loop, std::string path, Handlers handlers)
    : loop_(loop), path_(std::move(path)), handlers_(std::move(handlers)), retry_(loop) {}

void AgentSocket::connect() {
  auto socket = sys::connect_unix(path_);
  if (!socket) {
    retry_.start(kRetryInterval, [this] { connect(); });
    return;
  }
  socket_ = std::move(*socket);
  reader_ = wire::FrameReader(kFrameMax);
  watch_ = std::make_unique<FdWatch>(
      loop_, socket_.get(), [this] { readable(); }, [] {});
  watch_->want_read(true);
  handlers_.connected(std::exchange(was_connected_, true));
}

void AgentSocket::disconnect() {
  watch_.reset();
  socket_.reset();
  retry_.start(kRetryInterval, [this] { connect(); });
  handlers_.lost();
}

void AgentSocket::readable() {
  std::array<std::byte, 16384> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n <= 0) {
    disconnect();
    return;
  }
  reader_.feed(std::span(buffer).first(static_cast<size_t>(n)));
  while (socket_.valid()) {
    auto payload = reader_.next();
    wire::AgentDown message;
    if (!payload ||
        (*payload && !wire::decode_payload(std::as_bytes(std::span(**payload)), message))) {
      log::warn("net", "event=tessd_makes_no_sense");
      disconnect();
      return;
    }
    if (!*payload) {
      return;
    }
    handlers_.message(message);
  }
}

// A local socket with a reader that is always there: a full buffer means that tessd hangs, and then
// the message is not worth waiting for.
void AgentSocket::send(const wire::AgentUp& message) {
  if (!socket_.valid()) {
    return;
  }
  const auto frame = wire::encode_frame(message);
  if (frame && ::send(socket_.get(), frame->data(), frame->size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
                   static_cast<ssize_t>(frame->size())) {
    // Not from within the call: the caller is in the middle of something.
    loop_.post([this] {
      if (socket_.valid()) {
        disconnect();
      }
    });
  }
}

}  // namespace tess::net
