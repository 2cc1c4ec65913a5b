#include "node/cluster.h"

#include <algorithm>

#include "base/log.h"
#include "node/cluster_client.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kFrameLimit = 1 << 20;
constexpr size_t kClientsMax = 4096;
// Of more nodes each is asked less often, so that a node's share of all pings stays what it is.
constexpr size_t kPeersPerInterval = 16;

void send_message(net::Connection& connection, const wire::ClusterMessage& message) {
  const auto frame = wire::encode_frame(message);
  if (frame && frame->size() <= kFrameLimit) {
    connection.send(*frame);
  } else {
    log::error("node", "event=message_too_large bytes={}", message.ByteSizeLong());
  }
}

// Gives every whole message in `bytes` to `take`, until that says stop. False: the peer sends
// garbage.
template <typename Take>
bool read_messages(wire::FrameReader& reader, std::span<const std::byte> bytes, Take take) {
  reader.feed(bytes);
  while (true) {
    auto payload = reader.next();
    if (!payload) {
      return false;
    }
    if (!*payload) {
      return true;
    }
    wire::ClusterMessage message;
    if (!wire::decode_payload(std::as_bytes(std::span(**payload)), message)) {
      return false;
    }
    if (!take(std::move(message))) {
      return true;
    }
  }
}

}  // namespace

struct Cluster::Peer {
  explicit Peer(net::Loop& loop) : retry(loop), ping_timer(loop) {}
  NodeState state;
  bool listed = true;  // else it only still has questions to answer
  std::shared_ptr<net::Connection> connection;
  wire::FrameReader reader{kFrameLimit};
  net::Timer retry;
  net::Timer ping_timer;
  milliseconds delay{0};
  uint64_t next_request = 1;
  std::map<uint64_t, std::pair<Answered, std::unique_ptr<net::Timer>>> pending;

  void answer(uint64_t request, Result<wire::ClusterMessage> result) {
    const auto found = pending.find(request);
    if (found != pending.end()) {
      const Answered answered = std::move(found->second.first);
      pending.erase(found);
      answered(std::move(result));
    }
  }
};

Cluster::Cluster(net::Loop& loop, net::TlsContext context, ClusterOptions options,
                 ClusterService service)
    : loop_(loop),
      context_(std::move(context)),
      options_(std::move(options)),
      service_(std::move(service)) {}

Cluster::~Cluster() {
  for (auto& [name, peer] : peers_) {
    if (peer->connection != nullptr) {
      peer->connection->close();
    }
  }
  for (const auto& peer : unlisted_) {
    if (peer->connection != nullptr) {
      peer->connection->close();
    }
  }
  for (auto& [raw, client] : clients_) {
    client->connection->close();
  }
}

Result<> Cluster::listen(const net::Endpoint& at) {
  TESS_TRY_ASSIGN(listener_, net::listen_tcp(at.address, at.port));
  listen_watch_ = std::make_unique<net::FdWatch>(
      loop_, listener_.get(), [this] { accept(); }, nullptr);
  listen_watch_->want_read(true);
  return {};
}

Result<net::Endpoint> Cluster::listening() const {
  return net::local_endpoint(listener_);
}

void Cluster::set_nodes(const std::vector<NodeEntry>& nodes) {
  for (auto at = peers_.begin(); at != peers_.end();) {
    const NodeEntry entry{at->first, at->second->state.endpoint};
    if (std::find(nodes.begin(), nodes.end(), entry) != nodes.end()) {
      ++at;
      continue;
    }
    std::unique_ptr<Peer> peer = std::move(at->second);
    at = peers_.erase(at);
    unlist(std::move(peer));
  }
  for (const NodeEntry& entry : nodes) {
    auto& peer = peers_[entry.name];
    if (peer == nullptr) {
      peer = std::make_unique<Peer>(loop_);
      peer->state.name = entry.name;
      peer->state.endpoint = entry.endpoint;
      peer->state.reason = "not connected yet";
      connect(*peer);
    }
  }
}

// One that leaves, or takes another name, says so to some before its answers have reached others:
// they are heard as long as its connection lasts.
void Cluster::unlist(std::unique_ptr<Peer> peer) {
  peer->listed = false;
  peer->ping_timer.stop();
  peer->retry.stop();
  if (peer->state.up && !peer->pending.empty()) {
    peer->state.up = false;
    unlisted_.push_back(std::move(peer));
    return;
  }
  if (peer->connection != nullptr) {
    peer->connection->close();
  }
  fail_pending(*peer, "it is no longer in the list");
}

