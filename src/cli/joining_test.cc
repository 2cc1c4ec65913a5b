// From a machine to a node: tess init, token, join, as people type them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "cli/test_node.h"
#include "net/certificate.h"
#include "sys/files.h"

namespace tess::cli {
namespace {

using nlohmann::json;

class Joining : public ::testing::Test {
 protected:
  void SetUp() override {
    static const bool ready = enter_test_network();
    if (!ready) {
      GTEST_SKIP() << "needs root and network namespaces";
    }
    found(n1_, "n1", "127.0.0.1");
  }
  // Makes a cluster of one node.
  static void found(TestNode& node, const std::string& name, const std::string& address) {
    const Output made = node.tess({"init", "--name", name, "--listen", address + ":7117"});
    ASSERT_EQ(made.code(), 0) << made.err;
    node.start();
  }
  std::string token(std::vector<std::string> options = {}) {
    return token_of(n1_, std::move(options));
  }
  static std::string token_of(TestNode& node, std::vector<std::string> options = {}) {
    options.insert(options.begin(), "token");
    const Output made = node.tess(options);
    EXPECT_EQ(made.code(), 0) << made.err;
    return made.out.substr(0, made.out.find('\n'));
  }
  Output join(const std::string& text) {
    return n2_.tess({"join", text, "--name", "n2", "--listen", "127.0.0.2:7117"});
  }
  static void expect(const Output& output, int code, const std::string& words) {
    EXPECT_EQ(output.code(), code) << output.out << output.err;
    EXPECT_NE((output.out + output.err).find(words), std::string::npos) << output.out << output.err;
  }
  static mode_t mode_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 0777;
  }

  TestNode n1_{"n1", "127.0.0.1"};
  TestNode n2_{"n2", "127.0.0.2"};
};

TEST_F(Joining, OneTokenMakesOneNode) {
  const std::string text = token();
  const Output joined = join(text);
  expect(joined, 0, "joined as node n2");
  EXPECT_EQ(mode_of(n2_.dir() + "/state/node.key"), 0600U);
  EXPECT_EQ(mode_of(n2_.dir() + "/state/cluster.key"), 0600U);
  EXPECT_FALSE(std::filesystem::exists(n2_.dir() + "/state/joining.key"));
  expect(join(text), 6, "is a node already");
  n2_.start();
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));
  TestNode n3("n3", "127.0.0.3");
  expect(n3.tess({"join", text, "--name", "n3"}), 6, "used already (by n2)");
  expect(n3.tess({"join", token(), "--name", "n2"}), 6, "there is a node 'n2'");
}

TEST_F(Joining, BadTokensAreToldApart) {
  const std::string text = token();
  expect(join(text.substr(0, text.size() - 3)), 2, "cut off");
  expect(join("hello"), 2, "not a token");
  const std::string short_lived = token({"--expires", "1s"});
  ASSERT_TRUE(eventually([&] {
    const json list = n1_.tess_json({"token", "list", "--json"});
    return std::any_of(list["tokens"].begin(), list["tokens"].end(),
                       [](const json& one) { return one.value("expires_in_s", 1) <= 0; });
  }));
  expect(join(short_lived), 6, "expired");
  // A token of another cluster that leads here: this server does not prove to be of that cluster.
  TestNode other("o1", "127.0.0.9");
  found(other, "o1", "127.0.0.9");
  expect(join(token_of(other, {"--address", "127.0.0.1:7117"})), 6, "not of the cluster");
  expect(join(token({"--address", "127.0.0.77:7117"})), 7, "nobody could be asked");
  EXPECT_FALSE(std::filesystem::exists(n2_.dir() + "/state/node.crt"));
  expect(join(text), 0, "joined");
}

TEST_F(Joining, OnlyRootMakesTokensAndOnlyWhereTheCaIs) {
  ASSERT_EQ(join(token()).code(), 0);
  n2_.start();
  expect(n2_.tess({"token"}), 6, "does not hold the cluster's CA");
}

