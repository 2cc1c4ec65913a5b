// Inside of TlsContext, for tls_engine.cc and tls_context.cc only.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/certificate.h"
#include "net/charter.h"
#include "net/tls_stream.h"

namespace tess::net {

struct FreeSslContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct TlsContext::Impl {
  std::unique_ptr<SSL_CTX, FreeSslContext> context;
  std::string node_name;
  std::vector<Charter::Expelled> expelled;
  bool joins = false;                   // a context of TlsContext::for_joining
  std::optional<KeyPrint> expected_ca;  // and the only CA that it believes, if that is known
};

// CN of a certificate's subject; empty if it has none or if it holds a zero byte.
std::string common_name(const X509* certificate);

// Has this connection agreed on the protocol of joining (by ALPN)?
bool wants_to_join(const SSL* ssl);

}  // namespace tess::net
