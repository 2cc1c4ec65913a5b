#include "node/link_speed.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace tess::node {
namespace {

TEST(LinkSpeed, OnlyWhatALinkCanHaveIsASpeed) {
  EXPECT_EQ(parse_link_speed("1000\n"), 1000u);
  EXPECT_EQ(parse_link_speed("100"), 100u);
  EXPECT_EQ(parse_link_speed("400000\n"), 400000u);
  for (const char* unknown : {"-1\n", "0\n", "", "\n", "fast\n", "1000 Mbit\n", "65535\n",
                              "4294967295\n", "99999999999999999999\n"}) {
    EXPECT_EQ(parse_link_speed(unknown), 0u) << unknown;
  }
}

TEST(LinkSpeed, IsReadFromTheInterfacesFolder) {
  char name[] = "/tmp/tess-link-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  const std::string classes = name;
  std::filesystem::create_directory(classes + "/eth9");
  std::ofstream(classes + "/eth9/speed") << "2500\n";
  std::ofstream(classes + "/eth9/ifindex") << "7\n";
  std::ofstream(classes + "/eth9/address") << "02:00:0a:4d:00:01\n";
  const Interface eth9{"eth9", 7, "02:00:0a:4d:00:01"};
  EXPECT_EQ(read_link_speed(eth9, classes), 2500u);
  std::ofstream(classes + "/eth9/speed") << "100\n";  // negotiated anew
  EXPECT_EQ(read_link_speed(eth9, classes), 100u);
  EXPECT_EQ(read_link_speed({"eth8", 7, eth9.station}, classes), 0u);
  EXPECT_EQ(read_link_speed({"eth9", 8, eth9.station}, classes), 0u) << "of another namespace";
  EXPECT_EQ(read_link_speed({"eth9", 7, "02:00:0a:4d:00:02"}, classes), 0u);
  EXPECT_EQ(read_link_speed(Interface(), classes), 0u);
  std::filesystem::remove_all(classes);
}

TEST(LinkSpeed, TheInterfaceIsFoundByAddressOrByTheWay) {
  EXPECT_EQ(interface_with("127.0.0.1").name, "lo");
  EXPECT_EQ(interface_with("127.0.0.1").station, "00:00:00:00:00:00");
  EXPECT_EQ(interface_with("192.0.2.77").name, "");
  EXPECT_EQ(address_towards("127.0.0.1"), "127.0.0.1");
  EXPECT_EQ(address_towards("no address"), "");
  LinkSpeed link;
  const cluster::Time now(std::chrono::hours(1));
  EXPECT_TRUE(link.due(now));
  EXPECT_EQ(link.read(now, "127.0.0.1:7117", ""), 0u) << "lo has no speed";
  EXPECT_FALSE(link.due(now + std::chrono::seconds(1)));
  EXPECT_TRUE(link.due(now + std::chrono::minutes(1)));
  EXPECT_EQ(link.read(now + std::chrono::minutes(1), "", "127.0.0.1:7117"), 0u);
}

}  // namespace
}  // namespace tess::node
