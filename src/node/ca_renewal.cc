#include "node/ca_renewal.h"

#include <filesystem>

#include "base/log.h"
#include "net/certificate.h"
#include "node/certificate_renewal.h"
#include "sys/files.h"

namespace tess::node {
namespace {

// Long enough for a site to find the key again.
constexpr std::chrono::hours kWarning{365 * 24};
constexpr std::chrono::milliseconds kAnswerTimeout{10'000};
constexpr size_t kCertificateMost = 16 << 10;

Result<net::Validity> validity_in(const std::string& state_dir) {
  TESS_TRY_ASSIGN(const std::string certificate, sys::read_file(state_dir + "/ca.crt"));
  return net::validity_of(certificate);
}

}  // namespace

CaRenewal::CaRenewal(net::Loop& loop, Options options, Cluster& cluster,
                     std::function<void()> changed)
    : options_(std::move(options)), cluster_(cluster), changed_(std::move(changed)), timer_(loop) {}

std::string CaRenewal::warning(const std::string& state_dir) {
  const auto validity = validity_in(state_dir);
  if (!validity || validity->left >= kWarning) {
    return {};
  }
  const auto days = validity->left.count() / 86400;
  return fmt::format(
      "the certificate of the cluster's CA {} and was not renewed: no node with the CA's key "
      "(ca.key) has been up (HOWTO, \"When the CA ends\")",
      days > 0 ? fmt::format("ends in {} days", days) : "ends today or has ended");
}

void CaRenewal::start() {
  look();
}

void CaRenewal::look() {
  timer_.start(options_.check_interval, [this] { look(); });
  const auto validity = validity_in(options_.state_dir);
  const bool here = std::filesystem::exists(options_.state_dir + "/ca.key");
  if (validity && here && CertificateRenewal::is_due(*validity)) {
    if (const auto renewed = renew(); !renewed) {
      log::error("node", "event=ca_not_renewed reason=\"{}\"", renewed.error().message());
    }
  }
  if (const std::string text = warning(); !text.empty()) {
    log::warn("node", "event=ca_ends text=\"{}\"", text);
  }
}

int64_t CaRenewal::until() const {
  const auto certificate = sys::read_file(options_.state_dir + "/ca.crt");
  const auto until = certificate ? net::valid_until(*certificate)
                                 : Result<int64_t>(tl::unexpected(certificate.error()));
  return until.value_or(0);
}

Result<> CaRenewal::renew() {
  if (!std::filesystem::exists(options_.state_dir + "/ca.key")) {
    return fail(ErrorKind::kNotPossible,
                "this node does not hold the cluster's CA (ca.key): do it where the cluster was "
                "made");
  }
  net::Certificate ca;
  TESS_TRY_ASSIGN(ca.certificate_pem, sys::read_file(options_.state_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(ca.key_pem, sys::read_file(options_.state_dir + "/ca.key"));
  TESS_TRY_ASSIGN(const std::string renewed, net::renew_ca(ca));
  return take(renewed);
}

Result<> CaRenewal::take(const std::string& certificate) {
  const std::string path = options_.state_dir + "/ca.crt";
  TESS_TRY_ASSIGN(const std::string old, sys::read_file(path));
  TESS_TRY(net::check_renewed_ca(old, certificate));
  TESS_TRY(sys::replace_file(path, certificate, 0644));
  log::info("node", "event=ca_renewed until={}", until());
  changed_();
  spread();
  return {};
}

void CaRenewal::on_peer(const std::string& node, int64_t until) {
  peers_[node] = until;
  if (until != 0 && until < this->until()) {
    spread();
  }
}

// To all that are up and have an older one. One that is not up says what it has when it is.
void CaRenewal::spread() {
  const auto certificate = sys::read_file(options_.state_dir + "/ca.crt");
  const int64_t ours = until();
  for (auto& [node, theirs] : peers_) {
    // Who says nothing is of a version that knows of no renewal.
    if (!certificate || theirs == 0 || theirs >= ours || !cluster_.check_up(node)) {
      continue;
    }
    theirs = ours;
    wire::ClusterMessage ask;
    ask.mutable_ca_certificate()->set_certificate(*certificate);
    cluster_.ask(node, std::move(ask), kAnswerTimeout, [node = node](const auto& answer) {
      if (!answer || !answer->done().ok()) {
        log::warn("node", "event=ca_not_taken node={} reason=\"{}\"", node,
                  answer ? answer->done().message() : answer.error().message());
      }
    });
  }
}

bool CaRenewal::answer(const wire::ClusterMessage& message, const std::string& asker,
                       const Reply& reply) {
  if (!message.has_ca_certificate()) {
    return false;
  }
  const std::string& certificate = message.ca_certificate().certificate();
  Result<> taken = certificate.size() <= kCertificateMost
                       ? Result<>()
                       : fail(ErrorKind::kBadInput, "the certificate is too long");
  const auto theirs = taken ? net::valid_until(certificate) : Result<int64_t>(0);
  if (taken && (!theirs || *theirs != until())) {  // the same, come twice, is no mistake
    taken = take(certificate);
  }
  if (!taken) {
    log::warn("node", "event=ca_refused node={} reason=\"{}\"", asker, taken.error().message());
  }
  wire::ClusterMessage done;
  done.mutable_done()->set_ok(taken.has_value());
  done.mutable_done()->set_message(taken ? "" : taken.error().message());
  reply(done);
  return true;
}

}  // namespace tess::node
