#include "host/tessd_client.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "sys/unix_socket.h"
#include "wire/node.pb.h"

namespace tess::host {
namespace {

constexpr std::chrono::seconds kRetry{1};

}  // namespace

TessdClient::TessdClient(net::Loop& loop, std::string socket_path, uint64_t job,
                         std::string home_node, Handlers handlers)
    : loop_(loop),
      path_(std::move(socket_path)),
      job_(job),
      home_node_(std::move(home_node)),
      handlers_(std::move(handlers)),
      retry_(loop) {
  connect();
}

TessdClient::~TessdClient() = default;

void TessdClient::connect() {
  auto socket = sys::connect_unix(path_);
  if (!socket) {
    retry_.start(kRetry, [this] { connect(); });
    return;
  }
  socket_ = std::move(*socket);
  reader_ = wire::FrameReader(1 << 20);
  watch_ = std::make_unique<net::FdWatch>(
      loop_, socket_.get(), [this] { readable(); }, [] {});
  watch_->want_read(true);
  wire::AgentUp message;
  wire::Register& registration = *message.mutable_register_();
  registration.set_job(job_);
  registration.set_role(wire::Register::HOST);
  registration.set_agent_pid(::getpid());
  registration.set_home_node(home_node_);
  send(message);
  send_status();
}

void TessdClient::lost() {
  watch_.reset();
  socket_.reset();
  recall_request_ = 0;
  retry_.start(kRetry, [this] { connect(); });
}

void TessdClient::readable() {
  std::array<std::byte, 16384> buffer;
  const ssize_t n = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (n <= 0) {
    lost();
    return;
  }
  reader_.feed(std::span(buffer).first(static_cast<size_t>(n)));
  while (true) {
    auto payload = reader_.next();
    wire::AgentDown message;
    if (!payload ||
        (*payload && !wire::decode_payload(std::as_bytes(std::span(**payload)), message))) {
      log::warn("host", "event=tessd_makes_no_sense");
      lost();
      return;
    }
    if (!*payload) {
      return;
    }
    if (message.has_recall()) {
      recall_request_ = message.request();
      handlers_.recall();
    }
  }
}

// A local socket with a reader that is always there: a full buffer means that tessd hangs, and then
// the message is not worth waiting for.
void TessdClient::send(const wire::AgentUp& message) {
  if (!socket_.valid()) {
    return;
  }
  const auto frame = wire::encode_frame(message);
  if (frame && ::send(socket_.get(), frame->data(), frame->size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
                   static_cast<ssize_t>(frame->size())) {
    lost();
  }
}

void TessdClient::send_status(bool finished) {
  wire::AgentUp message;
  wire::JobStatus& status = *message.mutable_job_status();
  status.set_job(job_);
  status.set_finished(finished);
  handlers_.fill_status(status);
  send(message);
}

void TessdClient::recall_done() {
  if (recall_request_ == 0) {
    return;
  }
  wire::AgentUp message;
  message.set_request(std::exchange(recall_request_, 0));
  message.mutable_answer()->set_ok(true);
  send(message);
}

}  // namespace tess::host