void Cluster::fail_pending(Peer& peer, const std::string& reason) {
  while (!peer.pending.empty()) {
    peer.answer(peer.pending.begin()->first,
                fail(ErrorKind::kRetry, "node {} is down: {}", peer.state.name, reason));
  }
}

void Cluster::end_if_unlisted(Peer& peer) {
  if (!peer.listed && peer.pending.empty()) {
    peer_down(peer, "it is no longer in the list");
  }
}

void Cluster::connect(Peer& peer) {
  peer.reader = wire::FrameReader(kFrameLimit);
  // Peers live in peers_ and close their connection when they go: the handlers may hold a
  // reference.
  peer.connection = net::Connection::tls_connect(
      loop_, context_, peer.state.endpoint,
      {[this, &peer] { on_peer_open(peer); },
       [this, &peer](std::span<const std::byte> bytes) { on_peer_data(peer, bytes); },
       [this, &peer](const Error& error) {
         const bool was_up = peer.state.up;
         peer_down(peer, error.message());
         if (was_up && service_.on_lost) {
           service_.on_lost(peer.state.node_id);
         }
       }});
}

wire::ClusterMessage Cluster::make_hello() const {
  wire::ClusterMessage message;
  wire::ClusterHello& hello = *message.mutable_hello();
  hello.set_protocol_version(options_.protocol_version);
  hello.set_version(options_.version);
  hello.set_node(options_.node_name);
  hello.set_node_id(options_.node_id);
  hello.set_charter_serial(service_.charter_serial ? service_.charter_serial() : 0);
  hello.set_ca_until(service_.ca_until ? service_.ca_until() : 0);
  hello.set_holds_ca(service_.holds_ca && service_.holds_ca());
  return message;
}

void Cluster::on_peer_open(Peer& peer) {
  const std::string name = peer.connection->peer_name();
  if (name != peer.state.name) {
    peer_down(peer, fmt::format("{} is node '{}' by its certificate, the configuration says '{}'",
                                peer.state.endpoint.to_string(), name, peer.state.name));
    return;
  }
  send_message(*peer.connection, make_hello());
  peer.ping_timer.start(options_.answer_timeout,
                        [this, &peer] { peer_down(peer, "it does not answer"); });
}

void Cluster::on_peer_data(Peer& peer, std::span<const std::byte> bytes) {
  const auto connection = peer.connection;
  const bool good = read_messages(peer.reader, bytes, [&](wire::ClusterMessage message) {
    on_peer_message(peer, std::move(message));
    return peer.connection == connection;
  });
  if (!good && peer.connection == connection) {
    peer_down(peer, "it sends what is not a Tessera message");
  }
}

void Cluster::on_peer_message(Peer& peer, wire::ClusterMessage message) {
  if (message.has_reject()) {
    peer_down(peer, message.reject().reason());
    return;
  }
  if (message.has_hello()) {
    const wire::ClusterHello& hello = message.hello();
    const auto common = wire::common_version(options_.protocol_version, hello.protocol_version());
    if (!common) {
      peer_down(peer, wire::version_mismatch(options_.node_name, options_.protocol_version,
                                             peer.state.name, hello.protocol_version()));
      return;
    }
    peer.state.node_id = hello.node_id();
    peer.state.version = hello.version();
    peer.state.protocol = *common;
    peer.state.up = true;
    peer.state.reason.clear();
    peer.delay = milliseconds(0);
    log::info("node", "event=node_up node={} version={} protocol={}", peer.state.name,
              hello.version(), *common);
    ping(peer);
    if (service_.on_hello) {
      service_.on_hello(peer.state.name, hello);
    }
    return;
  }
  const uint64_t request = message.request();  // before the move: arguments have no order
  peer.answer(request, std::move(message));
  end_if_unlisted(peer);
}

