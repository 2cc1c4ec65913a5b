#include "node/join_token.h"

#include <gtest/gtest.h>

#include "node/ip_range.h"

namespace tess::node {
namespace {

JoinToken example() {
  JoinToken token;
  token.id = "12345678";
  token.secret.fill(7);
  token.ca.fill(9);
  token.addresses = {{"192.168.1.1", 7117}, {"fd00::1", 7117}, {"head.example.org", 80}};
  return token;
}

TEST(JoinToken, IsReadAsItWasWritten) {
  const JoinToken token = example();
  const auto read = JoinToken::parse(token.text());
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(*read, token);
}

// The format is what other versions read.
TEST(JoinToken, KeepsItsFormat) {
  EXPECT_EQ(example().text(),
            "tess1-"
            "MTIzNDU2NzgHBwcHBwcHBwcHBwcHBwcHCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkQMTkyLjE2"
            "OC4xLjE6NzExNw5bZmQwMDo6MV06NzExNxNoZWFkLmV4YW1wbGUub3JnOjgw" +
                example().text().substr(example().text().size() - 6));
}

TEST(JoinToken, ThatIsCutOffIsRefusedWhereverThatWas) {
  const std::string text = example().text();
  for (size_t size = 0; size < text.size(); ++size) {
    const auto read = JoinToken::parse(text.substr(0, size));
    ASSERT_FALSE(read) << size;
    EXPECT_EQ(read.error().kind(), ErrorKind::kBadInput);
    if (size > 6) {
      EXPECT_NE(read.error().message().find("cut off"), std::string::npos);
    }
  }
}

TEST(JoinToken, ThatIsMistypedIsRefused) {
  const std::string text = example().text();
  for (size_t at = 0; at < text.size(); ++at) {
    for (const char other : {'A', 'z', '*'}) {
      std::string changed = text;
      changed[at] = other;
      if (changed != text) {
        // The unused bits of the last character may differ: then it is the same token.
        const auto read = JoinToken::parse(changed);
        EXPECT_TRUE(!read || *read == example()) << changed;
      }
    }
  }
}

TEST(JoinToken, OfALaterVersionIsToldApart) {
  const auto read = JoinToken::parse("tess2-abcdef");
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().message().find("later version"), std::string::npos);
  EXPECT_NE(JoinToken::parse("hello").error().message().find("not a token"), std::string::npos);
}

TEST(JoinTranscript, DiffersInEveryPart) {
  const std::string one = join_transcript("session", "id", "request", "name");
  EXPECT_EQ(one, join_transcript("session", "id", "request", "name"));
  EXPECT_NE(one, join_transcript("sessioN", "id", "request", "name"));
  EXPECT_NE(one, join_transcript("session", "iD", "request", "name"));
  EXPECT_NE(one, join_transcript("session", "id", "requesT", "name"));
  EXPECT_NE(one, join_transcript("session", "id", "request", "namE"));
  EXPECT_NE(join_transcript("ab", "c", "r", "n"), join_transcript("a", "bc", "r", "n"));
}

TEST(Fingerprint, IsReadAsPeopleWriteIt) {
  net::KeyPrint print{0xab, 0xcd, 1};
  const std::string text = print_text(print);
  EXPECT_EQ(text.size(), 64U);
  EXPECT_EQ(*parse_print(text), print);
  EXPECT_EQ(*parse_print("AB:CD 01" + text.substr(6)), print);
  EXPECT_FALSE(parse_print(text.substr(2)));
  EXPECT_FALSE(parse_print("x" + text.substr(1)));
}

TEST(IpRange, ContainsWhatItShould) {
  const auto room = IpRange::parse("192.168.1.77/24");
  ASSERT_TRUE(room);
  EXPECT_EQ(room->text(), "192.168.1.0/24");
  EXPECT_TRUE(room->contains("192.168.1.200"));
  EXPECT_TRUE(room->contains("::ffff:192.168.1.200"));
  EXPECT_FALSE(room->contains("192.168.2.1"));
  EXPECT_FALSE(room->contains("fd00::1"));
  EXPECT_FALSE(room->contains("nonsense"));
  EXPECT_TRUE(IpRange::parse("fd00::/8")->contains("fd12::1"));
  EXPECT_TRUE(IpRange::parse("10.0.0.1")->contains("10.0.0.1"));
  EXPECT_FALSE(IpRange::parse("10.0.0.1")->contains("10.0.0.2"));
  for (const char* bad : {"", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "fd00::/129"}) {
    EXPECT_FALSE(IpRange::parse(bad)) << bad;
  }
}

}  // namespace
}  // namespace tess::node
