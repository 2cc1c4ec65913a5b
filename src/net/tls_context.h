// Inside of TlsContext, for tls_engine.cc and tls_context.cc only.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "net/tls_stream.h"

namespace tess::net {

struct FreeSslContext {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};

struct TlsContext::Impl {
  std::unique_ptr<SSL_CTX, FreeSslContext> context;
  std::string node_name;
};

// CN of a certificate's subject; empty if it has none or if it holds a zero byte.
std::string common_name(const X509* certificate);

}  // namespace tess::net
