// For tests: state directories with certificates of one or several clusters, removed at the end.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "net/certificate.h"
#include "net/tls_stream.h"

namespace tess::net {

class TestCluster {
 public:
  TestCluster() : ca_(*make_ca("test cluster")) {
    std::string path = "/tmp/tess-test-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    dir_ = path;
  }
  ~TestCluster() { std::filesystem::remove_all(dir_); }
  TestCluster(const TestCluster&) = delete;
  TestCluster& operator=(const TestCluster&) = delete;

  std::string dir(const std::string& name) const { return dir_ + "/" + name; }
  const std::string& ca_key() const { return ca_.key_pem; }
  KeyPrint ca_print() const { return *key_fingerprint(ca_.certificate_pem); }

  TlsContext context(const std::string& name, bool admits = false) const {
    const std::string dir = dir_ + "/" + name;
    std::filesystem::create_directories(dir);
    const auto issued = issue_certificate(ca_, name);
    EXPECT_TRUE(issued) << issued.error().message();
    std::ofstream(dir + "/ca.crt") << ca_.certificate_pem;
    std::ofstream(dir + "/node.crt") << issued->certificate_pem;
    std::ofstream(dir + "/node.key") << issued->key_pem;
    auto loaded = TlsContext::load(dir, admits);
    EXPECT_TRUE(loaded) << loaded.error().message();
    return *loaded;
  }

 private:
  Certificate ca_;
  std::string dir_;
};

}  // namespace tess::net
