// The image and pages of a migration: from home to a host, from host to host, and back home.
#include <openssl/rand.h>

#include "base/log.h"
#include "home/image_apply.h"
#include "home/image_builder.h"
#include "home/migration.h"
#include "memory/image_stream.h"
#include "net/tcp.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"

namespace tess::home {
namespace {

using std::chrono::milliseconds;

// A restore may take long, but a host that is gone ends the link.
constexpr wire::Timeout kRestoreTimeout(600'000);
constexpr wire::Timeout kHelloTimeout(5'000);
constexpr milliseconds kArrivalTimeout(15'000);
constexpr milliseconds kPoll(100);
// After a broken stream, the time for the host's own words about it to come on the link.
constexpr wire::Timeout kReasonTimeout(2'000);

Result<std::string> make_token() {
  std::string token(wire::kTokenSize, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(token.data()), static_cast<int>(token.size())) !=
      1) {
    return fail(ErrorKind::kFailed, "no random bytes for a token");
  }
  return token;
}

void fill_expect(const HostLink& target, wire::Expect& expect) {
  expect.set_token(target.host().token);
  if (const auto lead = target.clock_lead(); lead) {
    expect.mutable_clocks()->set_monotonic_ahead_ns(lead->monotonic_ns);
    expect.mutable_clocks()->set_boottime_ahead_ns(lead->boottime_ns);
  }
}

}  // namespace

Result<> Migration::transfer() {
  switch (kind_) {
    case migrate::Kind::kOut:
      return transfer_out();
    case migrate::Kind::kHop:
      return transfer_hop();
    case migrate::Kind::kBack:
      return transfer_back();
  }
  return {};
}

Result<> Migration::wait_ready(HostLink& link) {
  return demand(link, "restore the process", wire::LinkMessage::kReady, kRestoreTimeout, nullptr);
}

Result<> Migration::transfer_out() {
  wire::ProcessImage image;
  TESS_TRY_ASSIGN(const std::set<ObjectKey> shared, services_.shared_objects());
  TESS_TRY(build_image(process_->pid, *process_->session, services_.run_dir() + "/hash-cache",
                       shared, image));
  process_->memory_bytes = image.memory_bytes();
  arg_start_ = image.arg_start();
  env_end_ = image.env_end();
  TESS_TRY(tell(*target_, [&](wire::LinkMessage& message) {
    fill_expect(*target_, *message.mutable_expect());
  }));
  TESS_TRY_ASSIGN(const auto stream, target_->open_stream(operation_));
  set_clocks(image);
  const auto sent = memory::send_image(*stream, process_->pid, image);
  if (!sent) {
    const Result<> reason =
        demand(*target_, "restore the process", wire::LinkMessage::kReady, kReasonTimeout, nullptr);
    return !reason && reason.error().kind() == ErrorKind::kFailed
               ? reason
               : fail_with(sent.error(), "send the image of process {}", process_->pid);
  }
  log::info("home", "event=sent pid={} to={} pages={} files={} stored={} reused={}", process_->pid,
            node_, sent->page_bytes, sent->file_bytes, sent->stored_bytes, sent->reused_bytes);
  services_.note_transfer(*process_, node_, true, sent->flow);
  return wait_ready(*target_);
}

Result<> Migration::transfer_hop() {
  const HostAddress& to = target_->host();
  TESS_TRY(tell(*target_, [&](wire::LinkMessage& message) {
    fill_expect(*target_, *message.mutable_expect());
  }));
  const Result<> sent = demand(*source_, "send the image", wire::LinkMessage::kDone,
                               kRestoreTimeout, [&](wire::LinkMessage& message) {
                                 wire::SendImage& order = *message.mutable_send_image();
                                 order.set_address(to.address);
                                 order.set_port(to.port);
                                 order.set_token(to.token);
                                 order.set_node(to.node);
                               });
  if (!sent) {
    const Result<> reason =
        demand(*target_, "restore the process", wire::LinkMessage::kReady, kReasonTimeout, nullptr);
    return !reason && reason.error().kind() == ErrorKind::kFailed ? reason : sent;
  }
  return wait_ready(*target_);
}

Result<> Migration::transfer_back() {
  TESS_TRY_ASSIGN(const std::string address, source_->local_address());
  TESS_TRY_ASSIGN(const sys::Fd listener, net::listen_tcp(address, 0));
  TESS_TRY_ASSIGN(const net::Endpoint endpoint, net::local_endpoint(listener));
  TESS_TRY_ASSIGN(const std::string token, make_token());
  TESS_TRY(tell(*source_, [&](wire::LinkMessage& message) {
    wire::SendImage& order = *message.mutable_send_image();
    order.set_address(endpoint.address);
    order.set_port(endpoint.port);
    order.set_token(token);
    order.set_to_home(true);
    order.set_node(services_.tls().node_name());
  }));
  const auto deadline = std::chrono::steady_clock::now() + kArrivalTimeout;
  while (true) {
    auto socket = net::accept_tcp(listener, kPoll);
    if (!socket) {
      if (socket.error().kind() != ErrorKind::kRetry) {
        return tl::unexpected(std::move(socket.error()));
      }
      // Nobody came yet; perhaps the source has said why.
      if (auto word = source_->wait(operation_, wire::Timeout(0));
          !word && word.error().kind() != ErrorKind::kRetry) {
        return fail_with(word.error(), "send the image home");
      }
      if (std::chrono::steady_clock::now() > deadline) {
        return fail(ErrorKind::kRetry, "the image did not come from {}", from_);
      }
      continue;
    }
    auto stream = net::TlsStream::accept(services_.tls(), std::move(*socket), kHelloTimeout);
    wire::AgentHello hello;
    if (!stream || (*stream)->peer_name() != from_ ||
        !wire::read_frame(**stream, hello, kHelloTimeout, 4096) || hello.token() != token ||
        hello.job() != services_.job() || hello.operation() != operation_ ||
        hello.kind() != wire::AgentHello::STREAM) {
      continue;  // not whom we wait for
    }
    room_.emplace(process_->pid);
    auto received = receive_and_apply(**stream, process_->pid, *process_->session);
    if (!received) {
      return fail_with(received.error(), "receive the image of process {}", process_->pid);
    }
    log::info("home", "event=received pid={} from={} pages={}", process_->pid, from_,
              received->stats.page_bytes);
    services_.note_transfer(*process_, from_, false, received->stats.flow);
    process_cpu_ns_ = received->process_cpu_ns;
    return demand(*source_, "send the image home", wire::LinkMessage::kDone, kRestoreTimeout,
                  nullptr);
  }
}

}  // namespace tess::home
