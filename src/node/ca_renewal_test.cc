// The CA's certificate on several nodes that are connected over real TLS on loopback.
#include "node/ca_renewal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "net/certificate.h"
#include "net/tls_stream.h"
#include "node/run_until.h"
#include "sys/files.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using std::chrono::hours;

TEST(CaRenewal, ItsEndIsSaidAYearBefore) {
  std::string dir = "/tmp/tess-ca-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  const auto warning_with = [&](std::chrono::seconds lifetime) {
    EXPECT_TRUE(sys::replace_file(dir + "/ca.crt", net::make_ca("ca", lifetime)->certificate_pem));
    return CaRenewal::warning(dir);
  };
  EXPECT_EQ(CaRenewal::warning(dir), "");  // no CA: nothing to be said about it
  EXPECT_EQ(warning_with(net::kLongLived), "");
  EXPECT_EQ(warning_with(hours(367 * 24)), "");
  EXPECT_NE(warning_with(hours(100 * 24 + 12)).find("ends in 100 days"), std::string::npos);
  EXPECT_NE(warning_with(hours(2)).find("ends today"), std::string::npos);
  EXPECT_NE(warning_with(hours(-12)).find("has ended"), std::string::npos);
  std::filesystem::remove_all(dir);
}

TEST(CaRenewal, WhatTheCaSignedStaysGoodAndStrangersAreRefused) {
  const net::Certificate ca = *net::make_ca("ca", hours(24));
  const auto renewed = net::renew_ca(ca);
  ASSERT_TRUE(renewed) << renewed.error().message();
  EXPECT_EQ(*net::key_fingerprint(*renewed), *net::key_fingerprint(ca.certificate_pem));
  EXPECT_TRUE(net::check_renewed_ca(ca.certificate_pem, *renewed));
  // Back to an earlier one; another CA by the same name; what the CA signed for a node.
  EXPECT_FALSE(net::check_renewed_ca(*renewed, ca.certificate_pem));
  EXPECT_FALSE(net::check_renewed_ca(*renewed, *renewed));
  EXPECT_FALSE(net::check_renewed_ca(ca.certificate_pem, net::make_ca("ca")->certificate_pem));
  EXPECT_FALSE(net::check_renewed_ca(ca.certificate_pem,
                                     net::issue_certificate(ca, "node")->certificate_pem));
  EXPECT_FALSE(net::check_renewed_ca(ca.certificate_pem, "nonsense"));
  EXPECT_FALSE(net::renew_ca({ca.certificate_pem, net::make_ca("ca")->key_pem}));
}

class CaRenewalTest : public ::testing::Test {
 protected:
  struct Node {
    std::string dir;
    std::unique_ptr<Cluster> cluster;
    std::unique_ptr<CaRenewal> renewal;
    NodeEntry entry;
    unsigned changes = 0;
  };

  CaRenewalTest() {
    std::string path = "/tmp/tess-ca-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    dir_ = path;
  }
  ~CaRenewalTest() override { std::filesystem::remove_all(dir_); }

  std::unique_ptr<Node> make(const std::string& name, const net::Certificate& ca, bool holds_key) {
    auto node = std::make_unique<Node>();
    Node& self = *node;
    self.dir = dir_ + "/" + name;
    std::filesystem::create_directories(self.dir);
    const auto issued = *net::issue_certificate(ca, name);
    EXPECT_TRUE(sys::replace_file(self.dir + "/ca.crt", ca.certificate_pem));
    EXPECT_TRUE(sys::replace_file(self.dir + "/node.crt", issued.certificate_pem));
    EXPECT_TRUE(sys::replace_file(self.dir + "/node.key", issued.key_pem));
    if (holds_key) {
      EXPECT_TRUE(sys::replace_file(self.dir + "/ca.key", ca.key_pem));
    }
    ClusterOptions options;
    options.node_id = options.node_name = name;
    options.retry_least = 10ms;
    options.retry_most = 20ms;
    ClusterService service;
    service.node_info = [] { return wire::NodeInfo(); };
    service.job_table = [] { return wire::JobTable(); };
    service.ca_until = [&self] { return self.renewal->until(); };
    service.on_hello = [&self](const std::string& from, const wire::ClusterHello& hello) {
      self.renewal->on_peer(from, hello.ca_until());
    };
    service.other = [&self](const wire::ClusterMessage& message, const std::string& asker,
                            const CaRenewal::Reply& reply) {
      return self.renewal->answer(message, asker, reply);
    };
    self.cluster =
        std::make_unique<Cluster>(loop_, *net::TlsContext::load(self.dir), options, service);
    self.renewal =
        std::make_unique<CaRenewal>(loop_, CaRenewal::Options{self.dir}, *self.cluster, [&self] {
          ++self.changes;
          self.cluster->set_context(*net::TlsContext::load(self.dir));
        });
    EXPECT_TRUE(self.cluster->listen({"127.0.0.1", 0}));
    self.entry = {name, *self.cluster->listening()};
    return node;
  }

  void run_until(const std::function<bool()>& done) {
    EXPECT_TRUE(node::run_until(loop_, done)) << "it did not come to pass within 60 s";
  }

  net::Loop loop_;
  std::string dir_;
};

// c is away at first, and never sees a.
TEST_F(CaRenewalTest, ACertificateThatIsDueIsRenewedAndReachesEverybody) {
  const net::Certificate ca = *net::make_ca("ca", hours(6));
  const auto a = make("a", ca, true);
  const auto b = make("b", ca, false);
  a->cluster->set_nodes({b->entry});
  b->cluster->set_nodes({a->entry});
  run_until([&] { return a->cluster->check_up("b") && b->cluster->check_up("a"); });
  const int64_t before = a->renewal->until();
  EXPECT_FALSE(b->renewal->renew());  // it does not have the key
  b->renewal->start();
  EXPECT_EQ(b->renewal->until(), before);
  EXPECT_NE(b->renewal->warning(), "");
  a->renewal->start();
  EXPECT_GT(a->renewal->until(), before);
  run_until([&] { return b->renewal->until() == a->renewal->until(); });
  EXPECT_EQ(b->renewal->warning(), "");
  const auto c = make("c", ca, false);
  c->cluster->set_nodes({b->entry});
  b->cluster->set_nodes({a->entry, c->entry});
  run_until([&] { return c->renewal->until() == a->renewal->until(); });
  EXPECT_EQ(a->changes + b->changes + c->changes, 3U);
  // New connections between the old and the new certificates' bearers are made, too.
  const auto d = make("d", ca, false);
  d->cluster->set_nodes({c->entry});
  run_until([&] { return d->cluster->check_up("c").has_value(); });
}

TEST_F(CaRenewalTest, NobodyTakesAnotherCa) {
  const net::Certificate ca = *net::make_ca("ca", hours(6));
  const auto a = make("a", ca, false);
  const auto b = make("b", ca, false);
  a->cluster->set_nodes({b->entry});
  run_until([&] { return a->cluster->check_up("b").has_value(); });
  std::string answer;
  wire::ClusterMessage ask;
  ask.mutable_ca_certificate()->set_certificate(net::make_ca("ca")->certificate_pem);
  a->cluster->ask("b", ask, 60s, [&](const auto& result) {
    answer = result ? result->done().message() : result.error().message();
  });
  run_until([&] { return !answer.empty(); });
  EXPECT_NE(answer.find("not a certificate of this cluster's CA"), std::string::npos) << answer;
  EXPECT_EQ(b->changes, 0U);
}

}  // namespace
}  // namespace tess::node
