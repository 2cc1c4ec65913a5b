#include "node/node_rename.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "net/test_certificates.h"
#include "sys/files.h"

namespace tess::node {
namespace {

TEST(NodeRename, OnlyTheNodesOwnNameIsChangedInItsConfiguration) {
  EXPECT_EQ(
      *with_name("# me\nname = \"a\"  # old\nlisten = \"1.2.3.4:7117\"\n\n[[node]]\nname = \"a\"\n",
                 "b-2"),
      "# me\nname = \"b-2\"\nlisten = \"1.2.3.4:7117\"\n\n[[node]]\nname = \"a\"\n");
  EXPECT_EQ(*with_name("  name=\"a\"", "b"), "name = \"b\"");
  EXPECT_FALSE(with_name("[[node]]\nname = \"a\"\n", "b"));
  EXPECT_FALSE(with_name("names = \"a\"\n", "b"));
  EXPECT_FALSE(with_name("", "b"));
  EXPECT_FALSE(with_name("name = \"a\"\n", "b c"));
}

TEST(NodeRename, AfterACrashBetweenTheFilesTheConfigurationFollowsTheCertificate) {
  char folder[] = "/tmp/tess-rename-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string dir = folder;
  const net::Certificate ca = *net::make_ca("ca");
  const net::Certificate node = *net::issue_certificate(ca, "new");
  ASSERT_TRUE(sys::write_file(dir + "/ca.crt", ca.certificate_pem));
  ASSERT_TRUE(sys::write_file(dir + "/node.crt", node.certificate_pem));
  ASSERT_TRUE(sys::write_file(dir + "/node.key", node.key_pem, 0600));
  const std::string config = dir + "/tessera.toml";
  ASSERT_TRUE(sys::write_file(config, "name = \"old\"\n"));
  ASSERT_TRUE(NodeRename::finish(dir, config));
  EXPECT_EQ(*sys::read_file(config), "name = \"old\"\n") << "nothing was begun";
  ASSERT_TRUE(sys::write_file(dir + "/renamed", "new\n"));
  ASSERT_TRUE(NodeRename::finish(dir, config));
  EXPECT_EQ(*sys::read_file(config), "name = \"new\"\n");
  EXPECT_FALSE(std::filesystem::exists(dir + "/renamed"));
  std::filesystem::remove_all(dir);
}

TEST(NodeRename, ANameIsTakenOnlyByWhomItWasAllowedAndOnlyOnceAndInTime) {
  char folder[] = "/tmp/tess-rename-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string dir = folder;
  ASSERT_TRUE(sys::write_file(dir + "/ca.key", "here"));
  int64_t now = 1000;
  Admission admission(
      {dir, "n1", [&] { return now; },
       [](const std::string& name) { return name == "there" ? NameUse::kPresent : NameUse::kFree; },
       nullptr});
  net::KeyPrint key{};
  key.fill(7);
  EXPECT_FALSE(admission.use_rename("a", "b", key)) << "nobody allowed it";
  EXPECT_FALSE(admission.allow_rename("a", "there"));
  EXPECT_FALSE(admission.allow_rename("a", "a"));
  EXPECT_FALSE(admission.allow_rename("a", "no name"));
  ASSERT_TRUE(admission.allow_rename("a", "b"));
  EXPECT_FALSE(admission.use_rename("a", "c", key));
  EXPECT_FALSE(admission.use_rename("x", "b", key));
  ASSERT_TRUE(admission.use_rename("a", "b", key));
  EXPECT_FALSE(admission.use_rename("a", "b", key)) << "twice";
  const auto book = admission.book();
  ASSERT_TRUE(book);
  ASSERT_NE(book->issued_to("b"), nullptr);
  EXPECT_EQ(book->issued_to("b")->key, key);
  EXPECT_EQ(book->issued_to("a"), nullptr);
  EXPECT_FALSE(admission.allow_rename("x", "b")) << "somebody has it";
  ASSERT_TRUE(admission.allow_rename("x", "y"));
  now += 3600;
  EXPECT_FALSE(admission.use_rename("x", "y", key)) << "too late";
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tess::node
