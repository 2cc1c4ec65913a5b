// Several nodes' Cluster objects on one loop, over real TLS connections on loopback.
#include "node/cluster.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "net/test_certificates.h"
#include "node/run_until.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;

class ClusterTest : public ::testing::Test {
 protected:
  struct Node {
    std::unique_ptr<Cluster> cluster;
    NodeEntry entry;
  };

  Node make(const net::TestCluster& certificates, const std::string& name, unsigned protocol = 1,
            const std::string& certificate_name = "", const std::string& id = "") {
    ClusterOptions options;
    options.node_id = id.empty() ? name : id;
    options.node_name = name;
    options.version = "test";
    options.protocol_version = protocol;
    options.ping_interval = 20ms;
    options.answer_timeout = 60s;
    options.retry_least = 10ms;
    options.retry_most = 20ms;
    ClusterService service;
    service.node_info = [] {
      wire::NodeInfo info;
      info.set_cores(42);
      return info;
    };
    service.prepare_host = [](const wire::PrepareHost& ask, const std::string& asker,
                              const std::string& local) {
      wire::HostPrepared answer;
      answer.set_ok(true);
      answer.set_message(fmt::format("{} for {} at {}", ask.job(), asker, local));
      return answer;
    };
    service.job_table = [] { return wire::JobTable(); };
    service.other = [this](const wire::ClusterMessage& message, const std::string&,
                           const std::function<void(wire::ClusterMessage)>& reply) {
      reply_ = reply;
      return message.has_rename();
    };
    service.on_lost = [this](const std::string& lost) { lost_.push_back(lost); };
    Node node;
    node.cluster = std::make_unique<Cluster>(
        loop_, certificates.context(certificate_name.empty() ? name : certificate_name), options,
        service);
    EXPECT_TRUE(node.cluster->listen({"127.0.0.1", 0}));
    node.entry = {name, *node.cluster->listening()};
    return node;
  }

  // Runs the loop until `done` holds.
  void run_until(const std::function<bool()>& done) {
    EXPECT_TRUE(node::run_until(loop_, done)) << "it did not come to pass within 60 s";
  }

  static bool up(const Node& from, const std::string& name) {
    return from.cluster->check_up(name).has_value();
  }
  static std::string reason(const Node& from, const std::string& name) {
    const auto state = from.cluster->check_up(name);
    return state ? "" : state.error().message();
  }

  // Asks what the other side answers when the test calls reply_.
  static void ask_slowly(const Node& from, const Node& to, std::optional<bool>& answered) {
    wire::ClusterMessage question;
    question.mutable_rename();
    from.cluster->ask(to.entry.name, question, 60s,
                      [&answered](const Result<wire::ClusterMessage>& answer) {
                        answered = answer.has_value() && answer->done().ok();
                      });
  }

  net::Loop loop_;
  net::TestCluster certificates_;
  std::function<void(wire::ClusterMessage)> reply_;
  std::vector<std::string> lost_;  // ids of nodes whose connections have ended
};

TEST_F(ClusterTest, OfTwoNodesWithOneNameTheSecondIsTurnedAwayAndTold) {
  Node a = make(certificates_, "a");
  Node b = make(certificates_, "b");
  a.cluster->set_nodes({b.entry});
  b.cluster->set_nodes({a.entry});
  run_until([&] { return up(a, "b") && up(b, "a"); });
  EXPECT_TRUE(a.cluster->is_up_at("b", b.entry.endpoint));
  Node other = make(certificates_, "b", 1, "", "another machine");
  Node third = make(certificates_, "a", 1, "", "a third machine");
  other.cluster->set_nodes({a.entry});
  const auto words = [](const Node& from, const std::string& name) {
    const auto answer = from.cluster->check_up(name);
    return answer ? std::string() : answer.error().message();
  };
  run_until([&] { return words(other, "a").find("another node 'b'") != std::string::npos; });
  EXPECT_TRUE(up(a, "b"));
  third.cluster->set_nodes({b.entry});
  run_until([&] { return words(third, "b").find("another node 'a'") != std::string::npos; });
  EXPECT_FALSE(a.cluster->is_up_at("b", other.entry.endpoint));
}

TEST_F(ClusterTest, TwoNodesSeeEachOther) {
  Node a = make(certificates_, "a");
  Node b = make(certificates_, "b");
  a.cluster->set_nodes({b.entry});
  b.cluster->set_nodes({a.entry});
  run_until([&] { return a.cluster->nodes()[0].has_info && b.cluster->nodes()[0].has_info; });
  EXPECT_EQ(a.cluster->nodes()[0].info.cores(), 42U);
  EXPECT_TRUE(up(a, "b"));
}

TEST_F(ClusterTest, WhoIsNoLongerInTheListIsHeardUntilItsAnswersAreIn) {
  Node a = make(certificates_, "a");
  Node b = make(certificates_, "b");
  a.cluster->set_nodes({b.entry});
  run_until([&] { return up(a, "b"); });
  std::optional<bool> answered;
  ask_slowly(a, b, answered);
  run_until([&] { return reply_ != nullptr; });
  a.cluster->set_nodes({});
  EXPECT_FALSE(up(a, "b"));
  wire::ClusterMessage done;
  done.mutable_done()->set_ok(true);
  reply_(done);
  run_until([&] { return answered.has_value(); });
  EXPECT_TRUE(answered.value_or(false));
  a.cluster->set_nodes({b.entry});
  run_until([&] { return up(a, "b"); });
  answered.reset();
  reply_ = nullptr;
  ask_slowly(a, b, answered);
  run_until([&] { return reply_ != nullptr; });
  a.cluster->set_nodes({});
  b.cluster.reset();
  run_until([&] { return answered.has_value(); });
  EXPECT_FALSE(answered.value_or(true));
}

