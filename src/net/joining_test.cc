// How a machine without a certificate meets a server, and what certificates are made from.
#include <gtest/gtest.h>

#include "net/secret_proof.h"
#include "net/test_certificates.h"
#include "net/test_pair.h"

namespace tess::net {
namespace {

using namespace std::chrono_literals;

TEST(Joining, AServerIsKnownByItsCa) {
  const TestCluster cluster;
  const Pair pair =
      connect_pair(*TlsContext::for_joining(cluster.ca_print()), cluster.context("n1", true), 30s);
  ASSERT_TRUE(pair.client) << pair.client.error().message();
  ASSERT_TRUE(pair.server) << pair.server.error().message();
  EXPECT_EQ((*pair.client)->peer_name(), "n1");
  EXPECT_EQ((*pair.server)->peer_name(), "");
  EXPECT_EQ(*(*pair.client)->peer_ca(), cluster.ca_print());
}

TEST(Joining, BothEndsOfASessionShareASecretAndSessionsDoNot) {
  const TestCluster cluster;
  const TlsContext client = *TlsContext::for_joining(cluster.ca_print());
  const TlsContext server = cluster.context("n1", true);
  const Pair one = connect_pair(client, server, 30s);
  const Pair other = connect_pair(client, server, 30s);
  ASSERT_TRUE(one.client && one.server && other.client);
  EXPECT_EQ(*(*one.client)->session_secret(), *(*one.server)->session_secret());
  EXPECT_NE(*(*one.client)->session_secret(), *(*other.client)->session_secret());
}

TEST(Joining, AServerOfAnotherClusterIsRefused) {
  const TestCluster cluster;
  const TestCluster foreign;
  const Pair pair =
      connect_pair(*TlsContext::for_joining(cluster.ca_print()), foreign.context("n1", true), 30s);
  ASSERT_FALSE(pair.client);
  EXPECT_EQ(pair.client.error().kind(), ErrorKind::kNotPossible);
  EXPECT_NE(pair.client.error().message().find("not of the cluster"), std::string::npos)
      << pair.client.error().message();
}

TEST(Joining, WithoutAFingerprintTheCaIsToldForAPersonToCompare) {
  const TestCluster cluster;
  const Pair pair =
      connect_pair(*TlsContext::for_joining(std::nullopt), cluster.context("n1", true), 30s);
  ASSERT_TRUE(pair.client) << pair.client.error().message();
  EXPECT_EQ(*(*pair.client)->peer_ca(), cluster.ca_print());
}

// Agents' ports admit nobody.
TEST(Joining, AServerThatAdmitsNobodyAsksForACertificate) {
  const TestCluster cluster;
  const Pair pair =
      connect_pair(*TlsContext::for_joining(cluster.ca_print()), cluster.context("n1"), 30s);
  ASSERT_FALSE(pair.server);
  EXPECT_EQ(pair.server.error().kind(), ErrorKind::kNotPossible);
}

TEST(Joining, NodesStillNeedCertificatesWhereOthersMayJoin) {
  const TestCluster cluster;
  const TestCluster foreign;
  const Pair good = connect_pair(cluster.context("n2"), cluster.context("n1", true), 30s);
  ASSERT_TRUE(good.server) << good.server.error().message();
  EXPECT_EQ((*good.server)->peer_name(), "n2");
  const Pair bad = connect_pair(foreign.context("n2"), cluster.context("n1", true), 30s);
  EXPECT_FALSE(bad.server);
}

TEST(SecretProof, ProvesOneSecretForOneMessageInOneContext) {
  Secret secret{1, 2, 3};
  const Verifier verifier = *verifier_of(secret, "context");
  const std::string proof = *prove(secret, "context", "message");
  EXPECT_TRUE(check_proof(verifier, "message", proof));
  EXPECT_FALSE(check_proof(verifier, "massage", proof));
  EXPECT_FALSE(check_proof(verifier, "message", proof.substr(1)));
  EXPECT_FALSE(check_proof(verifier, "message", ""));
  EXPECT_FALSE(check_proof(verifier, "message", *prove(secret, "other context", "message")));
  secret[15] ^= 1;
  EXPECT_FALSE(check_proof(verifier, "message", *prove(secret, "context", "message")));
}

TEST(SecretProof, TheCaSignsWhatAllHaveToBelieve) {
  const Certificate ca = *make_ca("one");
  const Certificate other = *make_ca("two");
  const std::string signature = *sign_with_key(ca.key_pem, "words");
  EXPECT_TRUE(check_signature(ca.certificate_pem, "words", signature));
  EXPECT_FALSE(check_signature(ca.certificate_pem, "sword", signature));
  EXPECT_FALSE(check_signature(other.certificate_pem, "words", signature));
  EXPECT_FALSE(check_signature("no certificate", "words", signature));
}

TEST(CertificateRequest, BecomesACertificateForTheSameKeyWithTheNameOfTheIssuersChoice) {
  const Certificate ca = *make_ca("ca");
  const std::string key = *make_key();
  const std::string request = *make_request(key);
  const auto certificate = sign_request(ca, request, "pc2", std::chrono::hours(24));
  ASSERT_TRUE(certificate) << certificate.error().message();
  EXPECT_EQ(*key_fingerprint(*certificate), *request_fingerprint(request));
  const auto validity = validity_of(*certificate);
  ASSERT_TRUE(validity);
  // A clock that is hours behind still finds it valid.
  EXPECT_GT(validity->since, std::chrono::hours(12));
  EXPECT_GT(validity->left, std::chrono::hours(23));
  EXPECT_LE(validity->left, std::chrono::hours(24));
  const auto renewed = reissue_certificate(ca, *certificate, "pc3", std::chrono::hours(48));
  ASSERT_TRUE(renewed);
  EXPECT_EQ(*key_fingerprint(*renewed), *request_fingerprint(request));
}

TEST(CertificateRequest, ThatIsDamagedIsRefused) {
  const std::string request = *make_request(*make_key());
  EXPECT_FALSE(request_fingerprint(""));
  EXPECT_FALSE(request_fingerprint("no request"));
  for (size_t i = 0; i < request.size(); ++i) {
    std::string damaged = request;
    damaged[i] ^= 1;
    const auto print = request_fingerprint(damaged);
    EXPECT_FALSE(print) << "byte " << i;
    EXPECT_FALSE(request_fingerprint(request.substr(0, i))) << i << " bytes";
  }
}

}  // namespace
}  // namespace tess::net
