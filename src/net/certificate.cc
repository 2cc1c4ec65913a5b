#include "net/certificate.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <memory>

#include "net/openssl_error.h"

namespace tess::net {
namespace {

struct Free {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
using X509Ptr = std::unique_ptr<X509, Free>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free>;
using BioPtr = std::unique_ptr<BIO, Free>;

constexpr long kTenYears = 10L * 366 * 24 * 3600;
constexpr long kClockSkew =
    24L * 3600;  // a node whose clock is behind still accepts a new certificate

std::string contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<Certificate> to_pem(X509* certificate, EVP_PKEY* key) {
  const BioPtr cert_bio(BIO_new(BIO_s_mem()));
  const BioPtr key_bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(cert_bio.get(), certificate) != 1 ||
      PEM_write_bio_PrivateKey(key_bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail(ErrorKind::kFailed, "write PEM: {}", openssl_error());
  }
  return Certificate{contents(cert_bio.get()), contents(key_bio.get())};
}

Result<> add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return fail(ErrorKind::kFailed, "certificate extension '{}': {}", value, openssl_error());
  }
  return {};
}

// Everything but issuer, extensions and signature.
Result<X509Ptr> blank(const std::string& name, EVP_PKEY* key) {
  X509Ptr certificate(X509_new());
  unsigned char serial[16];
  if (certificate == nullptr || RAND_bytes(serial, sizeof(serial)) != 1) {
    return fail(ErrorKind::kFailed, "new certificate: {}", openssl_error());
  }
  serial[0] &= 0x7f;  // positive
  const std::unique_ptr<BIGNUM, decltype(&BN_free)> number(
      BN_bin2bn(serial, sizeof(serial), nullptr), &BN_free);
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  if (X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate.get())) == nullptr ||
      X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kClockSkew) == nullptr ||
      X509_gmtime_adj(X509_getm_notAfter(certificate.get()), kTenYears) == nullptr ||
      X509_set_pubkey(certificate.get(), key) != 1 ||
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                 0) != 1) {
    return fail(ErrorKind::kFailed, "certificate for '{}': {}", name, openssl_error());
  }
  return certificate;
}

}  // namespace

Result<Certificate> make_ca(const std::string& common_name) {
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) {
    return fail(ErrorKind::kFailed, "make a key: {}", openssl_error());
  }
  TESS_TRY_ASSIGN(const X509Ptr certificate, blank(common_name, key.get()));
  X509* raw = certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(raw));
  TESS_TRY(add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  TESS_TRY(add_extension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign"));
  TESS_TRY(add_extension(raw, raw, NID_subject_key_identifier, "hash"));
  if (X509_sign(raw, key.get(), EVP_sha256()) == 0) {
    return fail(ErrorKind::kFailed, "sign the CA certificate: {}", openssl_error());
  }
  return to_pem(raw, key.get());
}

Result<Certificate> issue_certificate(const Certificate& ca, const std::string& name) {
  const BioPtr cert_bio(
      BIO_new_mem_buf(ca.certificate_pem.data(), static_cast<int>(ca.certificate_pem.size())));
  const BioPtr key_bio(BIO_new_mem_buf(ca.key_pem.data(), static_cast<int>(ca.key_pem.size())));
  const X509Ptr issuer(PEM_read_bio_X509(cert_bio.get(), nullptr, nullptr, nullptr));
  const KeyPtr issuer_key(PEM_read_bio_PrivateKey(key_bio.get(), nullptr, nullptr, nullptr));
  if (issuer == nullptr || issuer_key == nullptr) {
    return fail(ErrorKind::kBadInput, "read the CA: {}", openssl_error());
  }
  if (X509_check_private_key(issuer.get(), issuer_key.get()) != 1) {
    return fail(ErrorKind::kBadInput, "the CA's key does not belong to its certificate");
  }
  const KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) {
    return fail(ErrorKind::kFailed, "make a key: {}", openssl_error());
  }
  TESS_TRY_ASSIGN(const X509Ptr certificate, blank(name, key.get()));
  X509* raw = certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(issuer.get()));
  TESS_TRY(add_extension(raw, issuer.get(), NID_basic_constraints, "critical,CA:FALSE"));
  TESS_TRY(add_extension(raw, issuer.get(), NID_key_usage, "critical,digitalSignature"));
  TESS_TRY(add_extension(raw, issuer.get(), NID_ext_key_usage, "serverAuth,clientAuth"));
  TESS_TRY(add_extension(raw, issuer.get(), NID_subject_alt_name, "DNS:" + name));
  TESS_TRY(add_extension(raw, issuer.get(), NID_authority_key_identifier, "keyid"));
  if (X509_sign(raw, issuer_key.get(), EVP_sha256()) == 0) {
    return fail(ErrorKind::kFailed, "sign the certificate for '{}': {}", name, openssl_error());
  }
  return to_pem(raw, key.get());
}

Result<std::array<uint8_t, 32>> key_fingerprint(const std::string& certificate_pem) {
  const BioPtr bio(
      BIO_new_mem_buf(certificate_pem.data(), static_cast<int>(certificate_pem.size())));
  const X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return fail(ErrorKind::kBadInput, "read a certificate: {}", openssl_error());
  }
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate.get()), &der);
  if (size <= 0) {
    return fail(ErrorKind::kFailed, "take the key of a certificate: {}", openssl_error());
  }
  std::array<uint8_t, 32> digest{};
  unsigned length = 0;
  const int done =
      EVP_Digest(der, static_cast<size_t>(size), digest.data(), &length, EVP_sha256(), nullptr);
  OPENSSL_free(der);
  if (done != 1 || length != digest.size()) {
    return fail(ErrorKind::kFailed, "SHA-256: {}", openssl_error());
  }
  return digest;
}

}  // namespace tess::net
