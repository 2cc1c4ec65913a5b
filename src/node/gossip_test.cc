// Several nodes' Gossip on one loop, over real UDP on loopback addresses.
#include "node/gossip.h"

#include <gtest/gtest.h>

#include "node/run_until.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using cluster::MemberState;

class GossipTest : public ::testing::Test {
 protected:
  struct Node {
    std::unique_ptr<Gossip> gossip;
    sys::Fd listener;  // what a knock finds
    net::Endpoint at;
    std::vector<cluster::Event> events;
  };

  Node& start(uint8_t number, std::vector<net::Endpoint> seeds, uint8_t key = 1) {
    auto node = std::make_unique<Node>();
    Gossip::Options options;
    options.name = fmt::format("n{}", number);
    options.identity.node[0] = number;
    options.identity.cluster = 7;
    options.identity.key.fill(key);
    options.seeds = std::move(seeds);
    options.beacons = false;
    options.config.alone_interval = 50ms;
    Node* raw = node.get();
    Result<std::unique_ptr<Gossip>> started = fail(ErrorKind::kRetry, "not tried");
    do {  // somebody else's datagrams may come in at the port that TCP gives out
      node->listener = net::listen_tcp("127.0.0.1", 0).value();
      options.listen = node->at = net::local_endpoint(node->listener).value();
      started = Gossip::start(loop_, options, cluster::LoadRecord(),
                              [raw](const auto& event) { raw->events.push_back(event); });
    } while (!started && started.error().sys_errno() == EADDRINUSE);
    node->gossip = std::move(started.value());
    nodes_.push_back(std::move(node));
    return *nodes_.back();
  }

  bool run_until(const std::function<bool()>& done, std::chrono::seconds patience = 60s) {
    return node::run_until(loop_, done, patience);
  }

  static MemberState state(const Node& of, uint8_t number) {
    for (const auto& member : of.gossip->view().members) {
      if (member.id.bytes[0] == number) {
        return member.state;
      }
    }
    return MemberState::kDead;
  }

  net::Loop loop_;
  std::vector<std::unique_ptr<Node>> nodes_;
};

TEST_F(GossipTest, NodesFindEachOtherBySeedAndTellTheirLoad) {
  Node& one = start(1, {});
  start(2, {one.at});
  start(3, {one.at});
  ASSERT_TRUE(run_until([&] {
    return std::all_of(nodes_.begin(), nodes_.end(),
                       [](const auto& node) { return node->gossip->live_count() == 3; });
  }));
  cluster::LoadRecord load;
  load.runnable = 12;
  load.cores = 4;
  nodes_[2]->gossip->set_load(load);
  EXPECT_TRUE(run_until([&] {
    cluster::NodeId three;
    three.bytes[0] = 3;
    const auto view = nodes_[1]->gossip->view();
    const auto* member = view.find(three);
    return member != nullptr && member->has_load && member->load.runnable > 11;
  }));
}

TEST_F(GossipTest, ANodeWhosePortIsGoneIsDeadSoonAndOneThatSaysGoodbyeHasLeft) {
  Node& one = start(1, {});
  start(2, {one.at});
  start(3, {one.at});
  ASSERT_TRUE(run_until([&] { return nodes_[0]->gossip->live_count() == 3; }));
  nodes_[1]->gossip.reset();
  nodes_[1]->listener.reset();
  EXPECT_TRUE(run_until([&] { return state(one, 2) == MemberState::kDead; }));
  bool gone = false;
  nodes_[2]->gossip->leave([&] { gone = true; });
  EXPECT_TRUE(run_until([&] { return gone && state(one, 3) == MemberState::kLeft; }));
}

TEST_F(GossipTest, AnotherClusterIsNotHeard) {
  Node& one = start(1, {});
  start(2, {one.at}, 9);
  start(3, {one.at});
  ASSERT_TRUE(run_until([&] { return nodes_[2]->gossip->live_count() == 2; }));
  EXPECT_EQ(one.gossip->view().members.size(), 2u);
  EXPECT_EQ(nodes_[1]->gossip->live_count(), 1u);
}

}  // namespace
}  // namespace tess::node
