#include "net/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include "net/openssl_error.h"

namespace tess::net {

std::string openssl_error() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (!text.empty()) {
      text += ", ";
    }
    text += reason != nullptr ? reason : fmt::format("error {:#x}", code);
  }
  return text.empty() ? "unknown error" : text;
}

std::string common_name(const X509* certificate) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) {
    return {};
  }
  const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  std::string name(reinterpret_cast<const char*>(ASN1_STRING_get0_data(value)),
                   static_cast<size_t>(ASN1_STRING_length(value)));
  return name.find('\0') == std::string::npos ? name : std::string();
}

Result<TlsContext> TlsContext::load(const std::string& state_dir) {
  ERR_clear_error();
  auto impl = std::make_shared<Impl>();
  impl->context.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* context = impl->context.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") != 1) {
    return fail(ErrorKind::kFailed, "set up TLS 1.3: {}", openssl_error());
  }
  const std::string ca = state_dir + "/ca.crt";
  const std::string certificate = state_dir + "/node.crt";
  const std::string key = state_dir + "/node.key";
  if (SSL_CTX_load_verify_file(context, ca.c_str()) != 1) {
    return fail(ErrorKind::kFailed, "load the cluster's CA from {}: {}; `tess init` makes it", ca,
                openssl_error());
  }
  if (SSL_CTX_use_certificate_file(context, certificate.c_str(), SSL_FILETYPE_PEM) != 1) {
    return fail(ErrorKind::kFailed,
                "load this node's certificate from {}: {}; `tess init` makes it", certificate,
                openssl_error());
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return fail(ErrorKind::kFailed, "load this node's key from {}: {}", key, openssl_error());
  }
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  // A vanished peer and a polite one are the same for framed protocols; the engine tells them apart
  // by message only.
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  impl->node_name = common_name(SSL_CTX_get0_certificate(context));
  return TlsContext(std::move(impl));
}

const std::string& TlsContext::node_name() const {
  return impl_->node_name;
}

}  // namespace tess::net
