// Who gets in, and who hears what instead.
#include "node/admission.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "node/identity.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

class AdmissionTest : public ::testing::Test {
 protected:
  static std::string new_directory() {
    std::string path = "/tmp/tess-admission-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    EXPECT_TRUE(make_cluster_ca(path));
    return path;
  }
  ~AdmissionTest() override { std::filesystem::remove_all(dir_); }

  // A machine that wants in.
  struct Machine {
    std::string name;
    std::string key = *net::make_key();
    std::string session = "session";
    std::string address = "10.0.0.7";
  };

  Admission make() {
    Admission::Environment environment;
    environment.state_dir = dir_;
    environment.node_name = "n1";
    environment.now = [this] { return now_; };
    environment.name_use = [this](const std::string&) { return name_use_; };
    environment.seeds = [](const std::string& local) {
      return std::vector<NodeEntry>{{"n1", {local, 7117}}};
    };
    return Admission(std::move(environment));
  }
  std::string token(Admission::TokenWish wish = {}) {
    wish.addresses = {{"10.0.0.1", 7117}};
    const auto made = admission_.make_token(wish);
    EXPECT_TRUE(made) << made.error().message();
    return *made;
  }
  wire::JoinRequest request_of(const Machine& machine, const std::string& text) {
    const JoinToken token = *JoinToken::parse(text);
    wire::JoinRequest request;
    request.set_format(kJoinFormat);
    request.set_name(machine.name);
    request.set_request(*net::make_request(machine.key));
    request.set_token(token.id);
    request.set_proof(
        *net::prove(token.secret, kTokenContext,
                    join_transcript(machine.session, token.id, request.request(), machine.name)));
    return request;
  }
  wire::JoinAnswer ask(const wire::JoinRequest& request, const Machine& machine) {
    wire::JoinAnswer answer;
    admission_.on_request(request, {machine.session, machine.address, "10.0.0.1"},
                          [&](const wire::JoinAnswer& said) { answer = said; });
    return answer;
  }
  wire::JoinAnswer ask(const Machine& machine, const std::string& text) {
    return ask(request_of(machine, text), machine);
  }
  void expect_refused(const wire::JoinAnswer& answer, const std::string& words) {
    ASSERT_TRUE(answer.has_refused());
    EXPECT_NE(answer.refused().reason().find(words), std::string::npos)
        << answer.refused().reason();
  }

  std::string dir_ = new_directory();
  int64_t now_ = 1'000'000;
  NameUse name_use_ = NameUse::kFree;
  Admission admission_ = make();
};

TEST_F(AdmissionTest, ATokenBringsACertificateForTheMachinesOwnKey) {
  const Machine pc{"pc"};
  const auto answer = ask(pc, token());
  ASSERT_TRUE(answer.has_granted()) << answer.refused().reason();
  const auto& granted = answer.granted();
  EXPECT_EQ(*net::key_fingerprint(granted.certificate()),
            *net::request_fingerprint(*net::make_request(pc.key)));
  EXPECT_EQ(granted.ca(), *sys::read_file(dir_ + "/ca.crt"));
  EXPECT_EQ(granted.cluster_key(), *sys::read_file(dir_ + "/cluster.key"));
  ASSERT_EQ(granted.seed_size(), 1);
  EXPECT_EQ(granted.seed(0).address(), "10.0.0.1:7117");
}

TEST_F(AdmissionTest, AUsedTokenIsRefusedAlsoAfterARestart) {
  const std::string text = token();
  ASSERT_TRUE(ask(Machine{"pc"}, text).has_granted());
  expect_refused(ask(Machine{"pc2"}, text), "used already (by pc)");
  admission_ = make();
  expect_refused(ask(Machine{"pc2"}, text), "used already");
}

TEST_F(AdmissionTest, WhoLostTheAnswerMayAskAgain) {
  const std::string text = token();
  const Machine pc{"pc"};
  ASSERT_TRUE(ask(pc, text).has_granted());
  name_use_ = NameUse::kGone;
  EXPECT_TRUE(ask(pc, text).has_granted());
}

