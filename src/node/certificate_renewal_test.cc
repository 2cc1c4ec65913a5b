#include "node/certificate_renewal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "sys/files.h"

namespace tess::node {
namespace {

using std::chrono::hours;

TEST(CertificateRenewal, IsDueWhenLessThanAThirdIsLeft) {
  EXPECT_FALSE(CertificateRenewal::is_due({hours(0), hours(300)}));
  EXPECT_FALSE(CertificateRenewal::is_due({hours(199), hours(101)}));
  EXPECT_TRUE(CertificateRenewal::is_due({hours(201), hours(99)}));
  EXPECT_TRUE(CertificateRenewal::is_due({hours(300), hours(-1)}));
}

TEST(CertificateRenewal, ANewCertificateIsNotDue) {
  const net::Certificate ca = *net::make_ca("ca");
  const auto certificate =
      net::sign_request(ca, *net::make_request(*net::make_key()), "n", net::kLongLived);
  ASSERT_TRUE(certificate);
  EXPECT_FALSE(CertificateRenewal::is_due(*net::validity_of(*certificate)));
}

TEST(CertificateRenewal, TheEndOfTheCaIsSaidAYearBefore) {
  std::string dir = "/tmp/tess-ca-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  const auto warning_with = [&](std::chrono::seconds lifetime) {
    EXPECT_TRUE(sys::replace_file(dir + "/ca.crt", net::make_ca("ca", lifetime)->certificate_pem));
    return CertificateRenewal::ca_warning(dir);
  };
  EXPECT_EQ(CertificateRenewal::ca_warning(dir), "");  // no CA: nothing to be said about it
  EXPECT_EQ(warning_with(net::kLongLived), "");
  EXPECT_EQ(warning_with(hours(367 * 24)), "");
  EXPECT_NE(warning_with(hours(100 * 24 + 12)).find("ends in 100 days"), std::string::npos);
  EXPECT_NE(warning_with(hours(2)).find("ends today"), std::string::npos);
  EXPECT_NE(warning_with(hours(-12)).find("has ended"), std::string::npos);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tess::node
