#include "host/home_link.h"

#include "base/log.h"
#include "wire/agent.pb.h"
#include "wire/frame.h"

namespace tess::host {
namespace {

constexpr wire::Timeout kSendTimeout{15'000};

}  // namespace

Result<> HomeLink::attach(std::shared_ptr<net::TlsStream> stream) {
  const std::lock_guard guard(mutex_);
  if (stream_ != nullptr) {
    return fail(ErrorKind::kNotPossible, "the home agent has a link already");
  }
  stream_ = std::move(stream);
  return {};
}

void HomeLink::close() {
  const std::lock_guard guard(mutex_);
  if (stream_ != nullptr) {
    stream_->shutdown();
  }
}

void HomeLink::send(const wire::LinkMessage& message) {
  const std::lock_guard guard(mutex_);
  if (stream_ == nullptr) {
    return;
  }
  if (auto sent = wire::write_frame(*stream_, message, kSendTimeout); !sent) {
    log::warn("host", "event=link_failed reason=\"{}\"", sent.error().message());
    stream_->shutdown();
  }
}

void HomeLink::send_failed(uint64_t operation, int32_t pid, std::string_view reason) {
  log::info("host", "event=failed operation={} pid={} reason=\"{}\"", operation, pid, reason);
  wire::LinkMessage message;
  message.set_operation(operation);
  message.set_pid(pid);
  message.mutable_failed()->set_reason(std::string(reason));
  send(message);
}

}  // namespace tess::host