TEST_F(AdmissionTest, UsesAreCounted) {
  Admission::TokenWish wish;
  wish.uses = 2;
  const std::string text = token(wish);
  ASSERT_TRUE(ask(Machine{"a"}, text).has_granted());
  ASSERT_TRUE(ask(Machine{"b"}, text).has_granted());
  expect_refused(ask(Machine{"c"}, text), "used already");
}

TEST_F(AdmissionTest, AnExpiredTokenIsRefused) {
  const std::string text = token();
  now_ += 3600;
  expect_refused(ask(Machine{"pc"}, text), "expired");
}

TEST_F(AdmissionTest, ARevokedTokenIsRefused) {
  const std::string text = this->token();
  const auto book = admission_.book();
  ASSERT_EQ(book->tokens().size(), 1U);
  ASSERT_FALSE(admission_.revoke_token("zz"));
  ASSERT_FALSE(admission_.revoke_token(""));
  ASSERT_TRUE(admission_.revoke_token("").error().kind() == ErrorKind::kBadInput);
  const JoinToken token = *JoinToken::parse(text);
  const std::string id = wire::to_hex(token.id);
  ASSERT_TRUE(admission_.revoke_token(id.substr(0, 8)));
  expect_refused(ask(Machine{"pc"}, text), "knows no such token");
}

TEST_F(AdmissionTest, AProofIsOfNoUseInAnotherSessionOrForAnotherKeyOrName) {
  const std::string text = token();
  Machine pc{"pc"};
  const auto heard = request_of(pc, text);
  Machine thief{"pc"};
  thief.session = "another session";
  expect_refused(ask(heard, thief), "knows no such token");
  auto other_key = heard;
  other_key.set_request(*net::make_request(thief.key));
  expect_refused(ask(other_key, pc), "knows no such token");
  auto other_name = heard;
  other_name.set_name("head");
  expect_refused(ask(other_name, pc), "knows no such token");
  auto no_proof = heard;
  no_proof.clear_proof();
  expect_refused(ask(no_proof, pc), "knows no such token");
  EXPECT_TRUE(ask(heard, pc).has_granted());
}

TEST_F(AdmissionTest, NothingThatIsKeptLetsAnybodyIn) {
  const std::string text = token();
  const auto secret = JoinToken::parse(text)->secret;
  const std::string kept = *sys::read_file(dir_ + "/admission.json");
  std::string hex;
  for (const uint8_t byte : secret) {
    hex += fmt::format("{:02x}", byte);
  }
  EXPECT_EQ(kept.find(hex), std::string::npos);
  // Not even what is kept, taken for the secret.
  JoinToken forged = *JoinToken::parse(text);
  const auto verifier = admission_.book()->tokens()[0].verifier;
  std::copy_n(verifier.begin(), forged.secret.size(), forged.secret.begin());
  expect_refused(ask(Machine{"pc"}, forged.text()), "knows no such token");
}

TEST_F(AdmissionTest, ATokenMayBeForSomeAddressesOnly) {
  Admission::TokenWish wish;
  wish.from = {*IpRange::parse("192.168.1.0/24")};
  const std::string text = token(wish);
  Machine pc{"pc"};
  expect_refused(ask(pc, text), "not for machines at 10.0.0.7");
  pc.address = "192.168.1.20";
  EXPECT_TRUE(ask(pc, text).has_granted());
}

TEST_F(AdmissionTest, NamesAreGivenOnce) {
  name_use_ = NameUse::kPresent;
  Admission::TokenWish wish;
  wish.uses = 9;
  expect_refused(ask(Machine{"pc"}, token(wish)), "there is a node 'pc'");
  name_use_ = NameUse::kGone;
  expect_refused(ask(Machine{"pc"}, token(wish)), "--replace");
  wish.replaces = true;
  EXPECT_TRUE(ask(Machine{"pc"}, token(wish)).has_granted());
  name_use_ = NameUse::kFree;
  wish.replaces = false;
  expect_refused(ask(Machine{"pc"}, token(wish)), "--replace");
}

TEST_F(AdmissionTest, MachinesFromBootMediaComeBackWithNewKeys) {
  Admission::TokenWish wish;
  wish.uses = 0;
  wish.media = true;
  const std::string text = token(wish);
  ASSERT_TRUE(ask(Machine{"ram1"}, text).has_granted());
  name_use_ = NameUse::kGone;
  EXPECT_TRUE(ask(Machine{"ram1"}, text).has_granted());
  // But they take no name that another kind of node has.
  expect_refused(ask(Machine{"server"}, text), "--replace");
}

