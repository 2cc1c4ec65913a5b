#include "node/admission.h"

#include <algorithm>
#include <filesystem>

#include "base/log.h"
#include "net/charter.h"
#include "node/identity.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

constexpr size_t kRequestMost = 4096;
constexpr int64_t kRenameSeconds = 300;

wire::JoinAnswer refused(const std::string& reason) {
  wire::JoinAnswer answer;
  answer.mutable_refused()->set_reason(reason);
  return answer;
}

wire::JoinAnswer granted(wire::JoinGranted grant) {
  wire::JoinAnswer answer;
  *answer.mutable_granted() = std::move(grant);
  return answer;
}

}  // namespace

bool Admission::holds_ca() const {
  return std::filesystem::exists(environment_.state_dir + "/ca.key");
}

Result<net::KeyPrint> Admission::ca_print() const {
  TESS_TRY_ASSIGN(const std::string ca, sys::read_file(environment_.state_dir + "/ca.crt"));
  return net::key_fingerprint(ca);
}

Result<std::string> Admission::make_token(const TokenWish& wish) {
  if (!holds_ca()) {
    return fail(ErrorKind::kNotPossible,
                "node {} does not hold the cluster's CA ({}/ca.key): make tokens where the cluster "
                "was made",
                environment_.node_name, environment_.state_dir);
  }
  if (wish.addresses.empty() || wish.addresses.size() > JoinToken::kMostAddresses) {
    return fail(ErrorKind::kBadInput, "a token has 1 to {} addresses", JoinToken::kMostAddresses);
  }
  JoinToken token;
  token.id.resize(JoinToken::kIdSize);
  net::fill_random(token.id.data(), token.id.size());
  net::fill_random(token.secret.data(), token.secret.size());
  token.addresses = wish.addresses;
  TESS_TRY_ASSIGN(token.ca, ca_print());
  TokenRecord record;
  record.id = token.id;
  TESS_TRY_ASSIGN(record.verifier, net::verifier_of(token.secret, kTokenContext));
  record.unlimited = wish.uses == 0;
  record.uses_left = wish.uses;
  record.media = wish.media;
  record.replaces = wish.replaces;
  record.made = environment_.now();
  record.expires = record.made + wish.expires.count();
  record.from = wish.from;
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  book.add_token(std::move(record), environment_.now());
  TESS_TRY(book.save(environment_.state_dir));
  log::info("node", "event=token_made id={} uses={} expires_s={} media={}", wire::to_hex(token.id),
            wish.uses, wish.expires.count(), wish.media);
  return token.text();
}

Result<size_t> Admission::revoke_token(const std::string& id_hex) {
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  TESS_TRY_ASSIGN(const size_t count, book.revoke(id_hex));
  TESS_TRY(book.save(environment_.state_dir));
  return count;
}

Result<> Admission::release(const std::string& name) {
  if (!holds_ca()) {
    return {};
  }
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  book.release(name);
  return book.save(environment_.state_dir);
}

Result<> Admission::check_renewal(const std::string& name, const net::KeyPrint& key) const {
  if (!holds_ca()) {
    return fail(ErrorKind::kNotPossible, "node {} does not hold the cluster's CA",
                environment_.node_name);
  }
  TESS_TRY_ASSIGN(const AdmissionBook book, this->book());
  const IssuedRecord* record = book.issued_to(name);
  if (record != nullptr && record->key != net::KeyPrint{} && record->key != key) {
    return fail(ErrorKind::kNotPossible,
                "node {} was admitted with another key; it has to join again", name);
  }
  return {};
}

Result<> Admission::allow_rename(const std::string& node, const std::string& name) {
  if (!holds_ca()) {
    return fail(ErrorKind::kNotPossible, "node {} does not hold the cluster's CA",
                environment_.node_name);
  }
  TESS_TRY(check_node_name(name));
  TESS_TRY_ASSIGN(const AdmissionBook book, this->book());
  const IssuedRecord* holder = book.issued_to(name);
  const bool kept = holder != nullptr && !holder->released;
  if (node == name || kept || environment_.name_use(name) == NameUse::kPresent) {
    return fail(ErrorKind::kNotPossible, "there is a node '{}' already", name);
  }
  renames_[node] = {name, environment_.now() + kRenameSeconds};
  return {};
}