TEST_F(Joining, APersonApproves) {
  const auto pending = [&] { return n1_.tess_json({"node", "pending", "--json"}); };
  const std::string ca = pending().value("ca", "");
  ASSERT_EQ(ca.size(), 64U);
  const std::string wrong(64, '0');
  expect(n2_.tess({"join", "--wait", "127.0.0.1", "--ca", wrong}), 6, "not of the cluster");
  expect(n2_.tess({"join", "--wait", "127.0.0.1"}), 2, "--ca FINGERPRINT");
  const std::string log = n2_.dir() + "/join.log";
  const sys::Fd out(::open(log.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
  sys::SpawnOptions options;
  options.argv = {
      build_program("tess"), "join", "--wait", "127.0.0.1", "--ca", ca, "--name", "n2", "--listen",
      "127.0.0.2:7117"};
  options.env = n2_.environment();
  options.fds = {{out.get(), 1}, {out.get(), 2}};
  auto waiting = sys::Process::spawn(options);
  ASSERT_TRUE(waiting);
  ASSERT_TRUE(eventually([&] { return pending()["pending"].size() == 1; }));
  const json one = pending()["pending"][0];
  EXPECT_EQ(one.value("name", ""), "n2");
  EXPECT_EQ(n1_.tess({"node", "approve", one.value("key", "")}).code(), 0);
  const auto status = waiting->wait(sys::after(std::chrono::seconds(60)));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->success()) << *sys::read_file(log);
  n2_.start();
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));
}

// ---- and no longer ----

class Belonging : public Joining {
 protected:
  void bring_in(TestNode& node, const std::string& name, const std::string& address) {
    const Output joined =
        node.tess({"join", token(), "--name", name, "--listen", address + ":7117"});
    ASSERT_EQ(joined.code(), 0) << joined.err;
    node.start();
    ASSERT_TRUE(eventually([&] { return n1_.sees(name) && node.sees("n1"); }));
  }
  static json entry(const TestNode& node, const std::string& other) {
    const json answer = node.tess_json({"nodes", "--json"});
    if (answer.is_object()) {
      for (const json& one : answer["nodes"]) {
        if (one.value("name", "") == other) {
          return one;
        }
      }
    }
    return json::object();
  }
  // By gossip: its datagrams are heard.
  static bool hears(const TestNode& node, const std::string& other) {
    const json one = entry(node, other);
    return one.value("state", "") == "alive" && one.contains("speed");
  }
  static std::string key_of(const TestNode& node) {
    return sys::read_file(node.dir() + "/state/cluster.key").value_or("");
  }
  bool key_is_settled(const TestNode& node) {
    const auto charter = sys::read_file(node.dir() + "/state/charter");
    return charter && charter->find("stage settled") != std::string::npos &&
           key_of(node) == key_of(n1_);
  }

  TestNode n3_{"n3", "127.0.0.3"};
};

TEST_F(Belonging, WhoIsExpelledStaysOut) {
  bring_in(n2_, "n2", "127.0.0.2");
  bring_in(n3_, "n3", "127.0.0.3");
  ASSERT_TRUE(eventually([&] { return n2_.sees("n3") && hears(n2_, "n3"); }));
  expect(n2_.tess({"node", "expel", "n3"}), 6, "does not hold the cluster's CA");
  expect(n1_.tess({"node", "expel", "n1"}), 6, "tess leave");
  expect(n1_.tess({"node", "expel", "nobody"}), 5, "no node 'nobody'");
  const std::string old_key = key_of(n1_);
  ASSERT_EQ(n1_.tess({"node", "expel", "n3"}).code(), 0);
  EXPECT_TRUE(key_is_settled(n1_));
  EXPECT_TRUE(eventually([&] { return key_is_settled(n2_); }));
  EXPECT_NE(key_of(n1_), old_key);
  EXPECT_EQ(key_of(n3_), old_key);
  EXPECT_EQ(entry(n1_, "n3").value("state", ""), "expelled");  // at once, whatever its kernel says
  EXPECT_TRUE(eventually([&] { return !n1_.sees("n3") && !n2_.sees("n3") && !n3_.sees("n1"); }));
  EXPECT_TRUE(eventually([&] { return !hears(n1_, "n3") && !hears(n2_, "n3"); }));
  EXPECT_TRUE(eventually([&] {
    return entry(n3_, "n1").value("why", "").find("expelled") != std::string::npos;
  })) << entry(n3_, "n1");
  EXPECT_TRUE(n1_.sees("n2") && n2_.sees("n1"));
  EXPECT_TRUE(hears(n1_, "n2") && hears(n2_, "n1"));
  // It is kept over restarts, of those who have expelled it and of itself.
  n2_.kill_daemon();
  n3_.kill_daemon();
  n2_.start();
  n3_.start();
  ASSERT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));
  EXPECT_TRUE(eventually([&] {
    return entry(n3_, "n1").value("why", "").find("expelled") != std::string::npos;
  })) << entry(n3_, "n1");
  EXPECT_FALSE(n2_.sees("n3"));
  expect(n1_.tess({"node", "expel", "n3"}), 5, "no node 'n3' is known that is not expelled");
  // A new key and a new invitation are another matter.
  ASSERT_EQ(n3_.tess({"leave", "--remove"}).code(), 0);
  (void)n3_.daemon().wait();
  bring_in(n3_, "n3", "127.0.0.3");
  EXPECT_TRUE(eventually([&] { return n2_.sees("n3") && n3_.sees("n2"); }));
}