TEST_F(AdmissionTest, BadRequestsAreRefused) {
  const std::string text = token();
  const Machine pc{"pc"};
  auto request = request_of(pc, text);
  request.set_format(2);
  expect_refused(ask(request, pc), "same Tessera");
  request = request_of(Machine{"../etc"}, text);
  expect_refused(ask(request, pc), "not a node name");
  request = request_of(pc, text);
  request.set_request("nonsense");
  expect_refused(ask(request, pc), "not a certificate request");
  request.set_request(std::string(5000, 'x'));
  expect_refused(ask(request, pc), "too long");
}

TEST_F(AdmissionTest, WithoutTheCaNobodyIsAdmitted) {
  const std::string text = token();
  std::filesystem::rename(dir_ + "/ca.key", dir_ + "/elsewhere");
  expect_refused(ask(Machine{"pc"}, text), "does not hold the cluster's CA");
  EXPECT_FALSE(admission_.make_token({}));
}

TEST_F(AdmissionTest, ADamagedBookIsSaid) {
  const std::string text = token();
  ASSERT_TRUE(sys::replace_file(dir_ + "/admission.json", "{\"tokens\": 3"));
  expect_refused(ask(Machine{"pc"}, text), "damaged");
}

class ByHand : public AdmissionTest {
 protected:
  wire::JoinRequest without_token(const Machine& machine) {
    wire::JoinRequest request;
    request.set_format(kJoinFormat);
    request.set_name(machine.name);
    request.set_request(*net::make_request(machine.key));
    return request;
  }
  void ask_later(const Machine& machine) {
    admission_.on_request(without_token(machine), {machine.session, machine.address, "10.0.0.1"},
                          [this](const wire::JoinAnswer& said) { answers_.push_back(said); });
  }
  std::vector<wire::JoinAnswer> answers_;
};

TEST_F(ByHand, WhoWaitsIsShownAndApproved) {
  const Machine pc{"pc"};
  ask_later(pc);
  ASSERT_EQ(answers_.size(), 1U);
  EXPECT_TRUE(answers_[0].has_pending());
  ASSERT_EQ(admission_.pending().size(), 1U);
  EXPECT_EQ(admission_.pending().front().name, "pc");
  EXPECT_FALSE(admission_.approve("somebody"));
  ASSERT_TRUE(admission_.approve("pc"));
  ASSERT_EQ(answers_.size(), 2U);
  EXPECT_TRUE(answers_[1].has_granted());
  // The answer was lost: the same key gets it again, at once.
  ask_later(pc);
  ASSERT_EQ(answers_.size(), 3U);
  EXPECT_TRUE(answers_[2].has_granted());
}

TEST_F(ByHand, TwoOfOneNameAreToldApartByTheirKeys) {
  const Machine pc{"pc"};
  const Machine thief{"pc"};
  ask_later(pc);
  ask_later(thief);
  EXPECT_FALSE(admission_.approve("pc"));
  const auto print = *net::request_fingerprint(*net::make_request(pc.key));
  ASSERT_TRUE(admission_.approve(print_text(print).substr(0, 12)));
  ASSERT_EQ(answers_.size(), 3U);
  ASSERT_TRUE(answers_[2].has_granted());
  EXPECT_EQ(*net::key_fingerprint(answers_[2].granted().certificate()), print);
}

TEST_F(ByHand, OneMayBeSentAwayAndTheNumberIsBounded) {
  ask_later(Machine{"pc"});
  ASSERT_TRUE(admission_.refuse("pc"));
  EXPECT_TRUE(answers_.back().has_refused());
  EXPECT_TRUE(admission_.pending().empty());
  for (size_t i = 0; i <= Admission::kMostPending; ++i) {
    ask_later(Machine{fmt::format("m{}", i)});
  }
  EXPECT_TRUE(answers_.back().has_refused());
  EXPECT_EQ(admission_.pending().size(), Admission::kMostPending);
  now_ += Admission::kPendingSeconds + 1;
  EXPECT_TRUE(admission_.pending().empty());
}

}  // namespace
}  // namespace tess::node
