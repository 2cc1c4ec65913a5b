#include "node/config.h"

#include <gtest/gtest.h>

namespace tess::node {
namespace {

std::string error_of(std::string_view text) {
  const auto config = parse_config(text, "t.toml");
  return config ? "" : config.error().message();
}

TEST(Config, Full) {
  const auto config = parse_config(R"(
name = "n1"
listen = "10.0.0.1:7000"
trusted_network = true
balance = false
beacons = false
metrics = "127.0.0.1"
[[node]]
name = "n2"
address = "10.0.0.2"
[[node]]
name = "n1"
address = "10.0.0.1:7000"
)",
                                   "t.toml");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->name, "n1");
  EXPECT_EQ(config->listen, (net::Endpoint{"10.0.0.1", 7000}));
  EXPECT_TRUE(config->trusted_network);
  EXPECT_FALSE(config->balance);
  EXPECT_FALSE(config->beacons);
  EXPECT_EQ(config->metrics, (net::Endpoint{"127.0.0.1", kMetricsPort}));
  ASSERT_EQ(config->nodes.size(), 1U) << "this node itself is skipped";
  EXPECT_EQ(config->nodes[0], (NodeEntry{"n2", {"10.0.0.2", 7117}}));
}

TEST(Config, DefaultsAreSafe) {
  const auto config = parse_config("name = 'x'", "t.toml");
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->trusted_network);
  EXPECT_TRUE(config->balance);
  EXPECT_TRUE(config->beacons);
  EXPECT_EQ(config->listen.port, 7117);
}

TEST(Config, MistakesAreNamedWithTheirLine) {
  EXPECT_EQ(error_of("name = 'x'\nlisten = 7117\n"),
            "t.toml:2: listen must be a text \"ADDRESS:PORT\"");
  EXPECT_EQ(error_of("name = 'x'\nlissen = 'a'\n"), "t.toml:2: unknown key 'lissen'");
  EXPECT_NE(error_of("name = \n").find("t.toml:1: "), std::string::npos);
  EXPECT_NE(error_of("name = 'a b'").find("not a node name"), std::string::npos);
  EXPECT_NE(error_of("listen = 'a:1'").find("name is missing"), std::string::npos);
  EXPECT_NE(error_of("name='x'\n[[node]]\nname='y'\n").find("has no address"), std::string::npos);
  EXPECT_NE(error_of("name='x'\n[[node]]\nname='y'\naddress='a'\n[[node]]\nname='y'\naddress='b'\n")
                .find("t.toml:5: node 'y' is listed twice"),
            std::string::npos);
  EXPECT_NE(error_of("name='x'\n[node]\nname='y'\n").find("[[node]]"), std::string::npos);
  EXPECT_NE(error_of("name='x'\n[[node]]\nname='y'\naddress='a:x'\n").find("t.toml:4: "),
            std::string::npos);
}

}  // namespace
}  // namespace tess::node
