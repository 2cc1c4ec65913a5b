#include "net/certificate.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "net/openssl_error.h"
#include "net/openssl_ptr.h"
#include "net/tls_context.h"

namespace tess::net {
namespace {

constexpr long kClockSkew =
    24L * 3600;  // a node whose clock is behind still accepts a new certificate

std::string contents(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<std::string> key_to_pem(EVP_PKEY* key) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1) {
    return fail(ErrorKind::kFailed, "write a key as PEM: {}", openssl_error());
  }
  return contents(bio.get());
}

Result<std::string> certificate_to_pem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return fail(ErrorKind::kFailed, "write a certificate as PEM: {}", openssl_error());
  }
  return contents(bio.get());
}

Result<X509Ptr> certificate_from_pem(const std::string& pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  X509Ptr certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  if (certificate == nullptr) {
    return fail(ErrorKind::kBadInput, "read a certificate: {}", openssl_error());
  }
  return certificate;
}

Result<KeyPtr> key_from_pem(const std::string& pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
  if (key == nullptr) {
    return fail(ErrorKind::kBadInput, "read a key: {}", openssl_error());
  }
  return key;
}

Result<KeyPtr> new_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (key == nullptr) {
    return fail(ErrorKind::kFailed, "make a key: {}", openssl_error());
  }
  return key;
}

Result<> add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, FreeOpenssl> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  if (extension == nullptr || X509_add_ext(certificate, extension.get(), -1) != 1) {
    return fail(ErrorKind::kFailed, "certificate extension '{}': {}", value, openssl_error());
  }
  return {};
}

// Everything but issuer, extensions and signature.
Result<X509Ptr> blank(const std::string& name, EVP_PKEY* key, std::chrono::seconds lifetime) {
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
      X509_gmtime_adj(X509_getm_notAfter(certificate.get()), static_cast<long>(lifetime.count())) ==
          nullptr ||
      X509_set_pubkey(certificate.get(), key) != 1 ||
      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                 0) != 1) {
    return fail(ErrorKind::kFailed, "certificate for '{}': {}", name, openssl_error());
  }
  return certificate;
}

// A certificate for `key`, good for both ends of a connection.
Result<std::string> sign_for(const Certificate& ca, EVP_PKEY* key, const std::string& name,
                             std::chrono::seconds lifetime) {
  auto issuer = certificate_from_pem(ca.certificate_pem);
  auto issuer_key = key_from_pem(ca.key_pem);
  if (!issuer || !issuer_key) {
    return fail(ErrorKind::kBadInput, "read the CA: {}",
                !issuer ? issuer.error().message() : issuer_key.error().message());
  }
  if (X509_check_private_key(issuer->get(), issuer_key->get()) != 1) {
    return fail(ErrorKind::kBadInput, "the CA's key does not belong to its certificate");
  }
  TESS_TRY_ASSIGN(const X509Ptr certificate, blank(name, key, lifetime));
  X509* raw = certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(issuer->get()));
  TESS_TRY(add_extension(raw, issuer->get(), NID_basic_constraints, "critical,CA:FALSE"));
  TESS_TRY(add_extension(raw, issuer->get(), NID_key_usage, "critical,digitalSignature"));
  TESS_TRY(add_extension(raw, issuer->get(), NID_ext_key_usage, "serverAuth,clientAuth"));
  TESS_TRY(add_extension(raw, issuer->get(), NID_subject_alt_name, "DNS:" + name));
  TESS_TRY(add_extension(raw, issuer->get(), NID_authority_key_identifier, "keyid"));
  if (X509_sign(raw, issuer_key->get(), EVP_sha256()) == 0) {
    return fail(ErrorKind::kFailed, "sign the certificate for '{}': {}", name, openssl_error());
  }
  return certificate_to_pem(raw);
}

