#include "net/tls_engine.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <cstring>

#include "net/openssl_error.h"
#include "net/openssl_ptr.h"
#include "net/tls_context.h"

namespace tess::net {
namespace {

constexpr size_t kInputSize = 256 << 10;
// AES-GCM keys are good for 2^24.5 full records (RFC 8446 5.5); new ones well before that.
constexpr uint64_t kKeyUpdateAfter = uint64_t{64} << 30;

}  // namespace

struct TlsEngine::Ssl {
  SSL* ssl = nullptr;
  ~Ssl() { SSL_free(ssl); }
};

// OpenSSL's view of the buffers. Output never blocks (it grows); input asks for a retry when empty.
struct EngineBio {
  static int write(BIO* bio, const char* data, int size) {
    auto* engine = static_cast<TlsEngine*>(BIO_get_data(bio));
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    engine->output_.insert(engine->output_.end(), bytes, bytes + size);
    BIO_clear_retry_flags(bio);
    return size;
  }
  static int read(BIO* bio, char* into, int size) {
    auto* engine = static_cast<TlsEngine*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const size_t count =
        std::min(static_cast<size_t>(size), engine->input_end_ - engine->input_start_);
    if (count == 0) {
      if (engine->input_ended_) {
        return 0;
      }
      BIO_set_retry_read(bio);
      return -1;
    }
    std::memcpy(into, engine->input_.data() + engine->input_start_, count);
    engine->input_start_ += count;
    return static_cast<int>(count);
  }
  static long control(BIO* bio, int command, long, void*) {
    switch (command) {
      case BIO_CTRL_FLUSH:
        return 1;
      case BIO_CTRL_EOF: {
        auto* engine = static_cast<TlsEngine*>(BIO_get_data(bio));
        return engine->input_ended_ && engine->input_empty() ? 1 : 0;
      }
      default:
        return 0;
    }
  }
  static int create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
  }
  static const BIO_METHOD* method() {
    static const BIO_METHOD* const the_method = [] {
      BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tess engine");
      BIO_meth_set_write(made, &write);
      BIO_meth_set_read(made, &read);
      BIO_meth_set_ctrl(made, &control);
      BIO_meth_set_create(made, &create);
      return made;
    }();
    return the_method;
  }
};

TlsEngine::TlsEngine(TlsContext context)
    : context_(std::move(context)), ssl_(std::make_unique<Ssl>()), input_(kInputSize) {}
TlsEngine::~TlsEngine() = default;

Result<std::unique_ptr<TlsEngine>> TlsEngine::make(const TlsContext& context, Side side) {
  ERR_clear_error();
  std::unique_ptr<TlsEngine> engine(new TlsEngine(context));
  SSL* ssl = SSL_new(context.impl().context.get());
  BIO* bio = BIO_new(EngineBio::method());
  if (ssl == nullptr || bio == nullptr) {
    SSL_free(ssl);
    BIO_free(bio);
    return fail(ErrorKind::kFailed, "new TLS connection: {}", openssl_error());
  }
  engine->ssl_->ssl = ssl;
  BIO_set_data(bio, engine.get());
  SSL_set_bio(ssl, bio, bio);  // takes the one reference, for both directions
  if (side == Side::kClient) {
    SSL_set_connect_state(ssl);
  } else {
    SSL_set_accept_state(ssl);
  }
  return engine;
}

Error TlsEngine::last_error(int ssl_result, const char* what) {
  SSL* ssl = ssl_->ssl;
  const int kind = SSL_get_error(ssl, ssl_result);
  if (kind == SSL_ERROR_ZERO_RETURN) {
    ERR_clear_error();
    return Error(ErrorKind::kDisconnected, "the other side closed the connection");
  }
  const unsigned long code = ERR_peek_error();
  const int reason = ERR_GET_REASON(code);
  const long verify = SSL_get_verify_result(ssl);
  if (kind == SSL_ERROR_SSL && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    ERR_clear_error();
    // The verified chain is not kept after a failure, but the leaf is.
    const X509* certificate = SSL_get0_peer_certificate(ssl);
    const std::string name = certificate != nullptr ? common_name(certificate) : "";
    if (verify == X509_V_ERR_CERT_REVOKED) {
      return Error(ErrorKind::kNotPossible,
                   fmt::format("the other side{} was expelled from this cluster",
                               name.empty() ? "" : " (" + name + ")"));
    }
    if (verify == X509_V_ERR_CERT_HAS_EXPIRED) {
      return Error(ErrorKind::kNotPossible,
                   fmt::format("the certificate of the other side{} has expired: it has to join "
                               "the cluster again (or the clock of this machine is wrong)",
                               name.empty() ? "" : " (" + name + ")"));
    }
    if (verify == X509_V_ERR_CERT_NOT_YET_VALID) {
      return Error(ErrorKind::kNotPossible,
                   fmt::format("the other side's certificate{} cannot be accepted now ({}); is the "
                               "clock of this machine right?",
                               name.empty() ? "" : " (" + name + ")",
                               X509_verify_cert_error_string(verify)));
    }
    if (context_.impl().joins) {
      return Error(
          ErrorKind::kNotPossible,
          "the machine that answers there is not of the cluster that is to be joined "
          "(its certificate does not come from that cluster's CA); nothing was told to it");
    }
    return Error(
        ErrorKind::kNotPossible,
        fmt::format("the other side's certificate{} is not one of this cluster ({}); give it a "
                    "certificate signed by this cluster's CA",
                    name.empty() ? "" : " (" + name + ")", X509_verify_cert_error_string(verify)));
  }
  if (kind == SSL_ERROR_SSL) {
    switch (reason) {
      case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
        return Error(ErrorKind::kNotPossible, "this node was expelled from the cluster");
      case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return Error(ErrorKind::kNotPossible,
                     "this node's certificate has expired: join the cluster again (`tess leave "
                     "--remove`, `tess join`), unless the clock of the other side is wrong");
      case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
      case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
      case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
      case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
        return Error(
            ErrorKind::kNotPossible,
            fmt::format("the other side refuses this node's certificate: {}; it belongs to "
                        "another cluster, or one of the clocks is wrong",
                        openssl_error()));
      case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
      case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return Error(ErrorKind::kNotPossible,
                     "the client shows no certificate: it is not a node of this cluster");
      case SSL_R_WRONG_VERSION_NUMBER:
      case SSL_R_UNSUPPORTED_PROTOCOL:
      case SSL_R_HTTP_REQUEST:
      case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
      case SSL_R_UNEXPECTED_MESSAGE:
        return Error(
            ErrorKind::kNotPossible,
            fmt::format("the other side does not speak TLS 1.3 ({}): is that port really a "
                        "Tessera node's?",
                        openssl_error()));
      default:
        break;
    }
  }
  if (code == 0) {
    return Error(ErrorKind::kDisconnected, "the connection ended");
  }
  return Error(ErrorKind::kDisconnected, fmt::format("{}: {}", what, openssl_error()));
}

