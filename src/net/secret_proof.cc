#include "net/secret_proof.h"

#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>

#include "base/check.h"
#include "net/openssl_error.h"
#include "net/openssl_ptr.h"

namespace tess::net {
namespace {

using DigestPtr = std::unique_ptr<EVP_MD_CTX, FreeOpenssl>;

const unsigned char* raw(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// HKDF-SHA256 of the secret is the seed.
Result<KeyPtr> key_of(const Secret& secret, std::string_view context) {
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> kdf(
      EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, nullptr), &EVP_PKEY_CTX_free);
  std::array<uint8_t, 32> seed{};
  size_t size = seed.size();
  if (kdf == nullptr || EVP_PKEY_derive_init(kdf.get()) != 1 ||
      EVP_PKEY_CTX_set_hkdf_md(kdf.get(), EVP_sha256()) != 1 ||
      EVP_PKEY_CTX_set1_hkdf_key(kdf.get(), secret.data(), static_cast<int>(secret.size())) != 1 ||
      EVP_PKEY_CTX_add1_hkdf_info(kdf.get(), raw(context), static_cast<int>(context.size())) != 1 ||
      EVP_PKEY_derive(kdf.get(), seed.data(), &size) != 1) {
    return fail(ErrorKind::kFailed, "derive a key: {}", openssl_error());
  }
  KeyPtr key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size()));
  OPENSSL_cleanse(seed.data(), seed.size());
  if (key == nullptr) {
    return fail(ErrorKind::kFailed, "make a key: {}", openssl_error());
  }
  return key;
}

Result<std::string> sign(EVP_PKEY* key, const EVP_MD* digest, std::string_view message) {
  const DigestPtr context(EVP_MD_CTX_new());
  std::string signature(256, '\0');
  size_t size = signature.size();
  if (context == nullptr || EVP_DigestSignInit(context.get(), nullptr, digest, nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                     raw(message), message.size()) != 1) {
    return fail(ErrorKind::kFailed, "sign: {}", openssl_error());
  }
  signature.resize(size);
  return signature;
}

bool verify(EVP_PKEY* key, const EVP_MD* digest, std::string_view message,
            std::string_view signature) {
  const DigestPtr context(EVP_MD_CTX_new());
  const bool good = context != nullptr &&
                    EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), raw(signature), signature.size(), raw(message),
                                     message.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace

Result<Verifier> verifier_of(const Secret& secret, std::string_view context) {
  TESS_TRY_ASSIGN(const KeyPtr key, key_of(secret, context));
  Verifier verifier{};
  size_t size = verifier.size();
  if (EVP_PKEY_get_raw_public_key(key.get(), verifier.data(), &size) != 1 ||
      size != verifier.size()) {
    return fail(ErrorKind::kFailed, "take a public key: {}", openssl_error());
  }
  return verifier;
}

Result<std::string> prove(const Secret& secret, std::string_view context,
                          std::string_view message) {
  TESS_TRY_ASSIGN(const KeyPtr key, key_of(secret, context));
  return sign(key.get(), nullptr, message);
}

bool check_proof(const Verifier& verifier, std::string_view message, std::string_view proof) {
  const KeyPtr key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, verifier.data(), verifier.size()));
  return key != nullptr && verify(key.get(), nullptr, message, proof);
}

std::array<uint8_t, 32> sha256(std::string_view bytes) {
  std::array<uint8_t, 32> digest{};
  unsigned size = 0;
  const int done =
      EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr);
  TESS_CHECK(done == 1 && size == digest.size(), "no SHA-256");
  return digest;
}

void fill_random(void* into, size_t size) {
  const int done = RAND_bytes(static_cast<unsigned char*>(into), static_cast<int>(size));
  TESS_CHECK(done == 1, "no random bytes");
}

Result<std::string> sign_with_key(const std::string& key_pem, std::string_view message) {
  const BioPtr bio(BIO_new_mem_buf(key_pem.data(), static_cast<int>(key_pem.size())));
  const KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (key == nullptr) {
    return fail(ErrorKind::kBadInput, "read a key: {}", openssl_error());
  }
  return sign(key.get(), EVP_sha256(), message);
}

bool check_signature(const std::string& certificate_pem, std::string_view message,
                     std::string_view signature) {
  const BioPtr bio(
      BIO_new_mem_buf(certificate_pem.data(), static_cast<int>(certificate_pem.size())));
  const X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    ERR_clear_error();
    return false;
  }
  return verify(X509_get0_pubkey(certificate.get()), EVP_sha256(), message, signature);
}

}  // namespace tess::net