TEST_F(Belonging, TheKeyChangesWithoutAStop) {
  bring_in(n2_, "n2", "127.0.0.2");
  bring_in(n3_, "n3", "127.0.0.3");
  ASSERT_TRUE(eventually([&] { return hears(n1_, "n2") && hears(n1_, "n3"); }));
  const std::string first = key_of(n1_);
  n3_.kill_daemon();
  ASSERT_TRUE(eventually([&] { return !n1_.sees("n3"); }));
  ASSERT_EQ(n1_.tess({"rotate", "key"}).code(), 0);
  EXPECT_NE(key_of(n1_), first);
  EXPECT_TRUE(eventually([&] { return key_is_settled(n2_) && hears(n1_, "n2"); }));
  // Who was away has only the old key, and learns the new one over TLS.
  EXPECT_EQ(key_of(n3_), first);
  n3_.start();
  EXPECT_TRUE(eventually([&] { return key_is_settled(n3_); }));
  EXPECT_TRUE(eventually([&] { return hears(n1_, "n3") && hears(n3_, "n2") && hears(n2_, "n3"); }));
}

TEST_F(Belonging, CertificatesAreRenewedForTheSameKey) {
  bring_in(n2_, "n2", "127.0.0.2");
  const auto certificate = [](const TestNode& node) {
    return sys::read_file(node.dir() + "/state/node.crt").value_or("");
  };
  for (const TestNode* node : {&n1_, &n2_}) {
    const std::string before = certificate(*node);
    expect(node->tess({"rotate", "certificate"}), 0, "");
    EXPECT_NE(certificate(*node), before);
    EXPECT_EQ(*net::key_fingerprint(certificate(*node)), *net::key_fingerprint(before));
  }
  // New connections show the new ones.
  n1_.write_config({{"n2", "127.0.0.2"}});  // so that it need not wait until somebody looks for it
  n1_.kill_daemon();
  ASSERT_TRUE(eventually([&] { return !n2_.sees("n1"); }));
  expect(n2_.tess({"rotate", "certificate"}), 7, "no node that holds the cluster's CA");
  n1_.start();
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));
}

TEST_F(Belonging, TheCasCertificateIsRenewedAndReachesThoseWhoWereAway) {
  bring_in(n2_, "n2", "127.0.0.2");
  bring_in(n3_, "n3", "127.0.0.3");
  const auto ca_of = [](const TestNode& node) {
    return sys::read_file(node.dir() + "/state/ca.crt").value_or("");
  };
  const std::string before = ca_of(n1_);
  n3_.kill_daemon();
  expect(n2_.tess({"rotate", "ca"}), 6, "does not hold the cluster's CA");
  // notAfter is told in seconds: one that was made in the same second lasts no longer.
  ASSERT_TRUE(eventually([&] { return n1_.tess({"rotate", "ca"}).code() == 0; }));
  EXPECT_NE(ca_of(n1_), before);
  EXPECT_EQ(*net::key_fingerprint(ca_of(n1_)), *net::key_fingerprint(before));
  EXPECT_TRUE(eventually([&] { return ca_of(n2_) == ca_of(n1_); }));
  n3_.start();
  EXPECT_TRUE(eventually([&] { return ca_of(n3_) == ca_of(n1_); }));
  // The old certificates of nodes are good under it, also where tessd reads it from the disk.
  n2_.kill_daemon();
  n2_.start();
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n3") && n3_.sees("n2"); }));
}