Result<> Admission::use_rename(const std::string& node, const std::string& name,
                               const net::KeyPrint& key) {
  const auto found = renames_.find(node);
  if (found == renames_.end() || found->second.name != name ||
      found->second.until < environment_.now()) {
    return fail(ErrorKind::kNotPossible, "nobody has allowed node {} to be called '{}'", node,
                name);
  }
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  book.rename(node, name, key, environment_.now());
  TESS_TRY(book.save(environment_.state_dir));
  renames_.erase(found);
  return {};
}

Result<net::KeyPrint> Admission::check(const wire::JoinRequest& request) const {
  if (request.format() != kJoinFormat) {
    return fail(ErrorKind::kNotPossible,
                "node {} admits by format {}, this machine asks by format {}; install the same "
                "Tessera on both",
                environment_.node_name, kJoinFormat, request.format());
  }
  if (!holds_ca()) {
    return fail(ErrorKind::kNotPossible,
                "node {} does not hold the cluster's CA; ask the node where the cluster was made",
                environment_.node_name);
  }
  TESS_TRY(check_node_name(request.name()));
  if (request.request().size() > kRequestMost) {
    return fail(ErrorKind::kBadInput, "the certificate request is too long");
  }
  TESS_TRY_ASSIGN(const net::KeyPrint key, net::request_fingerprint(request.request()));
  TESS_TRY_ASSIGN(const std::string charter, charter_text());
  if (!charter.empty()) {
    TESS_TRY_ASSIGN(const std::string ca, sys::read_file(environment_.state_dir + "/ca.crt"));
    TESS_TRY_ASSIGN(const net::Charter parsed, net::Charter::parse(charter, ca));
    if (parsed.expels(net::node_id_of(key))) {
      return fail(ErrorKind::kNotPossible, "the key of this machine was expelled from the cluster");
    }
  }
  return key;
}

Result<std::string> Admission::charter_text() const {
  const std::string path = environment_.state_dir + "/charter";
  return std::filesystem::exists(path) ? sys::read_file(path) : Result<std::string>("");
}

Result<wire::JoinGranted> Admission::decide(const wire::JoinRequest& request,
                                            const JoinPeer& peer) {
  TESS_TRY_ASSIGN(const net::KeyPrint key, check(request));
  AdmissionBook::Asking asking;
  asking.token = request.token();
  asking.name = request.name();
  asking.key = key;
  asking.address = peer.address;
  asking.transcript =
      join_transcript(peer.session_secret, request.token(), request.request(), request.name());
  asking.proof = request.proof();
  asking.name_use = environment_.name_use(request.name());
  asking.now = environment_.now();
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  TESS_TRY(book.redeem(asking));
  TESS_TRY(book.save(environment_.state_dir));
  return grant(request.name(), request.request(), peer.local_address);
}

Result<wire::JoinGranted> Admission::grant(const std::string& name, const std::string& request,
                                           const std::string& local_address) const {
  const std::string& dir = environment_.state_dir;
  net::Certificate ca;
  TESS_TRY_ASSIGN(ca.certificate_pem, sys::read_file(dir + "/ca.crt"));
  TESS_TRY_ASSIGN(ca.key_pem, sys::read_file(dir + "/ca.key"));
  TESS_TRY_ASSIGN(const std::string certificate,
                  net::sign_request(ca, request, name, net::kLongLived));
  TESS_TRY_ASSIGN(const std::string cluster_key, sys::read_file(dir + "/cluster.key"));
  wire::JoinGranted granted;
  granted.set_name(name);
  granted.set_certificate(certificate);
  granted.set_ca(ca.certificate_pem);
  granted.set_cluster_key(cluster_key);
  TESS_TRY_ASSIGN(const std::string charter, charter_text());
  granted.set_charter(charter);
  for (const NodeEntry& seed : environment_.seeds(local_address)) {
    wire::JoinSeed& entry = *granted.add_seed();
    entry.set_name(seed.name);
    entry.set_address(seed.endpoint.to_string());
  }
  return granted;
}