// Signed by its own key.
Result<std::string> ca_for(EVP_PKEY* key, const std::string& name, std::chrono::seconds lifetime) {
  TESS_TRY_ASSIGN(const X509Ptr certificate, blank(name, key, lifetime));
  X509* raw = certificate.get();
  X509_set_issuer_name(raw, X509_get_subject_name(raw));
  TESS_TRY(add_extension(raw, raw, NID_basic_constraints, "critical,CA:TRUE,pathlen:0"));
  TESS_TRY(add_extension(raw, raw, NID_key_usage, "critical,keyCertSign,cRLSign"));
  TESS_TRY(add_extension(raw, raw, NID_subject_key_identifier, "hash"));
  if (X509_sign(raw, key, EVP_sha256()) == 0) {
    return fail(ErrorKind::kFailed, "sign the CA certificate: {}", openssl_error());
  }
  return certificate_to_pem(raw);
}

Result<KeyPrint> print_of(const unsigned char* der, int size) {
  KeyPrint digest{};
  unsigned length = 0;
  if (EVP_Digest(der, static_cast<size_t>(size), digest.data(), &length, EVP_sha256(), nullptr) !=
          1 ||
      length != digest.size()) {
    return fail(ErrorKind::kFailed, "SHA-256: {}", openssl_error());
  }
  return digest;
}

// The request, after its signature and the kind of its key were checked.
Result<RequestPtr> checked_request(const std::string& request) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(request.data());
  RequestPtr parsed(d2i_X509_REQ(nullptr, &bytes, static_cast<long>(request.size())));
  if (parsed == nullptr) {
    return fail(ErrorKind::kBadInput, "not a certificate request: {}", openssl_error());
  }
  EVP_PKEY* key = X509_REQ_get0_pubkey(parsed.get());
  char group[32] = "";
  if (key == nullptr || EVP_PKEY_is_a(key, "EC") != 1 ||
      EVP_PKEY_get_group_name(key, group, sizeof(group), nullptr) != 1 ||
      std::string(group) != SN_X9_62_prime256v1) {
    return fail(ErrorKind::kBadInput, "the certificate request is not for a P-256 key");
  }
  if (X509_REQ_verify(parsed.get(), key) != 1) {
    return fail(ErrorKind::kBadInput, "the certificate request is not signed by its own key: {}",
                openssl_error());
  }
  return parsed;
}

}  // namespace

Result<KeyPrint> fingerprint_of(const X509_PUBKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(key, &der);
  if (size <= 0) {
    return fail(ErrorKind::kFailed, "take a public key: {}", openssl_error());
  }
  auto print = print_of(der, size);
  OPENSSL_free(der);
  return print;
}

Result<Certificate> make_ca(const std::string& common_name, std::chrono::seconds lifetime) {
  TESS_TRY_ASSIGN(const KeyPtr key, new_key());
  Certificate made;
  TESS_TRY_ASSIGN(made.certificate_pem, ca_for(key.get(), common_name, lifetime));
  TESS_TRY_ASSIGN(made.key_pem, key_to_pem(key.get()));
  return made;
}

Result<std::string> renew_ca(const Certificate& ca, std::chrono::seconds lifetime) {
  TESS_TRY_ASSIGN(const X509Ptr old, certificate_from_pem(ca.certificate_pem));
  TESS_TRY_ASSIGN(const KeyPtr key, key_from_pem(ca.key_pem));
  if (X509_check_private_key(old.get(), key.get()) != 1) {
    return fail(ErrorKind::kBadInput, "the CA's key does not belong to its certificate");
  }
  return ca_for(key.get(), common_name(old.get()), lifetime);
}

Result<> check_renewed_ca(const std::string& old_pem, const std::string& new_pem) {
  TESS_TRY_ASSIGN(const X509Ptr old, certificate_from_pem(old_pem));
  TESS_TRY_ASSIGN(const X509Ptr renewed, certificate_from_pem(new_pem));
  TESS_TRY_ASSIGN(const KeyPrint old_key, fingerprint_of(X509_get_X509_PUBKEY(old.get())));
  TESS_TRY_ASSIGN(const KeyPrint new_key, fingerprint_of(X509_get_X509_PUBKEY(renewed.get())));
  if (old_key != new_key ||
      X509_NAME_cmp(X509_get_subject_name(old.get()), X509_get_subject_name(renewed.get())) != 0 ||
      X509_verify(renewed.get(), X509_get0_pubkey(old.get())) != 1 ||
      X509_check_ca(renewed.get()) != 1) {
    ERR_clear_error();
    return fail(ErrorKind::kBadInput, "it is not a certificate of this cluster's CA");
  }
  if (X509_cmp_current_time(X509_get0_notBefore(renewed.get())) >= 0) {
    return fail(ErrorKind::kBadInput, "by this machine's clock it is not valid yet");
  }
  if (ASN1_TIME_compare(X509_get0_notAfter(renewed.get()), X509_get0_notAfter(old.get())) <= 0) {
    return fail(ErrorKind::kBadInput, "it ends no later than the one that is here");
  }
  return {};
}

