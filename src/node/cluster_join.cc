// Cluster: machines without a certificate that want to join. Each may ask one thing, then hears the
// answer; nothing else of this node is there for it.
#include "base/log.h"
#include "node/cluster_client.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr size_t kJoinersMost = 128;
constexpr uint32_t kJoinFrameLimit = 64 << 10;
constexpr milliseconds kTimeToAsk{10'000};
constexpr milliseconds kTimeToApprove{15 * 60 * 1000};  // then it asks again

}  // namespace

void Cluster::on_client_open(const std::shared_ptr<Client>& client) {
  if (!client->connection->joining()) {
    return;
  }
  if (joiners_ >= kJoinersMost || service_.join == nullptr) {
    drop_client(client);
    return;
  }
  // Counted until the client is destroyed.
  ++joiners_;
  client->joiner = std::shared_ptr<void>(nullptr, [this](void*) { --joiners_; });
  client->reader = wire::FrameReader(kJoinFrameLimit);
  client->patience = std::make_unique<net::Timer>(loop_);
  const std::weak_ptr<Client> weak = client;
  client->patience->start(kTimeToAsk, [this, weak] {
    if (const auto alive = weak.lock()) {
      drop_client(alive);
    }
  });
}

void Cluster::drop_client(const std::shared_ptr<Client>& client) {
  client->connection->close();
  clients_.erase(client->connection.get());
}

void Cluster::on_join_data(const std::shared_ptr<Client>& client,
                           std::span<const std::byte> bytes) {
  client->reader.feed(bytes);
  const auto payload = client->reader.next();
  if (payload && !*payload) {
    return;  // more is to come
  }
  wire::JoinRequest request;
  auto secret = client->connection->session_secret();
  // One request for each connection.
  if (!payload || client->greeted || !secret ||
      !wire::decode_payload(std::as_bytes(std::span(**payload)), request)) {
    log::warn("node", "event=connection_dropped address={} reason=\"not a request to join\"",
              client->remote_address);
    drop_client(client);
    return;
  }
  client->greeted = true;
  const std::weak_ptr<Client> weak = client;
  client->patience->start(kTimeToApprove, [this, weak] {
    if (const auto alive = weak.lock()) {
      drop_client(alive);
    }
  });
  const JoinPeer peer{std::move(*secret), client->remote_address, client->local_address};
  service_.join(request, peer, [this, weak](const wire::JoinAnswer& answer) {
    const auto alive = weak.lock();
    const auto frame = wire::encode_frame(answer);
    if (alive == nullptr || !frame || !clients_.contains(alive->connection.get())) {
      return;
    }
    alive->connection->send(*frame);
    if (!answer.has_pending()) {
      alive->connection->close_after_sending();
      clients_.erase(alive->connection.get());
    }
  });
}

}  // namespace tess::node
