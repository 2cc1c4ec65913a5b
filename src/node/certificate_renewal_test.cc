#include "node/certificate_renewal.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tess::node