void Cluster::ping(Peer& peer) {
  wire::ClusterMessage message;
  message.mutable_ping();
  ask(peer.state.name, std::move(message), options_.answer_timeout,
      [this, &peer](Result<wire::ClusterMessage> answer) {
        if (!peer.state.up) {
          return;
        }
        if (!answer || !answer->has_node_info()) {
          peer_down(peer, "it does not answer");
          return;
        }
        peer.state.info = answer->node_info();
        peer.state.has_info = true;
        const auto times = static_cast<int>(1 + peers_.size() / kPeersPerInterval);
        peer.ping_timer.start(options_.ping_interval * times, [this, &peer] { ping(peer); });
      });
}

void Cluster::peer_down(Peer& peer, const std::string& reason) {
  if (peer.state.up || peer.state.reason != reason) {
    log::warn("node", "event=node_down node={} address={} reason=\"{}\"", peer.state.name,
              peer.state.endpoint.to_string(), reason);
  }
  peer.state.up = false;
  peer.state.has_info = false;
  peer.state.reason = reason;
  peer.ping_timer.stop();
  if (peer.connection != nullptr) {
    peer.connection->close();
    peer.connection = nullptr;
  }
  fail_pending(peer, reason);
  if (!peer.listed) {
    loop_.post([this, &peer] {  // not at once: its handlers may be running
      std::erase_if(unlisted_, [&](const auto& one) { return one.get() == &peer; });
    });
    return;
  }
  peer.delay = std::clamp(peer.delay * 2, options_.retry_least, options_.retry_most);
  peer.retry.start(peer.delay, [this, &peer] { connect(peer); });
}

void Cluster::disconnect(const std::string& node, const std::string& reason) {
  if (const auto found = peers_.find(node); found != peers_.end()) {
    peer_down(*found->second, reason);
  }
  std::erase_if(clients_, [&](const auto& item) {
    if (item.second->connection->peer_name() != node) {
      return false;
    }
    item.second->connection->close();
    return true;
  });
}

std::vector<Cluster::NodeState> Cluster::nodes() const {
  std::vector<NodeState> list;
  for (const auto& [name, peer] : peers_) {
    list.push_back(peer->state);
  }
  return list;
}

Result<> Cluster::check_up(const std::string& node) const {
  const auto found = peers_.find(node);
  if (found == peers_.end()) {
    std::string known = options_.node_name;
    for (const auto& [name, peer] : peers_) {
      known += ", " + name;
    }
    return fail(ErrorKind::kNotPossible, "there is no node '{}'; the nodes are {}", node, known);
  }
  if (!found->second->state.up) {
    return fail(ErrorKind::kRetry, "node {} is down: {}", node, found->second->state.reason);
  }
  return {};
}

bool Cluster::is_up_at(const std::string& node, const net::Endpoint& endpoint) const {
  const auto found = peers_.find(node);
  return found != peers_.end() && found->second->state.up &&
         found->second->state.endpoint == endpoint;
}

void Cluster::ask(const std::string& node, wire::ClusterMessage request, milliseconds timeout,
                  Answered answered) {
  if (auto up = check_up(node); !up) {
    answered(tl::unexpected(std::move(up.error())));
    return;
  }
  Peer& peer = *peers_.at(node);
  const uint64_t number = peer.next_request++;
  request.set_request(number);
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(timeout, [this, &peer, number, node, timeout] {
    Cluster& self = *this;  // the timer, and this closure, end with the question
    Peer& asked = peer;
    asked.answer(number, fail(ErrorKind::kRetry, "node {} has not answered within {} s", node,
                              timeout.count() / 1000));
    self.end_if_unlisted(asked);
  });
  peer.pending[number] = {std::move(answered), std::move(timer)};
  send_message(*peer.connection, request);
}

void Cluster::accept() {
  auto fd = net::accept_tcp(listener_, milliseconds(0));
  if (!fd || clients_.size() >= kClientsMax) {
    return;
  }
  auto client = std::make_shared<Client>();
  const auto local = net::local_endpoint(*fd);
  const auto remote = net::peer_endpoint(*fd);
  client->local_address = local ? local->address : "";
  client->remote_address = remote ? remote->address : "";
  const std::weak_ptr<Client> weak = client;
  client->connection = net::Connection::tls_accept(
      loop_, context_, std::move(*fd),
      {[this, weak] {
         if (const auto alive = weak.lock()) {
           on_client_open(alive);
         }
       },
       [this, weak](std::span<const std::byte> bytes) {
         if (const auto alive = weak.lock()) {
           on_client_data(alive, bytes);
         }
       },
       [this, weak](const Error& error) {
         if (const auto alive = weak.lock()) {
           if (error.kind() == ErrorKind::kNotPossible) {
             log::warn("node", "event=connection_refused reason=\"{}\"", error.message());
           }
           clients_.erase(alive->connection.get());
         }
       }});
  clients_[client->connection.get()] = client;
}

