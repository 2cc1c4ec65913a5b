// What all nodes have to agree on: is it read as it was signed, and nothing else believed?
#include "net/charter.h"

#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "net/test_certificates.h"
#include "sys/files.h"

namespace tess::net {
namespace {

using namespace std::chrono_literals;

Charter example() {
  Charter charter;
  charter.serial = 7;
  charter.stage = Charter::Stage::kSpread;
  charter.keys.resize(2);
  charter.keys[0].fill(1);
  charter.keys[1].fill(2);
  charter.expelled.push_back({{9, 8, 7}, "pc1", 1'700'000'000});
  return charter;
}

class CharterTest : public ::testing::Test {
 protected:
  Certificate ca_ = *make_ca("ca");
};

TEST_F(CharterTest, IsReadAsItWasSigned) {
  const auto read = Charter::parse(*example().text(ca_.key_pem), ca_.certificate_pem);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(*read, example());
  EXPECT_TRUE(read->expels({9, 8, 7}));
  EXPECT_FALSE(read->expels({9, 8, 6}));
}

TEST_F(CharterTest, KeepsItsFormat) {
  const std::string text = *example().text(ca_.key_pem);
  std::string ones;
  std::string twos;
  for (int i = 0; i < 32; ++i) {
    ones += "01";
    twos += "02";
  }
  EXPECT_EQ(text.substr(0, text.find("signature")),
            "tessera charter 1\nserial 7\nstage spread\nkey " + ones + "\nkey " + twos +
                "\nexpelled 09080700000000000000000000000000 pc1 1700000000\n");
}

TEST_F(CharterTest, ThatSomebodyElseSignedIsRefused) {
  const Certificate other = *make_ca("other");
  EXPECT_FALSE(Charter::parse(*example().text(other.key_pem), ca_.certificate_pem));
  EXPECT_FALSE(Charter::parse("", ca_.certificate_pem));
  EXPECT_FALSE(Charter::parse("tessera charter 1\n", ca_.certificate_pem));
  EXPECT_FALSE(Charter::parse("signature \n", ca_.certificate_pem));
}

TEST_F(CharterTest, ThatWasChangedAnywhereIsRefused) {
  const std::string text = *example().text(ca_.key_pem);
  const size_t body = text.find("signature");
  for (size_t at = 0; at < body; ++at) {
    std::string changed = text;
    changed[at] ^= 1;
    EXPECT_FALSE(Charter::parse(changed, ca_.certificate_pem)) << at;
  }
  for (size_t size = 0; size < text.size(); size += 7) {
    EXPECT_FALSE(Charter::parse(text.substr(0, size), ca_.certificate_pem)) << size;
  }
}

TEST_F(CharterTest, ThatMakesNoSenseIsRefusedAlsoWhenSigned) {
  Charter charter = example();
  charter.keys.pop_back();
  EXPECT_FALSE(Charter::parse(*charter.text(ca_.key_pem), ca_.certificate_pem));
  charter = example();
  charter.serial = 0;
  EXPECT_FALSE(Charter::parse(*charter.text(ca_.key_pem), ca_.certificate_pem));
  charter = example();
  charter.expelled[0].name = "two words";
  EXPECT_FALSE(Charter::parse(*charter.text(ca_.key_pem), ca_.certificate_pem));
}

// Both as a server and as a client, and whichever certificate its key has.
TEST(Expelled, HaveNoConnections) {
  const TestCluster cluster;
  (void)cluster.context("n2");
  Charter charter;
  charter.serial = 1;
  charter.keys.resize(1);
  const auto print = key_fingerprint(*sys::read_file(cluster.dir("n2") + "/node.crt"));
  charter.expelled.push_back({node_id_of(*print), "n2", 1});
  (void)cluster.context("n1");
  std::ofstream(cluster.dir("n1") + "/charter") << *charter.text(cluster.ca_key());
  const TlsContext n1 = *TlsContext::load(cluster.dir("n1"));
  const TlsContext n2 = *TlsContext::load(cluster.dir("n2"));
  const TlsContext n3 = cluster.context("n3");
  const auto connect = [](const TlsContext& client, const TlsContext& server) {
    const auto listener = listen_tcp("127.0.0.1", 0);
    auto accepted = std::async(std::launch::async, [&]() -> Result<> {
      TESS_TRY_ASSIGN(sys::Fd fd, accept_tcp(*listener, 30s));
      TESS_TRY_ASSIGN(auto stream, TlsStream::accept(server, std::move(fd), 30s));
      return {};
    });
    const auto stream =
        TlsStream::connect(client, "127.0.0.1", local_endpoint(*listener)->port, 30s);
    const Result<> server_side = accepted.get();
    return std::make_pair(stream ? "" : stream.error().message(),
                          server_side ? "" : server_side.error().message());
  };
  EXPECT_EQ(connect(n3, n1), std::make_pair(std::string(), std::string()));
  EXPECT_NE(connect(n2, n1).second.find("was expelled from this cluster"), std::string::npos);
  EXPECT_NE(connect(n1, n2).first.find("was expelled from this cluster"), std::string::npos);
}

}  // namespace
}  // namespace tess::net
