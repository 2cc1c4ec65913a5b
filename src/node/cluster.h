// Cluster: the other tessds. Keeps one connection to every node of the list and asks over it
// (pings, prepare a host, job tables), and answers what others ask (wire/cluster.proto). A node
// counts as up while our own connection to it answers. Loop thread only.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/connection.h"
#include "net/loop.h"
#include "net/tls_stream.h"
#include "node/admission.h"
#include "node/config.h"
#include "sys/fd.h"
#include "wire/cluster.pb.h"
#include "wire/frame.h"
#include "wire/version.h"

namespace tess::node {

struct ClusterOptions {
  std::string node_name;
  std::string version;
  std::string node_id;  // bytes; empty: not told
  unsigned protocol_version = wire::protocol_version();
  std::chrono::milliseconds ping_interval{4000};   // longer with many nodes
  std::chrono::milliseconds answer_timeout{6000};  // a node that is silent for so long is down
  std::chrono::milliseconds retry_least{200};
  std::chrono::milliseconds retry_most{2000};
};

// What this node answers to others.
struct ClusterService {
  std::function<wire::NodeInfo()> node_info;
  // `asker` is the name in the certificate, `local_address` the address it reached us at.
  std::function<wire::HostPrepared(const wire::PrepareHost&, const std::string& asker,
                                   const std::string& local_address)>
      prepare_host;
  std::function<wire::JobTable()> job_table;
  // Everything else: answers by `reply`, now or later, or says false.
  std::function<bool(const wire::ClusterMessage&, const std::string& asker,
                     const std::function<void(const wire::ClusterMessage&)>& reply)>
      other = nullptr;
  // What this node says of itself, and what a node says that we are connected with.
  std::function<uint64_t()> charter_serial = nullptr;
  std::function<bool()> holds_ca = nullptr;
  std::function<int64_t()> ca_until = nullptr;
  std::function<void(const std::string& node, const wire::ClusterHello&)> on_hello = nullptr;
  // A connection that was in use has ended, and not by us.
  std::function<void(const std::string& node_id)> on_lost = nullptr;
  // From a machine without a certificate; the reply may come later.
  std::function<void(const wire::JoinRequest&, const JoinPeer&, const Admission::Reply& reply)>
      join = nullptr;
};

class Cluster {
 public:
  using Answered = std::function<void(Result<wire::ClusterMessage>)>;

  struct NodeState {
    std::string name;
    net::Endpoint endpoint;
    bool up = false;
    std::string reason;     // why it is not up
    std::string node_id;    // as it said last
    std::string version;    // as it said last
    unsigned protocol = 0;  // that both speak; 0: never connected
    wire::NodeInfo info;
    bool has_info = false;
  };

  Cluster(net::Loop& loop, net::TlsContext context, ClusterOptions options, ClusterService service);
  ~Cluster();

  Result<> listen(const net::Endpoint& at);
  Result<net::Endpoint> listening() const;
  // The nodes to be connected with; connections to nodes that stay the same go on.
  void set_nodes(const std::vector<NodeEntry>& nodes);
  // For new connections.
  void set_context(net::TlsContext context) { context_ = std::move(context); }
  // Ends the connections to and from this node; what is tried again is up to the new context.
  void disconnect(const std::string& node, const std::string& reason);

  std::vector<NodeState> nodes() const;
  // kNotPossible if the node is unknown, kRetry if it is down; the messages say which and why.
  Result<> check_up(const std::string& node) const;
  bool is_up_at(const std::string& node, const net::Endpoint& endpoint) const;
  void ask(const std::string& node, wire::ClusterMessage request, std::chrono::milliseconds timeout,
           Answered answered);

 private:
  struct Peer;    // a node we ask
  struct Client;  // a node that asks us

  void accept();
  void connect(Peer& peer);
  void on_peer_data(Peer& peer, std::span<const std::byte> bytes);
  void on_peer_message(Peer& peer, wire::ClusterMessage message);
  void on_peer_open(Peer& peer);
  void ping(Peer& peer);
  void peer_down(Peer& peer, const std::string& reason);
  void unlist(std::unique_ptr<Peer> peer);
  void end_if_unlisted(Peer& peer);
  static void fail_pending(Peer& peer, const std::string& reason);
  void on_client_open(const std::shared_ptr<Client>& client);
  void on_join_data(const std::shared_ptr<Client>& client, std::span<const std::byte> bytes);
  void drop_client(const std::shared_ptr<Client>& client);
  void on_client_data(const std::shared_ptr<Client>& client, std::span<const std::byte> bytes);
  void on_client_message(const std::shared_ptr<Client>& client,
                         const wire::ClusterMessage& message);
  bool check_hello(const std::shared_ptr<Client>& client, const wire::ClusterMessage& message);
  wire::ClusterMessage make_hello() const;
  std::string other_of_that_name(const std::string& name, const std::string& node_id) const;

  net::Loop& loop_;
  net::TlsContext context_;
  ClusterOptions options_;
  ClusterService service_;
  sys::Fd listener_;
  std::unique_ptr<net::FdWatch> listen_watch_;
  std::map<std::string, std::unique_ptr<Peer>> peers_;
  std::vector<std::unique_ptr<Peer>> unlisted_;  // until their last answer
  size_t joiners_ = 0;  // before clients_: those that go with it give back their places
  std::map<net::Connection*, std::shared_ptr<Client>> clients_;
};

}  // namespace tess::node
