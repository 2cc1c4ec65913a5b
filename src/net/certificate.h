// X.509 for a cluster, in memory (PEM): a certificate authority and the certificates it signs, EC
// P-256, valid for ten years. Files are the business of node/identity.h.
#pragma once

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

}  // namespace tess::net