TEST_F(Belonging, ACertificateIsRenewedByItselfAndOneThatHasExpiredIsToldClearly) {
  bring_in(n2_, "n2", "127.0.0.2");
  const std::string state = n2_.dir() + "/state/";
  const std::string first = sys::read_file(state + "node.crt").value_or("");
  const net::Certificate ca{*sys::read_file(n1_.dir() + "/state/ca.crt"),
                            *sys::read_file(n1_.dir() + "/state/ca.key")};
  const auto use = [&](std::chrono::hours left) {
    n2_.kill_daemon();
    const auto made = net::reissue_certificate(ca, first, "n2", left);
    ASSERT_TRUE(made);
    ASSERT_TRUE(sys::write_file(state + "node.crt", *made));
    n2_.start();
  };
  use(std::chrono::hours(2));  // since yesterday: a third is long over
  EXPECT_TRUE(eventually([&] {
    const auto validity = net::validity_of(sys::read_file(state + "node.crt").value_or(""));
    return validity && validity->left > std::chrono::hours(1000);
  }));
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));

  use(std::chrono::hours(-1));
  const auto why = [](const TestNode& node, const std::string& other) {
    return entry(node, other).value("why", "");
  };
  EXPECT_TRUE(eventually([&] {
    return contains(why(n1_, "n2"), "certificate of the other side has expired") &&
           contains(why(n2_, "n1"), "this node's certificate has expired");
  })) << why(n1_, "n2")
      << " / " << why(n2_, "n1");
}

TEST_F(Belonging, ANodeGetsAnotherName) {
  bring_in(n2_, "n2", "127.0.0.2");
  bring_in(n3_, "n3", "127.0.0.3");
  expect(n2_.tess({"node", "rename", "n3", "pc3"}), 6, "does not hold the cluster's CA");
  expect(n1_.tess({"node", "rename", "n2", "n3"}), 6, "there is a node 'n3' already");
  expect(n1_.tess({"node", "rename", "n2", "a b"}), 2, "not a node name");
  expect(n1_.tess({"node", "rename", "nobody", "x"}), 5, "there is no node 'nobody'");
  const auto key_print = [this] {
    return net::key_fingerprint(sys::read_file(n2_.dir() + "/state/node.crt").value_or(""));
  };
  const auto before = key_print();
  expect(n1_.tess({"node", "rename", "n2", "pc2"}), 0, "");
  EXPECT_TRUE(eventually([&] { return n1_.sees("pc2") && n3_.sees("pc2") && n2_.sees("n1"); }));
  EXPECT_TRUE(eventually([&] { return !n1_.sees("n2") && entry(n2_, "pc2").value("up", false); }));
  EXPECT_EQ(*key_print(), *before);
  // Also that of the node with the CA, by which the others' configurations call it.
  n1_.write_config({{"n3", "127.0.0.3"}});  // so that it need not wait until somebody looks for it
  expect(n1_.tess({"node", "rename", "n1", "boss"}), 0, "");
  EXPECT_TRUE(eventually([&] { return n2_.sees("boss") && n3_.sees("boss") && n1_.sees("pc2"); }));
  EXPECT_TRUE(eventually([&] { return entry(n3_, "n1").value("up", false) == false; }));
  n3_.kill_daemon();
  n3_.start();
  EXPECT_TRUE(eventually([&] { return n3_.sees("boss") && n3_.sees("pc2"); }));
  // The old name is free.
  ASSERT_TRUE(eventually([&] {  // it may not be connected with it again yet
    return n1_.tess({"node", "rename", "n3", "n2"}).code() == 0;
  }));
  EXPECT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n2"); }));
}

TEST_F(Belonging, WhoLeavesMayComeBack) {
  expect(n1_.tess({"leave"}), 6, "holds the cluster's CA");
  bring_in(n2_, "n2", "127.0.0.2");
  expect(n2_.tess({"leave"}), 0, "left");
  EXPECT_EQ(n2_.daemon().wait()->text(), "exited with status 0");
  EXPECT_TRUE(eventually([&] { return entry(n1_, "n2").value("state", "") == "left"; }));
  EXPECT_TRUE(std::filesystem::exists(n2_.dir() + "/state/node.crt"));
  // Its name is kept for it.
  expect(n3_.tess({"join", token(), "--name", "n2"}), 6, "--replace");
  n2_.start();
  ASSERT_TRUE(eventually([&] { return n1_.sees("n2"); }));
  expect(n2_.tess({"leave", "--remove"}), 0, "removed the certificate");
  (void)n2_.daemon().wait();
  for (const char* name : {"node.crt", "node.key", "cluster.key", "ca.crt"}) {
    EXPECT_FALSE(std::filesystem::exists(n2_.dir() + "/state/" + name)) << name;
  }
  EXPECT_TRUE(eventually([&] { return !n1_.sees("n2"); }));
  bring_in(n2_, "n2", "127.0.0.2");
}

}  // namespace
}  // namespace tess::cli
