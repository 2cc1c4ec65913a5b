// X.509 for a cluster, in memory (PEM): a certificate authority and the certificates it signs, EC
// P-256. All are valid from a day before they were made, so that clocks need not agree. Files are
// the business of node/identity.h.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace tess::net {

using KeyPrint = std::array<uint8_t, 32>;  // SHA-256 of a public key
inline constexpr std::chrono::hours kLongLived{10 * 366 * 24};

struct Certificate {
  std::string certificate_pem;
  std::string key_pem;
};

Result<Certificate> make_ca(const std::string& common_name,
                            std::chrono::seconds lifetime = kLongLived);

// A new certificate of the CA for the same key and by the same name: what the CA has signed stays
// good.
Result<std::string> renew_ca(const Certificate& ca, std::chrono::seconds lifetime = kLongLived);
// kBadInput: not a certificate of the same CA, made by whoever has its key, that is valid now and
// for longer than the old one.
Result<> check_renewed_ca(const std::string& old_pem, const std::string& new_pem);

// A certificate for a node, good for both ends of a connection: CN and DNS subject alternative name
// are `name`.
Result<Certificate> issue_certificate(const Certificate& ca, const std::string& name);

// A key that never has to leave its machine, a request that shows its public half and proves that
// the private one is held (PKCS#10, DER), and what the CA makes of that: a certificate for `name`,
// whatever name the request has in it.
Result<std::string> make_key();  // PEM
Result<std::string> make_request(const std::string& key_pem);
// kBadInput: not a request, not signed by its own key, or not for a P-256 key.
Result<KeyPrint> request_fingerprint(const std::string& request);
Result<std::string> sign_request(const Certificate& ca, const std::string& request,
                                 const std::string& name, std::chrono::seconds lifetime);
// A certificate for the key of `certificate_pem`, which this CA signed before.
Result<std::string> reissue_certificate(const Certificate& ca, const std::string& certificate_pem,
                                        const std::string& name, std::chrono::seconds lifetime);

// From notBefore to now, and from now to notAfter; negative when it is over.
struct Validity {
  std::chrono::seconds since;
  std::chrono::seconds left;
};
Result<Validity> validity_of(const std::string& certificate_pem);
// notAfter, in seconds since 1970.
Result<int64_t> valid_until(const std::string& certificate_pem);

// SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER): stays the same when the
// certificate is renewed for the same key.
Result<KeyPrint> key_fingerprint(const std::string& certificate_pem);

}  // namespace tess::net
