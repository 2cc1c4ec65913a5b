#include "home/host_link.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/rand.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

#include "base/log.h"
#include "home/image_builder.h"
#include "net/tcp.h"
#include "stub/session.h"
#include "sys/priority.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/version.h"

namespace tess::home {
namespace {

constexpr wire::Timeout kConnectTimeout(5'000);
constexpr wire::Timeout kSendTimeout(15'000);
constexpr size_t kSpareChannels = 8;
constexpr unsigned kFirstSaid = 1;  // before tessd told the version of a host agent
constexpr std::chrono::seconds kSpareCheckInterval{5};
constexpr wire::Timeout kClockTimeout(2'000);

Result<std::array<uint8_t, 16>> make_secret() {
  std::array<uint8_t, 16> secret;
  if (RAND_bytes(secret.data(), static_cast<int>(secret.size())) != 1) {
    return fail(ErrorKind::kFailed, "no random bytes for a channel key");
  }
  return secret;
}

// What opens a raw channel: docs/architecture.md section 6.
std::array<std::byte, 48> make_preamble(uint64_t job, uint64_t id, const std::string& token) {
  std::array<std::byte, 48> preamble{};
  std::memcpy(preamble.data(), "TESSCHAN", 8);
  std::memcpy(preamble.data() + 8, &job, 8);
  std::memcpy(preamble.data() + 16, &id, 8);
  std::memcpy(preamble.data() + 24, token.data(), std::min<size_t>(token.size(), 24));
  return preamble;
}

// What home's clock is ahead of a host's.
struct ClockBounds {
  int64_t least_ns, most_ns;
  int64_t width_ns() const { return most_ns - least_ns; }
  int64_t middle_ns() const { return least_ns + width_ns() / 2; }
};

// Two clocks that drift, or a reading that was put off, may leave nothing: the new round counts
// then.
void narrow(std::optional<ClockBounds>& bounds, int64_t before_ns, int64_t there_ns,
            int64_t after_ns) {
  const ClockBounds round{before_ns - there_ns, after_ns - there_ns};
  const ClockBounds both = !bounds ? round
                                   : ClockBounds{std::max(bounds->least_ns, round.least_ns),
                                                 std::min(bounds->most_ns, round.most_ns)};
  bounds = both.width_ns() >= 0 ? both : round;
}

}  // namespace

Result<std::shared_ptr<HostLink>> HostLink::open(const net::TlsContext& tls, uint64_t job,
                                                 const HostAddress& host, Handlers handlers) {
  if (host.token.size() != wire::kTokenSize) {
    return fail(ErrorKind::kBadInput, "the token for the host agent on {} is not {} bytes",
                host.node, wire::kTokenSize);
  }
  const unsigned theirs = host.protocol_version == 0 ? kFirstSaid : host.protocol_version;
  if (!wire::common_version(wire::protocol_version(), theirs)) {
    return fail(
        ErrorKind::kNotPossible, "{}",
        wire::version_mismatch(tls.node_name(), wire::protocol_version(), host.node, theirs));
  }
  auto stream = net::TlsStream::connect(tls, host.address, host.port, kConnectTimeout);
  if (!stream) {
    return fail_with(stream.error(), "connect to the host agent on {}", host.node);
  }
  if ((*stream)->peer_name() != host.node) {
    return fail(ErrorKind::kNotPossible, "the agent at {}:{} has the certificate of {}, not of {}",
                host.address, host.port, (*stream)->peer_name(), host.node);
  }
  std::shared_ptr<HostLink> link(
      new HostLink(tls, job, host, std::move(handlers), std::move(*stream)));
  TESS_TRY(link->say_hello(*link->stream_, true, 0));
  link->reader_ = sys::priority_thread([raw = link.get()] { raw->read_loop(); });
  link->spare_maker_ = std::thread([raw = link.get()] { raw->spare_loop(); });
  link->clock_lead_ = link->compare_clocks();
  return link;
}

// A timer that home's kernel ends is not to end before its time by the body's clock: programs that
// then go back to sleep for the rest (sd-event) would sleep for ever. The host has read its clock
// between the question and its answer: each round gives bounds, and the truth is within all of them
// (Marzullo). What is left open is less than a message takes, and what is told later arrives later.
std::optional<ClockLead> HostLink::compare_clocks() {
  constexpr uint64_t kOperation = 1;  // those of moves begin far above
  constexpr int kRounds = 10;
  constexpr int64_t kCloseEnoughNs = 100'000, kLongEnoughNs = 50'000'000;
  std::optional<ClockBounds> monotonic, boottime;
  int64_t spent_ns = 0;
  for (int round = 0; round < kRounds && spent_ns < kLongEnoughNs &&
                      (!monotonic || monotonic->width_ns() > kCloseEnoughNs);
       ++round) {
    wire::LinkMessage question;
    question.set_operation(kOperation);
    question.mutable_ask_usage();
    const ClockReading before = read_clocks();
    if (!send_expecting(question)) {
      break;
    }
    const auto answer = wait(kOperation, kClockTimeout);
    const ClockReading after = read_clocks();
    if (!answer || !(*answer)->has_usage() || (*answer)->usage().monotonic_ns() == 0) {
      break;
    }
    spent_ns += after.monotonic_ns - before.monotonic_ns;
    const wire::Usage& there = (*answer)->usage();
    narrow(monotonic, before.monotonic_ns, there.monotonic_ns(), after.monotonic_ns);
    narrow(boottime, before.boottime_ns, there.boottime_ns(), after.boottime_ns);
  }
  forget(kOperation);
  return monotonic ? std::optional(ClockLead{monotonic->middle_ns(), boottime->middle_ns()})
                   : std::nullopt;
}

HostLink::HostLink(const net::TlsContext& tls, uint64_t job, HostAddress host, Handlers handlers,
                   std::unique_ptr<net::TlsStream> stream)
    : tls_(tls),
      job_(job),
      host_(std::move(host)),
      handlers_(std::move(handlers)),
      stream_(std::move(stream)) {}

HostLink::~HostLink() {
  close();
  for (std::thread* thread : {&reader_, &spare_maker_}) {
    if (thread->joinable()) {
      thread->join();
    }
  }
}

bool HostLink::alive() const {
  const std::lock_guard lock(mutex_);
  return !lost_ && !closed_;
}

void HostLink::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }
  stream_->shutdown();
}

Result<> HostLink::say_hello(wire::ByteStream& stream, bool is_link, uint64_t operation) const {
  wire::AgentHello hello;
  hello.set_protocol_version(wire::protocol_version());
  hello.set_job(job_);
  hello.set_token(host_.token);
  hello.set_kind(is_link ? wire::AgentHello::LINK : wire::AgentHello::STREAM);
  hello.set_operation(operation);
  hello.set_node(tls_.node_name());
  return wire::write_frame(stream, hello, kSendTimeout);
}

Result<> HostLink::send(const wire::LinkMessage& message) {
  const std::lock_guard lock(send_mutex_);
  auto sent = wire::write_frame(*stream_, message, kSendTimeout);
  if (!sent) {
    stream_->shutdown();  // half a frame may be out: the reader will see the end
    return fail(ErrorKind::kDisconnected, "the host agent on {} cannot be reached: {}", host_.node,
                sent.error().message());
  }
  return {};
}

void HostLink::read_loop() {
  while (true) {
    auto message = std::make_unique<wire::LinkMessage>();
    if (auto read = wire::read_frame(*stream_, *message, wire::kNoTimeout); !read) {
      end(read.error());
      return;
    }
    handle(std::move(message));
  }
}

void HostLink::handle(std::unique_ptr<wire::LinkMessage> message) {
  if (message->operation() != 0) {
    const std::lock_guard lock(mutex_);
    if (const auto it = answers_.find(message->operation()); it != answers_.end()) {
      it->second.push_back(std::move(message));
      changed_.notify_all();
      return;
    }
  }
  handlers_.unasked(*message);
}

void HostLink::end(const Error& error) {
  bool tell = false;
  {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    lost_reason_ = error.message();
    tell = !closed_;
    changed_.notify_all();
  }
  if (tell) {
    handlers_.lost(error);
  }
}

Result<std::unique_ptr<wire::LinkMessage>> HostLink::wait(uint64_t operation,
                                                          wire::Timeout timeout) {
  std::unique_lock lock(mutex_);
  auto& queue = answers_[operation];
  const bool woken =
      changed_.wait_for(lock, timeout, [&] { return !queue.empty() || lost_ || closed_; });
  if (!queue.empty()) {
    std::unique_ptr<wire::LinkMessage> message = std::move(queue.front());
    queue.pop_front();
    if (message->body_case() == wire::LinkMessage::kFailed) {
      return fail(ErrorKind::kFailed, "{}: {}", host_.node, message->failed().reason());
    }
    return message;
  }
  if (!woken) {
    return fail(ErrorKind::kRetry, "the host agent on {} does not answer", host_.node);
  }
  return fail(ErrorKind::kDisconnected, "the link to the host agent on {} is lost: {}", host_.node,
              lost_reason_);
}

Result<> HostLink::send_expecting(const wire::LinkMessage& message) {
  {
    const std::lock_guard lock(mutex_);
    answers_[message.operation()];
  }
  return send(message);
}

void HostLink::forget(uint64_t operation) {
  const std::lock_guard lock(mutex_);
  answers_.erase(operation);
}

Result<std::unique_ptr<net::TlsStream>> HostLink::open_stream(uint64_t operation) {
  auto stream = net::TlsStream::connect(tls_, host_.address, host_.port, kConnectTimeout);
  if (!stream) {
    return fail_with(stream.error(), "open a stream to the host agent on {}", host_.node);
  }
  TESS_TRY(say_hello(**stream, false, operation));
  return std::move(*stream);
}

Result<std::string> HostLink::local_address() const {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(stream_->fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return fail_errno("our address on the link to {}", host_.node);
  }
  char text[INET6_ADDRSTRLEN] = {};
  const void* const raw =
      address.ss_family == AF_INET6
          ? static_cast<const void*>(&reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr)
          : static_cast<const void*>(&reinterpret_cast<sockaddr_in*>(&address)->sin_addr);
  if (::inet_ntop(address.ss_family, raw, text, sizeof(text)) == nullptr) {
    return fail_errno("our address on the link to {}", host_.node);
  }
  return std::string(text);
}

// The offer is for the caller to send, when it can answer for the channel.
Result<Channel> HostLink::make_channel(bool reserved, wire::LinkMessage& offer) {
  Channel channel;
  {
    const std::lock_guard lock(mutex_);
    channel.id = next_channel_++;
  }
  TESS_TRY_ASSIGN(const auto to_host, make_secret());
  TESS_TRY_ASSIGN(const auto to_home, make_secret());
  stub::ChannelKeys at_host;
  stub::make_channel_keys(to_host, to_home, host_.encrypt_channels, channel.keys, at_host);
  offer.mutable_channel()->set_id(channel.id);
  offer.mutable_channel()->set_key_to_host(to_host.data(), to_host.size());
  offer.mutable_channel()->set_key_to_home(to_home.data(), to_home.size());
  offer.mutable_channel()->set_encrypted(host_.encrypt_channels);
  offer.mutable_channel()->set_reserved(reserved);
  // Connected before it is offered: the host may hand it out at once.
  auto socket = net::connect_tcp(host_.address, host_.port, kConnectTimeout);
  if (!socket) {
    return fail_with(socket.error(), "connect a channel to {}", host_.node);
  }
  channel.socket = std::move(*socket);
  const int flags = ::fcntl(channel.socket.get(), F_GETFL);
  if (flags < 0 || ::fcntl(channel.socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return fail_errno("make a channel blocking");
  }
  TESS_TRY(sys::write_all(channel.socket, make_preamble(job_, channel.id, host_.token)));
  return channel;
}

Result<Channel> HostLink::make_reserved_channel() {
  wire::LinkMessage offer;
  TESS_TRY_ASSIGN(Channel channel, make_channel(true, offer));
  TESS_TRY(send(offer));
  return channel;
}

// Ours before it is offered: a body may be given it, and ask for our end, at once.
Result<> HostLink::make_spare_channel() {
  wire::LinkMessage offer;
  TESS_TRY_ASSIGN(Channel channel, make_channel(false, offer));
  const uint64_t id = channel.id;
  {
    const std::lock_guard lock(mutex_);
    spares_.emplace(id, std::move(channel));
  }
  if (auto sent = send(offer); !sent) {
    const std::lock_guard lock(mutex_);
    spares_.erase(id);
    return sent;
  }
  return {};
}

Result<Channel> HostLink::take_channel(uint64_t id) {
  const std::lock_guard lock(mutex_);
  const auto it = spares_.find(id);
  if (it == spares_.end()) {
    return fail(ErrorKind::kBadInput, "there is no spare channel {} to {}", id, host_.node);
  }
  Channel channel = std::move(it->second);
  spares_.erase(it);
  changed_.notify_all();
  return channel;
}

void HostLink::keep_spares() {
  const std::lock_guard lock(mutex_);
  want_spares_ = true;
  changed_.notify_all();
}

// A body that gave up a clone, or ended, has closed its end of a spare; nobody will ask for that
// one any more.
void HostLink::drop_dead_spares() {
  std::erase_if(spares_, [](const auto& spare) {
    pollfd state{spare.second.socket.get(), POLLRDHUP, 0};
    return ::poll(&state, 1, 0) > 0;
  });
}

void HostLink::spare_loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    const bool wanted = changed_.wait_for(lock, kSpareCheckInterval, [&] {
      return lost_ || closed_ || (want_spares_ && spares_.size() < kSpareChannels);
    });
    if (lost_ || closed_) {
      return;
    }
    drop_dead_spares();
    if (!wanted) {
      continue;
    }
    lock.unlock();
    const Result<> made = make_spare_channel();
    lock.lock();
    if (!made && !lost_ && !closed_) {
      log::warn("home", "event=spare_channel_failed node={} reason=\"{}\"", host_.node,
                made.error().message());
      // Not at once again: the host may be out of descriptors. Ends early when the link does.
      changed_.wait_for(lock, std::chrono::seconds(1), [&] { return lost_ || closed_; });
    }
  }
}

}  // namespace tess::home
