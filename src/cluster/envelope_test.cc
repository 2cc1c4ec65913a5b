#include "cluster/envelope.h"

#include <gtest/gtest.h>

#include "cluster/packet.h"

namespace tess::cluster {
namespace {

CipherKey key_of(uint8_t n) {
  CipherKey key;
  key.fill(n);
  return key;
}

class EnvelopeTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cipher> cipher_ = make_openssl_cipher();
  Envelope a_{*cipher_, KeyRing(key_of(1)), 99, 0xa0a0};
  Envelope b_{*cipher_, KeyRing(key_of(1)), 99, 0xb0b0};

  static std::vector<uint8_t> seal(Envelope& from, uint64_t to, std::string text = "hello") {
    std::copy(text.begin(), text.end(), from.plaintext_room().begin());
    const Bytes out = from.seal(text.size(), to);
    return {out.begin(), out.end()};
  }
  static std::string text_of(const Envelope::Opened& opened) {
    return {opened.plaintext.begin(), opened.plaintext.end()};
  }
  static Drop refused(Envelope& by, const std::vector<uint8_t>& datagram) {
    const auto opened = by.open(datagram);
    EXPECT_FALSE(opened);
    return opened ? Drop::kCount : opened.error();
  }
};

TEST_F(EnvelopeTest, OpensWhatWasSealedForIt) {
  const auto datagram = seal(a_, 0xb0b0);
  const auto opened = b_.open(datagram);
  ASSERT_TRUE(opened);
  EXPECT_EQ(text_of(*opened), "hello");
  EXPECT_TRUE(opened->bound);
  EXPECT_EQ(opened->session, 0xa0a0u);
  EXPECT_EQ(std::search(datagram.begin(), datagram.end(), "hello", "hello" + 5), datagram.end());
  EXPECT_FALSE(b_.open(seal(a_, 0))->bound);
}

TEST_F(EnvelopeTest, EveryChangedBitIsNoticed) {
  const auto datagram = seal(a_, 0xb0b0);
  for (size_t bit = 0; bit < datagram.size() * 8; ++bit) {
    auto changed = datagram;
    changed[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    const auto opened = b_.open(changed);
    // The minor version is not checked by itself, but by the tag.
    EXPECT_FALSE(opened) << "bit " << bit;
  }
}

TEST_F(EnvelopeTest, EveryTruncationIsNoticed) {
  const auto datagram = seal(a_, 0xb0b0);
  for (size_t size = 0; size < datagram.size(); ++size) {
    EXPECT_FALSE(b_.open(Bytes(datagram).first(size))) << size;
  }
  EXPECT_EQ(refused(b_, {1, 2, 3}), Drop::kTruncated);
  EXPECT_EQ(refused(b_, std::vector<uint8_t>(1401)), Drop::kTooLong);
}

TEST_F(EnvelopeTest, TellsWhyItDoesNotOpen) {
  auto datagram = seal(a_, 0xb0b0);
  auto changed = datagram;
  changed[0] ^= 1;
  EXPECT_EQ(refused(b_, changed), Drop::kForeign);
  changed = datagram;
  changed[1] = 0x20;
  EXPECT_EQ(refused(b_, changed), Drop::kVersion);
  changed = datagram;
  changed.back() ^= 1;
  EXPECT_EQ(refused(b_, changed), Drop::kForged);
  Envelope other_cluster(*cipher_, KeyRing(key_of(1)), 98, 0xb0b0);
  EXPECT_EQ(refused(other_cluster, datagram), Drop::kOtherCluster);
  Envelope other_key(*cipher_, KeyRing(key_of(2)), 99, 0xb0b0);
  EXPECT_EQ(refused(other_key, datagram), Drop::kUnknownKey);
  Envelope restarted(*cipher_, KeyRing(key_of(1)), 99, 0xb1b1);
  EXPECT_EQ(refused(restarted, datagram), Drop::kOtherSession);
  // The same tag in clear, another session: only the seal tells.
  Envelope similar(*cipher_, KeyRing(key_of(1)), 99, 0x10000b0b0);
  EXPECT_EQ(refused(similar, datagram), Drop::kForged);
  EXPECT_EQ(refused(a_, seal(a_, 0xa0a0)), Drop::kOwn);
}

TEST_F(EnvelopeTest, KeysRotateWithoutAStop) {
  KeyRing ring(key_of(1));
  ASSERT_TRUE(ring.install(key_of(2)));
  b_.set_keys(ring);
  ASSERT_TRUE(b_.open(seal(a_, 0xb0b0)));  // a does not know the new key yet
  EXPECT_TRUE(a_.open(seal(b_, 0xa0a0)));
  a_.set_keys(ring);
  ASSERT_TRUE(ring.use(key_of(2)));
  a_.set_keys(ring);
  EXPECT_TRUE(b_.open(seal(a_, 0xb0b0)));
  b_.set_keys(ring);
  ASSERT_FALSE(ring.remove(key_of(2)));
  ASSERT_TRUE(ring.remove(key_of(1)));
  a_.set_keys(ring);
  b_.set_keys(ring);
  EXPECT_TRUE(b_.open(seal(a_, 0xb0b0)));
  Envelope old(*cipher_, KeyRing(key_of(1)), 99, 0xc0c0);
  EXPECT_EQ(refused(b_, seal(old, 0xb0b0)), Drop::kUnknownKey);
}

TEST(KeyRing, HoldsFewKeys) {
  KeyRing ring(key_of(1));
  for (uint8_t i = 2; i <= KeyRing::kMost; ++i) {
    EXPECT_TRUE(ring.install(key_of(i)));
  }
  EXPECT_FALSE(ring.install(key_of(9)));
  EXPECT_TRUE(ring.install(key_of(2)));  // is there
  EXPECT_FALSE(ring.use(key_of(9)));
  EXPECT_FALSE(ring.remove(key_of(9)));
}

TEST(ReplayWindow, EachCounterOnce) {
  ReplayWindow window;
  EXPECT_TRUE(window.admit(5));
  EXPECT_FALSE(window.admit(5));
  EXPECT_TRUE(window.admit(3));
  EXPECT_FALSE(window.admit(3));
  EXPECT_TRUE(window.admit(68));
  EXPECT_FALSE(window.admit(4));  // too old to tell
  EXPECT_FALSE(window.admit(5));
  EXPECT_TRUE(window.admit(6));
  EXPECT_TRUE(window.admit(1000000));
  EXPECT_FALSE(window.admit(68));
}

}  // namespace
}  // namespace tess::cluster
