// From a machine to a node: tess init, token, join, as people type them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "cli/test_node.h"
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

}  // namespace
}  // namespace tess::cli