void Cluster::on_client_data(const std::shared_ptr<Client>& client,
                             std::span<const std::byte> bytes) {
  if (client->connection->joining()) {
    on_join_data(client, bytes);
    return;
  }
  const bool good = read_messages(client->reader, bytes, [&](const wire::ClusterMessage& message) {
    on_client_message(client, message);
    return clients_.contains(client->connection.get());
  });
  if (!good) {
    log::warn("node", "event=connection_dropped node={} reason=\"not a Tessera message\"",
              client->connection->peer_name());
    drop_client(client);
  }
}

// Of two machines with one name the second is turned away by whoever is connected with the first.
std::string Cluster::other_of_that_name(const std::string& name, const std::string& node_id) const {
  const auto found = peers_.find(name);
  const bool known = found != peers_.end() && found->second->state.up;
  const std::string here = known ? found->second->state.node_id : "";
  if (name == options_.node_name ? options_.node_id.empty() || node_id == options_.node_id
                                 : here.empty() || node_id.empty() || node_id == here) {
    return {};
  }
  const std::string at = known ? " at " + found->second->state.endpoint.to_string() : "";
  return fmt::format(
      "there is another node '{}' in the cluster already{}; give one of the two machines "
      "another name (`tess leave --remove`, `tess join --name`)",
      name, at);
}

bool Cluster::check_hello(const std::shared_ptr<Client>& client,
                          const wire::ClusterMessage& message) {
  const std::string& name = client->connection->peer_name();
  std::string reason;
  if (!message.has_hello()) {
    reason = "the first message must be a hello";
  } else if (!wire::common_version(options_.protocol_version, message.hello().protocol_version())) {
    reason = wire::version_mismatch(options_.node_name, options_.protocol_version, name,
                                    message.hello().protocol_version());
  } else if (message.hello().node() != name) {
    reason = fmt::format("node '{}' shows the certificate of '{}'", message.hello().node(), name);
  }
  if (reason.empty()) {
    reason = other_of_that_name(name, message.hello().node_id());
  }
  if (reason.empty()) {
    return true;
  }
  log::warn("node", "event=node_rejected node={} reason=\"{}\"", name, reason);
  wire::ClusterMessage reply;
  reply.mutable_reject()->set_reason(reason);
  send_message(*client->connection, reply);
  client->connection->close_after_sending();
  clients_.erase(client->connection.get());
  return false;
}

void Cluster::on_client_message(const std::shared_ptr<Client>& client,
                                const wire::ClusterMessage& message) {
  if (!client->greeted) {
    if (check_hello(client, message)) {
      client->greeted = true;
      send_message(*client->connection, make_hello());
    }
    return;
  }
  wire::ClusterMessage reply;
  reply.set_request(message.request());
  switch (message.body_case()) {
    case wire::ClusterMessage::kPing:
      *reply.mutable_node_info() = service_.node_info();
      break;
    case wire::ClusterMessage::kPrepareHost:
      *reply.mutable_host_prepared() = service_.prepare_host(
          message.prepare_host(), client->connection->peer_name(), client->local_address);
      break;
    case wire::ClusterMessage::kAskJobTable:
      *reply.mutable_job_table() = service_.job_table();
      break;
    default: {
      const std::weak_ptr<Client> weak = client;
      if (service_.other != nullptr &&
          service_.other(message, client->connection->peer_name(),
                         [weak, request = message.request()](wire::ClusterMessage later) {
                           if (const auto alive = weak.lock()) {
                             later.set_request(request);
                             send_message(*alive->connection, later);
                           }
                         })) {
        return;
      }
      // Of a later version: whoever asks need not wait for its time to be over.
      reply.mutable_done()->set_message(
          fmt::format("node {} does not know this question: it speaks protocol version {}",
                      options_.node_name, options_.protocol_version));
      break;
    }
  }
  send_message(*client->connection, reply);
}

}  // namespace tess::node