Result<bool> TlsEngine::handshake() {
  ERR_clear_error();
  SSL* ssl = ssl_->ssl;
  const int result = SSL_do_handshake(ssl);
  if (result == 1) {
    const X509* certificate = SSL_get0_peer_certificate(ssl);
    peer_name_ = certificate != nullptr ? common_name(certificate) : "";
    joining_ = SSL_is_server(ssl) == 1 && certificate == nullptr && wants_to_join(ssl);
    if (peer_name_.empty() && !joining_) {
      return fail(ErrorKind::kNotPossible, "the other side's certificate has no name");
    }
    return true;
  }
  if (SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ) {
    return false;
  }
  return tl::unexpected(last_error(result, "TLS handshake"));
}

Result<KeyPrint> TlsEngine::peer_ca() const {
  STACK_OF(X509)* chain = SSL_get_peer_cert_chain(ssl_->ssl);
  const int count = chain != nullptr ? sk_X509_num(chain) : 0;
  if (count < 2) {
    return fail(ErrorKind::kNotPossible, "the other side does not show its CA");
  }
  return fingerprint_of(X509_get_X509_PUBKEY(sk_X509_value(chain, count - 1)));
}

Result<std::string> TlsEngine::session_secret() const {
  constexpr std::string_view kLabel = "EXPORTER-tessera-join";
  std::string secret(32, '\0');
  if (SSL_export_keying_material(ssl_->ssl, reinterpret_cast<unsigned char*>(secret.data()),
                                 secret.size(), kLabel.data(), kLabel.size(), nullptr, 0, 0) != 1) {
    return fail(ErrorKind::kFailed, "take the secret of a session: {}", openssl_error());
  }
  return secret;
}

std::span<std::byte> TlsEngine::receive_space() {
  if (input_empty()) {
    input_start_ = input_end_ = 0;
  } else if (input_end_ == input_.size() && input_start_ > 0) {
    std::memmove(input_.data(), input_.data() + input_start_, input_end_ - input_start_);
    input_end_ -= input_start_;
    input_start_ = 0;
  }
  return std::span(input_).subspan(input_end_);
}

void TlsEngine::received(size_t count) {
  input_end_ += count;
}

Result<size_t> TlsEngine::read(std::span<std::byte> into) {
  ERR_clear_error();
  size_t count = 0;
  const int result = SSL_read_ex(ssl_->ssl, into.data(), into.size(), &count);
  if (result == 1) {
    return count;
  }
  if (SSL_get_error(ssl_->ssl, result) == SSL_ERROR_WANT_READ) {
    return size_t{0};
  }
  return tl::unexpected(last_error(result, "TLS read"));
}

bool TlsEngine::decrypted_pending() const {
  return SSL_pending(ssl_->ssl) > 0;
}

Result<> TlsEngine::write(std::span<const std::byte> from) {
  ERR_clear_error();
  if (written_since_key_update_ > kKeyUpdateAfter) {
    written_since_key_update_ = 0;
    if (SSL_key_update(ssl_->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) {
      return fail(ErrorKind::kFailed, "TLS key update: {}", openssl_error());
    }
  }
  if (from.empty()) {
    return {};
  }
  size_t count = 0;
  const int result = SSL_write_ex(ssl_->ssl, from.data(), from.size(), &count);
  if (result != 1) {
    return tl::unexpected(last_error(result, "TLS write"));
  }
  written_since_key_update_ += count;
  return {};
}

void TlsEngine::close() {
  ERR_clear_error();
  if (SSL_is_init_finished(ssl_->ssl)) {
    SSL_shutdown(ssl_->ssl);
    ERR_clear_error();
  }
}

void TlsEngine::take_output(std::vector<std::byte>& out) {
  out.clear();
  out.swap(output_);
}

}  // namespace tess::net
