#include "node/identity.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>

#include "net/tls_stream.h"
#include "sys/files.h"

namespace tess::node {
namespace {

class Identity : public ::testing::Test {
 protected:
  Identity() { EXPECT_NE(::mkdtemp(dir_.data()), nullptr); }
  ~Identity() override { std::filesystem::remove_all(dir_); }
  std::string dir_ = "/tmp/tess-identity-XXXXXX";
};

TEST_F(Identity, CaAndNodeCertificatesLoad) {
  ASSERT_TRUE(make_cluster_ca(dir_ + "/ca"));
  const auto issued = issue_node_certificate(dir_ + "/ca", "n1", dir_ + "/n1");
  ASSERT_TRUE(issued) << issued.error().message();
  const auto context = net::TlsContext::load(dir_ + "/n1");
  ASSERT_TRUE(context) << context.error().message();
  EXPECT_EQ(context->node_name(), "n1");
}

TEST_F(Identity, KeysAreForRootOnly) {
  ASSERT_TRUE(make_cluster_ca(dir_));
  ASSERT_TRUE(issue_node_certificate(dir_, "n1", dir_));
  for (const char* key : {"/ca.key", "/node.key"}) {
    struct stat info {};
    ASSERT_EQ(::stat((dir_ + key).c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U) << key;
  }
}

TEST_F(Identity, ACaIsNeverReplaced) {
  ASSERT_TRUE(make_cluster_ca(dir_));
  const auto before = sys::read_file(dir_ + "/ca.crt");
  const auto again = make_cluster_ca(dir_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind(), ErrorKind::kNotPossible);
  EXPECT_EQ(*sys::read_file(dir_ + "/ca.crt"), *before);
}

TEST_F(Identity, BadNamesAreRefused) {
  ASSERT_TRUE(make_cluster_ca(dir_));
  for (const std::string name : {"", "a b", "-x", ".x", "a/b", "ä", "x,CA:TRUE"}) {
    EXPECT_FALSE(issue_node_certificate(dir_, name, dir_ + "/out")) << name;
  }
  EXPECT_FALSE(check_node_name(std::string(64, 'x')));
  EXPECT_TRUE(check_node_name("node-1.example_2"));
  EXPECT_FALSE(std::filesystem::exists(dir_ + "/out"));
}

}  // namespace
}  // namespace tess::node
