// Owners of OpenSSL's objects, and what a public key is known by; for .cc files of this folder
// only.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "net/certificate.h"

namespace tess::net {

struct FreeOpenssl {
  void operator()(X509* p) const { X509_free(p); }
  void operator()(X509_REQ* p) const { X509_REQ_free(p); }
  void operator()(X509_STORE* p) const { X509_STORE_free(p); }
  void operator()(X509_STORE_CTX* p) const { X509_STORE_CTX_free(p); }
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
using X509Ptr = std::unique_ptr<X509, FreeOpenssl>;
using RequestPtr = std::unique_ptr<X509_REQ, FreeOpenssl>;
using KeyPtr = std::unique_ptr<EVP_PKEY, FreeOpenssl>;
using BioPtr = std::unique_ptr<BIO, FreeOpenssl>;

Result<KeyPrint> fingerprint_of(const X509_PUBKEY* key);

}  // namespace tess::net
