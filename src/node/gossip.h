// Gossip: drives cluster::Membership over UDP at the node's own address and port: feeds it
// datagrams, time and knocks, and carries out its effects. What comes back is who is there, and the
// load picture. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cluster/inbox.h"
#include "cluster/membership.h"
#include "net/datagram.h"
#include "net/loop.h"
#include "net/tcp.h"
#include "node/identity.h"

namespace tess::node {

class Gossip {
 public:
  struct Options {
    std::string name;
    net::Endpoint listen;  // numeric; a wildcard address is learnt from the others
    ClusterIdentity identity;
    std::vector<net::Endpoint> seeds;
    bool beacons = true;
    cluster::Config config;
  };
  using OnEvent = std::function<void(const cluster::Event&)>;

  // Opens the socket and begins to look for others.
  static Result<std::unique_ptr<Gossip>> start(net::Loop& loop, const Options& options,
                                               const cluster::LoadRecord& load, OnEvent on_event);
  ~Gossip();

  static cluster::Time now();
  cluster::ClusterView view() const { return membership_->view(now()); }
  const cluster::NodeId& id() const { return id_; }
  const cluster::Membership& membership() const { return *membership_; }
  unsigned live_count() const { return membership_->live_count(); }
  void set_load(const cluster::LoadRecord& load);
  // The first seals, all open.
  void set_keys(const std::vector<cluster::CipherKey>& keys);
  // Those of the charter: they are gone at once.
  void shut_out(const std::vector<cluster::NodeId>& expelled);
  // The kernel of that node, or what lies between, has ended a connection that was in use.
  void lost_connection(const cluster::NodeId& node);
  void set_seeds(const std::vector<net::Endpoint>& seeds);
  // Says good-bye; `done` comes within half a second.
  void leave(std::function<void()> done);

 private:
  struct Datagram {
    net::DatagramAddress from;
    std::vector<uint8_t> bytes;
  };
  struct Knock;

  Gossip(net::Loop& loop, const Options& options, net::DatagramSocket socket,
         const cluster::LoadRecord& load, OnEvent on_event);
  void begin(const Options& options);
  void turn();
  void carry_out();
  void wait_for_deadline();
  void knock(const cluster::Effects::Knock& wish);
  void knock_ended(uint64_t number, cluster::KnockAnswer answer);

  net::Loop& loop_;
  cluster::NodeId id_;
  net::DatagramSocket socket_;
  OnEvent on_event_;
  std::unique_ptr<cluster::Cipher> cipher_;
  cluster::Directory directory_;
  std::unique_ptr<cluster::Membership> membership_;
  cluster::Effects effects_;
  cluster::Inbox<Datagram> inbox_;
  net::Timer timer_;
  std::unique_ptr<net::FdWatch> watch_;
  std::unique_ptr<net::FdWatch> beacon_watch_;
  std::map<uint64_t, std::unique_ptr<Knock>> knocks_;
  uint64_t next_knock_ = 1;
  std::function<void()> left_;
};

}  // namespace tess::node