TEST_F(ClusterTest, QuestionsAreAnsweredWithTheAskersName) {
  Node a = make(certificates_, "a");
  Node b = make(certificates_, "b");
  a.cluster->set_nodes({b.entry});
  run_until([&] { return up(a, "b"); });
  std::string answer;
  wire::ClusterMessage ask;
  ask.mutable_prepare_host()->set_job(7);
  a.cluster->ask("b", ask, 60s, [&](Result<wire::ClusterMessage> result) {
    answer = result ? result->host_prepared().message() : result.error().message();
  });
  run_until([&] { return !answer.empty(); });
  EXPECT_EQ(answer, "7 for a at 127.0.0.1");
}

TEST_F(ClusterTest, AForeignClusterIsRefusedInWords) {
  const net::TestCluster foreign;
  Node a = make(certificates_, "a");
  Node b = make(foreign, "b");
  a.cluster->set_nodes({b.entry});
  run_until([&] { return reason(a, "b").find("not one of this cluster") != std::string::npos; });
  EXPECT_FALSE(up(a, "b"));
}

TEST_F(ClusterTest, NeighboursAmongProtocolVersionsSpeakTheOlderOnes) {
  Node old = make(certificates_, "old", 1);
  Node here = make(certificates_, "here", 2);
  Node young = make(certificates_, "young", 3);
  old.cluster->set_nodes({here.entry, young.entry});
  here.cluster->set_nodes({old.entry, young.entry});
  young.cluster->set_nodes({old.entry, here.entry});
  const std::string text = "protocol versions differ by more than one";
  run_until([&] {
    return up(old, "here") && up(here, "old") && up(here, "young") && up(young, "here") &&
           reason(old, "young").find(text) != std::string::npos &&
           reason(young, "old").find(text) != std::string::npos;
  });
  const auto spoken = [](const Node& from, const std::string& name) {
    for (const auto& node : from.cluster->nodes()) {
      if (node.name == name) {
        return node.protocol;
      }
    }
    return 0U;
  };
  EXPECT_EQ(spoken(old, "here"), 1U);
  EXPECT_EQ(spoken(here, "old"), 1U);
  EXPECT_EQ(spoken(here, "young"), 2U);
  EXPECT_EQ(spoken(young, "here"), 2U);
  EXPECT_NE(reason(young, "old").find("upgrade old first"), std::string::npos);
  EXPECT_NE(reason(old, "young").find("upgrade old first"), std::string::npos);
}

TEST_F(ClusterTest, AQuestionOfALaterVersionIsAnsweredAtOnce) {
  Node a = make(certificates_, "a", 2);
  Node b = make(certificates_, "b", 1);
  a.cluster->set_nodes({b.entry});
  run_until([&] { return up(a, "b"); });
  std::string answer;
  wire::ClusterMessage ask;  // without a body that this program knows: as one of a later version
  ASSERT_TRUE(ask.ParseFromString("\xc2\x3e\x05later"));
  a.cluster->ask("b", ask, 1h, [&](const Result<wire::ClusterMessage>& result) {
    answer = result ? result->done().message() : result.error().message();
  });
  run_until([&] { return !answer.empty(); });
  EXPECT_NE(answer.find("does not know this question"), std::string::npos) << answer;
}

TEST_F(ClusterTest, ANodeWithAnotherNameThanConfiguredIsNotIt) {
  Node a = make(certificates_, "a");
  Node c = make(certificates_, "c");
  a.cluster->set_nodes({{"b", c.entry.endpoint}});
  run_until(
      [&] { return reason(a, "b").find("is node 'c' by its certificate") != std::string::npos; });
}

TEST_F(ClusterTest, ANodeThatLiesAboutItsNameIsRejected) {
  Node a = make(certificates_, "a");
  Node liar = make(certificates_, "b", 1, "c");
  liar.cluster->set_nodes({a.entry});
  run_until([&] {
    return reason(liar, "a").find("'b' shows the certificate of 'c'") != std::string::npos;
  });
}

TEST_F(ClusterTest, ALostNodeIsDownAndItsQuestionsFail) {
  Node a = make(certificates_, "a");
  auto b = std::make_unique<Node>(make(certificates_, "b"));
  const NodeEntry entry = b->entry;
  a.cluster->set_nodes({entry});
  run_until([&] { return up(a, "b"); });
  EXPECT_TRUE(lost_.empty());
  b.reset();
  run_until([&] { return !up(a, "b"); });
  EXPECT_EQ(lost_, std::vector<std::string>{"b"});  // and not again at each attempt
  bool failed = false;
  wire::ClusterMessage ask;
  ask.mutable_ping();
  a.cluster->ask("b", ask, 60s,
                 [&](Result<wire::ClusterMessage> result) { failed = !result.has_value(); });
  EXPECT_TRUE(failed) << "at once, not by timeout";
}

TEST_F(ClusterTest, UnknownNodesAreNamedWithTheKnownOnes) {
  Node a = make(certificates_, "a");
  a.cluster->set_nodes({{"b", {"127.0.0.1", 1}}});
  EXPECT_EQ(reason(a, "z"), "there is no node 'z'; the nodes are a, b");
}

TEST_F(ClusterTest, RemovedNodesAreForgotten) {
  Node a = make(certificates_, "a");
  Node b = make(certificates_, "b");
  a.cluster->set_nodes({b.entry});
  run_until([&] { return up(a, "b"); });
  a.cluster->set_nodes({});
  EXPECT_TRUE(a.cluster->nodes().empty());
  EXPECT_NE(reason(a, "b").find("there is no node"), std::string::npos);
}

}  // namespace
}  // namespace tess::node