void Admission::on_request(const wire::JoinRequest& request, const JoinPeer& peer,
                           const Reply& reply) {
  if (request.token().empty()) {
    const auto key = check(request);
    key ? wait_for_approval(request, *key, peer, reply) : reply(refused(key.error().message()));
    return;
  }
  auto verdict = decide(request, peer);
  log::info("node", "event=join name={} address={} admitted={} reason=\"{}\"",
            verdict ? request.name() : std::string("-"), peer.address, verdict.has_value(),
            verdict ? "" : verdict.error().message());
  reply(verdict ? granted(std::move(*verdict)) : refused(verdict.error().message()));
}

// ---- by hand ----

const std::list<Admission::Pending>& Admission::pending() {
  const int64_t now = environment_.now();
  pending_.remove_if([&](const auto& one) { return one.since + kPendingSeconds < now; });
  return pending_;
}

void Admission::wait_for_approval(const wire::JoinRequest& request, const net::KeyPrint& key,
                                  const JoinPeer& peer, const Reply& reply) {
  (void)pending();  // without those that are over
  auto found = std::find_if(pending_.begin(), pending_.end(),
                            [&](const auto& one) { return one.key == key; });
  if (found == pending_.end()) {
    if (pending_.size() >= kMostPending) {
      reply(refused("too many machines wait for approval already; see `tess node pending`"));
      return;
    }
    found = pending_.emplace(pending_.end());
    found->since = environment_.now();
    log::info("node", "event=join_waits name={} address={} key={}", request.name(), peer.address,
              print_text(key));
  }
  found->name = request.name();
  found->address = peer.address;
  found->key = key;
  found->request = request.request();
  found->reply = [this, reply, name = found->name, request = found->request,
                  local = peer.local_address](const wire::JoinAnswer& answer) {
    if (!answer.has_granted()) {
      reply(answer);
      return;
    }
    auto grant = this->grant(name, request, local);
    reply(grant ? granted(std::move(*grant)) : refused(grant.error().message()));
  };
  if (found->approved) {
    found->reply(granted({}));
    return;
  }
  wire::JoinAnswer wait;
  wait.mutable_pending();
  reply(wait);
}

Result<std::list<Admission::Pending>::iterator> Admission::find_pending(const std::string& which) {
  (void)pending();
  auto found = pending_.end();
  for (auto one = pending_.begin(); one != pending_.end(); ++one) {
    if (one->name != which && (which.size() < 8 || !print_text(one->key).starts_with(which))) {
      continue;
    }
    if (found != pending_.end()) {
      return fail(ErrorKind::kNotPossible,
                  "two machines ask to join as '{}': name the one you mean by its key "
                  "(`tess node pending` shows them)",
                  which);
    }
    found = one;
  }
  if (found == pending_.end()) {
    return fail(ErrorKind::kNotPossible,
                "no machine asks to join as '{}'; `tess node pending` shows who does", which);
  }
  return found;
}

Result<std::string> Admission::approve(const std::string& which) {
  TESS_TRY_ASSIGN(const auto found, find_pending(which));
  AdmissionBook::Asking asking;
  asking.name = found->name;
  asking.key = found->key;
  asking.name_use = environment_.name_use(found->name);
  asking.now = environment_.now();
  TESS_TRY_ASSIGN(AdmissionBook book, this->book());
  TESS_TRY(book.approve(asking));
  TESS_TRY(book.save(environment_.state_dir));
  log::info("node", "event=join name={} address={} admitted=by_hand key={}", found->name,
            found->address, print_text(found->key));
  found->approved = true;
  found->reply(granted({}));
  return found->name;
}

Result<std::string> Admission::refuse(const std::string& which) {
  TESS_TRY_ASSIGN(const auto found, find_pending(which));
  const std::string name = found->name;
  found->reply(refused("a person has refused this machine"));
  pending_.erase(found);
  return name;
}

}  // namespace tess::node
