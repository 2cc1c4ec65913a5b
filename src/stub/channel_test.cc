// The channel's sealing must be AES-128-GCM exactly: checked against OpenSSL, both ways.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <random>
#include <vector>

#include "stub/abi.h"
#include "stub/session.h"

namespace tess::stub {

// The blob's own functions, compiled here for the host.
bool seal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4], uint8_t tag[16]);
bool unseal(ChannelKeys& keys, uint8_t* data, size_t n, const uint8_t aad[4], const uint8_t tag[16]);

namespace {

std::vector<uint8_t> openssl_seal(std::span<const uint8_t> key, uint64_t counter, std::span<const uint8_t> aad,
                                  std::span<const uint8_t> plain, std::array<uint8_t, 16>& tag) {
  std::array<uint8_t, 12> nonce{};
  std::memcpy(nonce.data() + 4, &counter, 8);
  EVP_CIPHER_CTX* ctx = EVP_CIPHER_CTX_new();
  EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), nullptr, key.data(), nonce.data());
  int n = 0;
  EVP_EncryptUpdate(ctx, nullptr, &n, aad.data(), static_cast<int>(aad.size()));
  std::vector<uint8_t> sealed(plain.size());
  EVP_EncryptUpdate(ctx, sealed.data(), &n, plain.data(), static_cast<int>(plain.size()));
  EVP_EncryptFinal_ex(ctx, sealed.data() + n, &n);
  EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, 16, tag.data());
  EVP_CIPHER_CTX_free(ctx);
  return sealed;
}

class ChannelSealing : public testing::TestWithParam<size_t> {};

TEST_P(ChannelSealing, IsAesGcm) {
  std::mt19937 random(static_cast<unsigned>(GetParam()) + 1);
  std::array<uint8_t, 16> to_host{};
  std::array<uint8_t, 16> to_home{};
  for (auto* key : {&to_host, &to_home}) {
    for (uint8_t& byte : *key) {
      byte = static_cast<uint8_t>(random());
    }
  }
  ChannelKeys home{};
  ChannelKeys host{};
  make_channel_keys(to_host, to_home, true, home, host);
  for (uint64_t counter = 0; counter < 3; ++counter) {
    std::vector<uint8_t> plain(GetParam());
    for (uint8_t& byte : plain) {
      byte = static_cast<uint8_t>(random());
    }
    const uint32_t length = static_cast<uint32_t>(plain.size()) + 16;
    std::array<uint8_t, 4> aad{};
    std::memcpy(aad.data(), &length, 4);
    std::array<uint8_t, 16> wanted_tag{};
    const auto wanted = openssl_seal(to_host, counter, aad, plain, wanted_tag);
    std::vector<uint8_t> sealed = plain;
    std::array<uint8_t, 16> tag{};
    seal(home, sealed.data(), sealed.size(), aad.data(), tag.data());
    EXPECT_EQ(sealed, wanted);
    EXPECT_EQ(tag, wanted_tag);
    std::vector<uint8_t> opened = sealed;
    EXPECT_TRUE(unseal(host, opened.data(), opened.size(), aad.data(), tag.data()));
    EXPECT_EQ(opened, plain);
  }
  // A changed byte, tag or length is refused.
  std::vector<uint8_t> sealed(GetParam());
  std::array<uint8_t, 4> aad{};
  std::array<uint8_t, 16> tag{};
  seal(home, sealed.data(), sealed.size(), aad.data(), tag.data());
  tag[15] ^= 1;
  EXPECT_FALSE(unseal(host, sealed.data(), sealed.size(), aad.data(), tag.data()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, ChannelSealing, testing::Values(0, 1, 15, 16, 17, 64, 1000, 65536));

TEST(Blob, HasAHeaderOfThisBuild) {
  const BlobHeader& header = blob_header();
  EXPECT_EQ(header.abi_version, kAbiVersion);
  EXPECT_GT(header.blob_size, header.restorer);
  EXPECT_LE(blob().size(), kCodeMax);
  EXPECT_LT(header.cp_begin, header.cp_end);
  EXPECT_LT(header.cp_end, header.cp_site);
}

}  // namespace
}  // namespace tess::stub