Result<Certificate> issue_certificate(const Certificate& ca, const std::string& name) {
  TESS_TRY_ASSIGN(const KeyPtr key, new_key());
  Certificate made;
  TESS_TRY_ASSIGN(made.certificate_pem, sign_for(ca, key.get(), name, kLongLived));
  TESS_TRY_ASSIGN(made.key_pem, key_to_pem(key.get()));
  return made;
}

Result<std::string> make_key() {
  TESS_TRY_ASSIGN(const KeyPtr key, new_key());
  return key_to_pem(key.get());
}

Result<std::string> make_request(const std::string& key_pem) {
  TESS_TRY_ASSIGN(const KeyPtr key, key_from_pem(key_pem));
  const RequestPtr request(X509_REQ_new());
  unsigned char* der = nullptr;
  int size = -1;
  if (request != nullptr && X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
      X509_REQ_set_pubkey(request.get(), key.get()) == 1 &&
      X509_REQ_sign(request.get(), key.get(), EVP_sha256()) > 0) {
    size = i2d_X509_REQ(request.get(), &der);
  }
  if (size <= 0) {
    return fail(ErrorKind::kFailed, "make a certificate request: {}", openssl_error());
  }
  std::string made(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return made;
}

Result<KeyPrint> request_fingerprint(const std::string& request) {
  TESS_TRY_ASSIGN(const RequestPtr parsed, checked_request(request));
  return fingerprint_of(X509_REQ_get_X509_PUBKEY(parsed.get()));
}

Result<std::string> sign_request(const Certificate& ca, const std::string& request,
                                 const std::string& name, std::chrono::seconds lifetime) {
  TESS_TRY_ASSIGN(const RequestPtr parsed, checked_request(request));
  return sign_for(ca, X509_REQ_get0_pubkey(parsed.get()), name, lifetime);
}

Result<std::string> reissue_certificate(const Certificate& ca, const std::string& certificate_pem,
                                        const std::string& name, std::chrono::seconds lifetime) {
  TESS_TRY_ASSIGN(const X509Ptr certificate, certificate_from_pem(certificate_pem));
  return sign_for(ca, X509_get0_pubkey(certificate.get()), name, lifetime);
}

Result<Validity> validity_of(const std::string& certificate_pem) {
  TESS_TRY_ASSIGN(const X509Ptr certificate, certificate_from_pem(certificate_pem));
  constexpr int64_t kDay = 24 * 3600;
  int days = 0;
  int seconds = 0;
  Validity validity{};
  if (ASN1_TIME_diff(&days, &seconds, X509_get0_notBefore(certificate.get()), nullptr) != 1) {
    return fail(ErrorKind::kBadInput, "a certificate without a time: {}", openssl_error());
  }
  validity.since = std::chrono::seconds(days * kDay + seconds);
  if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate.get())) != 1) {
    return fail(ErrorKind::kBadInput, "a certificate without an end: {}", openssl_error());
  }
  validity.left = std::chrono::seconds(days * kDay + seconds);
  return validity;
}

Result<int64_t> valid_until(const std::string& certificate_pem) {
  TESS_TRY_ASSIGN(const X509Ptr certificate, certificate_from_pem(certificate_pem));
  tm end{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate.get()), &end) != 1) {
    return fail(ErrorKind::kBadInput, "a certificate without an end: {}", openssl_error());
  }
  return timegm(&end);
}

Result<KeyPrint> key_fingerprint(const std::string& certificate_pem) {
  TESS_TRY_ASSIGN(const X509Ptr certificate, certificate_from_pem(certificate_pem));
  return fingerprint_of(X509_get_X509_PUBKEY(certificate.get()));
}

}  // namespace tess::net
