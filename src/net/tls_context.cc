#include "net/tls_context.h"

#include <openssl/err.h>
#include <openssl/x509.h>

#include <algorithm>
#include <filesystem>

#include "net/openssl_error.h"
#include "net/openssl_ptr.h"
#include "sys/files.h"

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

namespace {

constexpr unsigned char kJoinProtocol[] = "\x0etessera-join/1";
constexpr unsigned kJoinProtocolSize = sizeof(kJoinProtocol) - 1;

// Who wants to join has no certificate and is asked for none. Everybody else says no protocol at
// all.
int select_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                    const unsigned char* in, unsigned in_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kJoinProtocol, kJoinProtocolSize, in, in_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  SSL_set_verify(ssl, SSL_VERIFY_NONE, nullptr);
  return SSL_TLSEXT_ERR_OK;
}

// The CA among the certificates that the server shows: the one with the expected key, or whichever
// stands last. Null: it is not there.
X509* find_ca(STACK_OF(X509) * shown, const std::optional<KeyPrint>& expected) {
  const int count = shown != nullptr ? sk_X509_num(shown) : 0;
  for (int i = count - 1; i >= 0; --i) {
    X509* certificate = sk_X509_value(shown, i);
    const auto print = fingerprint_of(X509_get_X509_PUBKEY(certificate));
    if (!expected || (print && *print == *expected)) {
      return certificate;
    }
  }
  return nullptr;
}

// Verifies the server with that CA as the only one in the world.
int verify_by_fingerprint(X509_STORE_CTX* context, void* argument) {
  const auto& impl = *static_cast<const TlsContext::Impl*>(argument);
  X509* ca = find_ca(X509_STORE_CTX_get0_untrusted(context), impl.expected_ca);
  const std::unique_ptr<X509_STORE, FreeOpenssl> store(X509_STORE_new());
  const std::unique_ptr<X509_STORE_CTX, FreeOpenssl> inner(X509_STORE_CTX_new());
  if (ca == nullptr || store == nullptr || inner == nullptr ||
      X509_STORE_add_cert(store.get(), ca) != 1 ||
      X509_STORE_CTX_init(inner.get(), store.get(), X509_STORE_CTX_get0_cert(context), nullptr) !=
          1 ||
      X509_STORE_CTX_set_default(inner.get(), "ssl_server") != 1) {
    X509_STORE_CTX_set_error(context, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
    return 0;
  }
  const int good = X509_verify_cert(inner.get());
  X509_STORE_CTX_set_error(context, X509_STORE_CTX_get_error(inner.get()));
  return good == 1 ? 1 : 0;
}

// On top of what OpenSSL finds: the key of the certificate must not be one of those expelled.
int refuse_expelled(int good, X509_STORE_CTX* store) {
  if (good != 1 || X509_STORE_CTX_get_error_depth(store) != 0) {
    return good;
  }
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  const auto* impl =
      static_cast<const TlsContext::Impl*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const auto print = fingerprint_of(X509_get_X509_PUBKEY(X509_STORE_CTX_get_current_cert(store)));
  const bool expelled =
      !print || std::any_of(impl->expelled.begin(), impl->expelled.end(),
                            [&](const auto& one) { return one.id == node_id_of(*print); });
  if (expelled) {
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
  }
  return expelled ? 0 : 1;
}

Result<std::vector<Charter::Expelled>> load_expelled(const std::string& state_dir) {
  const std::string path = state_dir + "/charter";
  if (!std::filesystem::exists(path)) {
    return std::vector<Charter::Expelled>();
  }
  TESS_TRY_ASSIGN(const std::string ca, sys::read_file(state_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(path));
  auto charter = Charter::parse(text, ca);
  if (!charter) {
    return fail_with(std::move(charter.error()), "read {}", path);
  }
  return std::move(charter->expelled);
}

Result<> set_up(SSL_CTX* context) {
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") != 1) {
    return fail(ErrorKind::kFailed, "set up TLS 1.3: {}", openssl_error());
  }
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  // A vanished peer and a polite one are the same for framed protocols; the engine tells them apart
  // by message only.
  SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
  return {};
}

}  // namespace

bool wants_to_join(const SSL* ssl) {
  const unsigned char* protocol = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  return size == kJoinProtocolSize - 1 && std::equal(protocol, protocol + size, kJoinProtocol + 1);
}

Result<TlsContext> TlsContext::load(const std::string& state_dir, bool admits) {
  ERR_clear_error();
  auto impl = std::make_shared<Impl>();
  impl->context.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* context = impl->context.get();
  TESS_TRY(set_up(context));
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
  TESS_TRY_ASSIGN(impl->expelled, load_expelled(state_dir));
  // Who uses the context holds the Impl, too (TlsEngine).
  SSL_CTX_set_app_data(context, impl.get());
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &refuse_expelled);
  if (admits) {
    SSL_CTX_set_alpn_select_cb(context, &select_protocol, nullptr);
  }
  impl->node_name = common_name(SSL_CTX_get0_certificate(context));
  return TlsContext(std::move(impl));
}

Result<TlsContext> TlsContext::for_joining(const std::optional<KeyPrint>& ca) {
  ERR_clear_error();
  auto impl = std::make_shared<Impl>();
  impl->context.reset(SSL_CTX_new(TLS_client_method()));
  impl->joins = true;
  impl->expected_ca = ca;
  SSL_CTX* context = impl->context.get();
  TESS_TRY(set_up(context));
  // Who uses the context holds the Impl, too (TlsEngine).
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_cert_verify_callback(context, &verify_by_fingerprint, impl.get());
  if (SSL_CTX_set_alpn_protos(context, kJoinProtocol, kJoinProtocolSize) != 0) {
    return fail(ErrorKind::kFailed, "set up TLS for joining: {}", openssl_error());
  }
  return TlsContext(std::move(impl));
}

const std::string& TlsContext::node_name() const {
  return impl_->node_name;
}

}  // namespace tess::net
