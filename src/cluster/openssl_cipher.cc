// AES-256-GCM and HMAC-SHA256 from OpenSSL behind the Cipher interface. One thread.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstring>

#include "cluster/cipher.h"

namespace tess::cluster {
namespace {

constexpr char kLabel[] = "tessera datagram 1";

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

std::array<uint8_t, 12> nonce_of(uint64_t counter) {
  std::array<uint8_t, 12> nonce{};
  for (size_t i = 0; i < 8; ++i) {
    nonce[4 + i] = static_cast<uint8_t>(counter >> (56 - 8 * i));
  }
  return nonce;
}

class OpensslCipher final : public Cipher {
 public:
  OpensslCipher() : seal_(EVP_CIPHER_CTX_new()), open_(EVP_CIPHER_CTX_new()) {
    TESS_CHECK(seal_ && open_, "no memory for a cipher");
    TESS_CHECK(
        EVP_EncryptInit_ex(seal_.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1 &&
            EVP_DecryptInit_ex(open_.get(), EVP_aes_256_gcm(), nullptr, nullptr, nullptr) == 1,
        "OpenSSL has no AES-256-GCM");
  }

  CipherKey derive(const CipherKey& ring_key, uint64_t session) override {
    std::array<uint8_t, sizeof kLabel - 1 + 8> message{};
    std::memcpy(message.data(), kLabel, sizeof kLabel - 1);
    for (size_t i = 0; i < 8; ++i) {
      message[sizeof kLabel - 1 + i] = static_cast<uint8_t>(session >> (56 - 8 * i));
    }
    CipherKey out{};
    unsigned size = 0;
    const auto* done = HMAC(EVP_sha256(), ring_key.data(), static_cast<int>(ring_key.size()),
                            message.data(), message.size(), out.data(), &size);
    TESS_CHECK(done != nullptr && size == out.size(), "HMAC-SHA256 failed");
    return out;
  }

  void seal(const CipherKey& key, uint64_t counter, Bytes associated, std::span<uint8_t> text,
            std::span<uint8_t, kTagSize> tag) override {
    const auto nonce = nonce_of(counter);
    EVP_CIPHER_CTX* context = seal_.get();
    const bool same = sealing_ && seal_key_ == key;  // setting a key costs more than sealing
    int size = 0;
    const bool ok = EVP_EncryptInit_ex(context, nullptr, nullptr, same ? nullptr : key.data(),
                                       nonce.data()) == 1 &&
                    EVP_EncryptUpdate(context, nullptr, &size, associated.data(),
                                      static_cast<int>(associated.size())) == 1 &&
                    EVP_EncryptUpdate(context, text.data(), &size, text.data(),
                                      static_cast<int>(text.size())) == 1 &&
                    EVP_EncryptFinal_ex(context, text.data() + text.size(), &size) == 1 &&
                    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kTagSize, tag.data()) == 1;
    TESS_CHECK(ok, "sealing a datagram of {} bytes failed", text.size());
    seal_key_ = key;
    sealing_ = true;
  }

  bool open(const CipherKey& key, uint64_t counter, Bytes associated, std::span<uint8_t> text,
            std::span<const uint8_t, kTagSize> tag) override {
    const auto nonce = nonce_of(counter);
    EVP_CIPHER_CTX* context = open_.get();
    int size = 0;
    std::array<uint8_t, kTagSize> expected{};
    std::copy(tag.begin(), tag.end(), expected.begin());
    return EVP_DecryptInit_ex(context, nullptr, nullptr, key.data(), nonce.data()) == 1 &&
           EVP_DecryptUpdate(context, nullptr, &size, associated.data(),
                             static_cast<int>(associated.size())) == 1 &&
           EVP_DecryptUpdate(context, text.data(), &size, text.data(),
                             static_cast<int>(text.size())) == 1 &&
           EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, kTagSize, expected.data()) == 1 &&
           EVP_DecryptFinal_ex(context, text.data() + text.size(), &size) == 1;
  }

 private:
  Context seal_;
  Context open_;
  CipherKey seal_key_{};
  bool sealing_ = false;
};

}  // namespace

std::unique_ptr<Cipher> make_openssl_cipher() {
  return std::make_unique<OpensslCipher>();
}

}  // namespace tess::cluster
