// The home agent's link to one host agent of its job: commands and answers, image streams, and a
// pool of channels that are connected ahead of need. A reader thread takes what comes; answers go
// to whoever waits for their operation, the rest to `unasked` (called on that thread). All methods
// from any thread. Once lost() has been called nothing else comes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "net/tls_stream.h"
#include "stub/abi.h"
#include "sys/fd.h"
#include "wire/byte_stream.h"

namespace tess::wire {
class LinkMessage;
}

namespace tess::home {

// A host agent, as its node's tessd has described it.
struct HostAddress {
  std::string node;
  std::string address;
  uint16_t port = 0;
  std::string token;
  bool encrypt_channels = true;
  unsigned protocol_version = 0;  // that its host agent speaks; 0: not said
};

// One connected channel: our end and its keys. The host has its offer.
struct Channel {
  uint64_t id = 0;
  sys::Fd socket;
  stub::ChannelKeys keys{};
};

// What this node's clocks are ahead of a host's by.
struct ClockLead {
  int64_t monotonic_ns = 0;
  int64_t boottime_ns = 0;
};

class HostLink {
 public:
  struct Handlers {
    std::function<void(const wire::LinkMessage&)> unasked;
    std::function<void(const Error&)> lost;  // at most once, not after close()
  };
  static Result<std::shared_ptr<HostLink>> open(const net::TlsContext& tls, uint64_t job,
                                                const HostAddress& host, Handlers handlers);
  ~HostLink();
  HostLink(const HostLink&) = delete;
  HostLink& operator=(const HostLink&) = delete;

  const HostAddress& host() const { return host_; }
  // Exact to half of a round trip; nullopt if the host does not tell its clocks.
  std::optional<ClockLead> clock_lead() const { return clock_lead_; }
  bool alive() const;
  // Ends the link without a call of lost(). The host agent kills what it still has.
  void close();

  Result<> send(const wire::LinkMessage& message);
  // From now on answers to the message's operation are kept for wait().
  Result<> send_expecting(const wire::LinkMessage& message);
  // Waits for the next answer to an operation; a Failed answer is an Error with its reason, the
  // loss of the link kDisconnected.
  Result<std::unique_ptr<wire::LinkMessage>> wait(uint64_t operation, wire::Timeout timeout);
  // Answers that come later to this operation are nobody's.
  void forget(uint64_t operation);

  // A stream for the image of `operation`; the host expects it (Expect has been sent).
  Result<std::unique_ptr<net::TlsStream>> open_stream(uint64_t operation);
  // Our own address as the host sees it.
  Result<std::string> local_address() const;

  // A new channel that the host keeps for AssignChannels.
  Result<Channel> make_reserved_channel();
  // The spare channel with this id (the host has given its end to a body).
  Result<Channel> take_channel(uint64_t id);
  // Keeps spare channels from now on.
  void keep_spares();

 private:
  HostLink(const net::TlsContext& tls, uint64_t job, HostAddress host, Handlers handlers,
           std::unique_ptr<net::TlsStream> stream);
  std::optional<ClockLead> compare_clocks();
  Result<> say_hello(wire::ByteStream& stream, bool is_link, uint64_t operation) const;
  void read_loop();
  void spare_loop();
  void drop_dead_spares();  // mutex_ held
  void handle(std::unique_ptr<wire::LinkMessage> message);
  void end(const Error& error);
  Result<Channel> make_channel(bool reserved, wire::LinkMessage& offer);
  Result<> make_spare_channel();

  const net::TlsContext tls_;
  const uint64_t job_;
  const HostAddress host_;
  const Handlers handlers_;
  const std::unique_ptr<net::TlsStream> stream_;
  std::optional<ClockLead> clock_lead_;  // since open()
  std::mutex send_mutex_;                // one frame at a time

  mutable std::mutex mutex_;  // the rest
  std::condition_variable changed_;
  std::map<uint64_t, std::deque<std::unique_ptr<wire::LinkMessage>>> answers_;
  std::map<uint64_t, Channel> spares_;
  uint64_t next_channel_ = 1;
  bool want_spares_ = false;
  bool closed_ = false;
  bool lost_ = false;
  std::string lost_reason_;
  std::thread reader_;
  std::thread spare_maker_;
};

}  // namespace tess::home
