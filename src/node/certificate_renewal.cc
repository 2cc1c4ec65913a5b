#include "node/certificate_renewal.h"

#include "base/log.h"
#include "sys/files.h"

namespace tess::node {
namespace {

constexpr std::chrono::milliseconds kAnswerTimeout{10'000};
constexpr size_t kRequestMost = 4096;

}  // namespace

CertificateRenewal::CertificateRenewal(net::Loop& loop, Options options, Cluster& cluster,
                                       Admission& admission, std::function<void()> changed)
    : options_(std::move(options)),
      cluster_(cluster),
      admission_(admission),
      changed_(std::move(changed)),
      timer_(loop) {}

bool CertificateRenewal::is_due(const net::Validity& validity) {
  return validity.left < (validity.since + validity.left) / 3;
}

void CertificateRenewal::start() {
  look();
}

void CertificateRenewal::look() {
  timer_.start(options_.check_interval, [this] { look(); });
  const auto certificate = sys::read_file(options_.state_dir + "/node.crt");
  const auto validity = certificate ? net::validity_of(*certificate)
                                    : Result<net::Validity>(tl::unexpected(certificate.error()));
  if (!validity || !is_due(*validity)) {
    return;
  }
  renew([left = validity->left](const Result<>& renewed) {
    if (!renewed) {
      log::warn("node", "event=certificate_not_renewed hours_left={} reason=\"{}\"",
                left.count() / 3600, renewed.error().message());
    }
  });
}

void CertificateRenewal::on_peer(const std::string& node, bool holds_ca) {
  const bool first = holders_.empty();
  holds_ca ? (void)holders_.insert(node) : (void)holders_.erase(node);
  if (first && holds_ca) {
    look();  // perhaps it waited for this
  }
}

Result<> CertificateRenewal::take(const std::string& certificate) {
  const std::string path = options_.state_dir + "/node.crt";
  TESS_TRY_ASSIGN(const std::string old, sys::read_file(path));
  TESS_TRY_ASSIGN(const net::KeyPrint old_key, net::key_fingerprint(old));
  TESS_TRY_ASSIGN(const net::KeyPrint new_key, net::key_fingerprint(certificate));
  TESS_TRY_ASSIGN(const net::Validity validity, net::validity_of(certificate));
  if (new_key != old_key || validity.since.count() < 0 || validity.left.count() <= 0) {
    return fail(ErrorKind::kBadInput,
                "the new certificate is for another key, or not valid by this machine's clock");
  }
  TESS_TRY(sys::replace_file(path, certificate, 0644));
  log::info("node", "event=certificate_renewed days={}", validity.left.count() / 86400);
  changed_();
  return {};
}

void CertificateRenewal::renew(const Done& done) {
  fetch(options_.node_name, [this, done](const Result<std::string>& certificate) {
    done(certificate ? take(*certificate) : Result<>(tl::unexpected(certificate.error())));
  });
}

void CertificateRenewal::fetch(const std::string& name,
                               const std::function<void(const Result<std::string>&)>& then) {
  const auto key = sys::read_file(options_.state_dir + "/node.key");
  const auto request = key ? net::make_request(*key) : key;
  if (!request) {
    then(tl::unexpected(request.error()));
    return;
  }
  if (admission_.holds_ca()) {
    then(sign(options_.node_name, name, *request));
    return;
  }
  for (const std::string& node : holders_) {
    if (!cluster_.check_up(node)) {
      continue;
    }
    wire::ClusterMessage ask;
    ask.mutable_renew()->set_request(*request);
    ask.mutable_renew()->set_name(name);
    cluster_.ask(node, std::move(ask), kAnswerTimeout,
                 [then](const Result<wire::ClusterMessage>& answer) {
                   if (!answer) {
                     then(tl::unexpected(answer.error()));
                   } else if (!answer->has_renewed()) {
                     then(fail(ErrorKind::kNotPossible, "{}", answer->done().message()));
                   } else {
                     then(answer->renewed().certificate());
                   }
                 });
    return;
  }
  then(fail(ErrorKind::kRetry, "no node that holds the cluster's CA can be reached now"));
}

// For the node that is called `asker` now.
Result<std::string> CertificateRenewal::sign(const std::string& asker, const std::string& name,
                                             const std::string& request) {
  if (request.size() > kRequestMost) {
    return fail(ErrorKind::kBadInput, "the certificate request is too long");
  }
  TESS_TRY_ASSIGN(const net::KeyPrint key, net::request_fingerprint(request));
  TESS_TRY(admission_.check_renewal(asker, key));
  if (name != asker) {
    TESS_TRY(admission_.use_rename(asker, name, key));
  }
  net::Certificate ca;
  TESS_TRY_ASSIGN(ca.certificate_pem, sys::read_file(options_.state_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(ca.key_pem, sys::read_file(options_.state_dir + "/ca.key"));
  return net::sign_request(ca, request, name, net::kLongLived);
}

bool CertificateRenewal::answer(const wire::ClusterMessage& message, const std::string& asker,
                                const Reply& reply) {
  if (!message.has_renew()) {
    return false;
  }
  const std::string& name = message.renew().name().empty() ? asker : message.renew().name();
  const auto certificate = sign(asker, name, message.renew().request());
  wire::ClusterMessage answer;
  if (certificate) {
    answer.mutable_renewed()->set_certificate(*certificate);
  } else {
    answer.mutable_done()->set_ok(false);
    answer.mutable_done()->set_message(certificate.error().message());
  }
  log::info("node", "event=certificate_issued node={} renewed={} reason=\"{}\"", asker,
            certificate.has_value(), certificate ? "" : certificate.error().message());
  reply(answer);
  return true;
}

}  // namespace tess::node
