// X.509 for a cluster, in memory (PEM): a certificate authority and the certificates it signs, EC
// P-256, valid for ten years. Files are the business of node/identity.h.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace tess::net {

struct Certificate {
  std::string certificate_pem;
  std::string key_pem;
};

Result<Certificate> make_ca(const std::string& common_name);

// A certificate for a node, good for both ends of a connection: CN and DNS subject alternative name
// are `name`.
Result<Certificate> issue_certificate(const Certificate& ca, const std::string& name);

// SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER): stays the same when the
// certificate is renewed for the same key.
Result<std::array<uint8_t, 32>> key_fingerprint(const std::string& certificate_pem);

}  // namespace tess::net
