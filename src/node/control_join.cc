// ControlApi: tokens, and who may join.
#include <set>

#include "node/control_request.h"
#include "node/own_addresses.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using nlohmann::json;

constexpr int64_t kExpiresMost = 10LL * 366 * 24 * 3600;
constexpr std::chrono::milliseconds kLeaveTimeout{3000};
constexpr int64_t kUsesMost = 1'000'000;

int64_t number_of(const json& body, const char* key, int64_t otherwise) {
  const auto found = body.find(key);
  return found != body.end() && found->is_number_integer() ? found->get<int64_t>() : otherwise;
}

Result<std::vector<std::string>> texts_of(const json& body, const char* key) {
  std::vector<std::string> texts;
  const auto found = body.find(key);
  if (found == body.end()) {
    return texts;
  }
  for (const json& text : *found) {
    if (!text.is_string()) {
      return fail(ErrorKind::kBadInput, "{} is a list of texts", key);
    }
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

// Where a machine that joins finds this node, if nobody says so.
Result<std::vector<net::Endpoint>> reachable_at(const net::Endpoint& listening) {
  if (listening.address != "0.0.0.0" && listening.address != "::") {
    return std::vector<net::Endpoint>{listening};
  }
  std::vector<net::Endpoint> list;
  TESS_TRY_ASSIGN(const auto addresses, own_addresses(true));
  for (const std::string& address : addresses) {
    const bool v6 = address.find(':') != std::string::npos;
    if (list.size() < JoinToken::kMostAddresses && (!v6 || listening.address == "::")) {
      list.push_back({address, listening.port});
    }
  }
  return list;
}

Result<Admission::TokenWish> read_wish(const json& body, const net::Endpoint& listening) {
  Admission::TokenWish wish;
  const int64_t uses = number_of(body, "uses", 1);
  const int64_t expires = number_of(body, "expires_s", 3600);
  if (uses < 0 || uses > kUsesMost) {
    return fail(ErrorKind::kBadInput, "uses is a number from 0 (any number) to {}", kUsesMost);
  }
  if (expires < 1 || expires > kExpiresMost) {
    return fail(ErrorKind::kBadInput, "a token is good for 1 s to 10 years");
  }
  wish.uses = static_cast<uint32_t>(uses);
  wish.expires = std::chrono::seconds(expires);
  wish.media = body.value("media", json()) == json(true);
  wish.replaces = body.value("replace", json()) == json(true);
  TESS_TRY_ASSIGN(const auto from, texts_of(body, "from"));
  for (const std::string& text : from) {
    TESS_TRY_ASSIGN(const IpRange range, IpRange::parse(text));
    wish.from.push_back(range);
  }
  TESS_TRY_ASSIGN(const auto addresses, texts_of(body, "addresses"));
  for (const std::string& text : addresses) {
    TESS_TRY_ASSIGN(net::Endpoint address, net::Endpoint::parse(text, listening.port));
    wish.addresses.push_back(std::move(address));
  }
  if (wish.addresses.empty()) {
    TESS_TRY_ASSIGN(wish.addresses, reachable_at(listening));
  }
  return wish;
}

}  // namespace

bool ControlApi::check_ca(const RequestPtr& request) {
  if (request->caller.uid != 0) {
    request->error("not_permitted", "only root may say who belongs to the cluster");
    return false;
  }
  if (!admission_.holds_ca()) {
    request->error("refused", fmt::format("node {} does not hold the cluster's CA (ca.key): ask "
                                          "this where the cluster was made",
                                          options_.node_name));
    return false;
  }
  return true;
}

void ControlApi::op_token(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const auto listening = cluster_.listening();
  auto wish = listening ? read_wish(request->body, *listening)
                        : Result<Admission::TokenWish>(tl::unexpected(listening.error()));
  if (!wish) {
    request->error(wish.error());
    return;
  }
  auto token = admission_.make_token(*wish);
  if (!token) {
    request->error(token.error());
    return;
  }
  json addresses = json::array();
  for (const net::Endpoint& address : wish->addresses) {
    addresses.push_back(address.to_string());
  }
  request->ok({{"token", *token},
               {"uses", wish->uses},
               {"expires_s", wish->expires.count()},
               {"addresses", std::move(addresses)}});
}

void ControlApi::op_token_list(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const auto book = admission_.book();
  if (!book) {
    request->error(book.error());
    return;
  }
  const int64_t now = admission_.now();
  json tokens = json::array();
  for (const TokenRecord& token : book->tokens()) {
    json from = json::array();
    for (const IpRange& range : token.from) {
      from.push_back(range.text());
    }
    const bool usable = token.expires > now && (token.unlimited || token.uses_left > 0);
    tokens.push_back({{"id", wire::to_hex(token.id)},
                      {"usable", usable},
                      {"expires_in_s", token.expires - now},
                      {"used", token.used},
                      {"uses_left", token.unlimited ? json() : json(token.uses_left)},
                      {"used_by", token.used_by},
                      {"media", token.media},
                      {"replace", token.replaces},
                      {"from", std::move(from)}});
  }
  request->ok({{"tokens", std::move(tokens)}});
}

void ControlApi::op_token_revoke(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const auto count = admission_.revoke_token(request->text("id"));
  count ? request->ok({{"revoked", *count}}) : request->error(count.error());
}

void ControlApi::op_pending(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const auto ca = admission_.ca_print();
  json list = json::array();
  for (const auto& one : admission_.pending()) {
    list.push_back({{"name", one.name},
                    {"address", one.address},
                    {"key", print_text(one.key)},
                    {"since_s", admission_.now() - one.since},
                    {"approved", one.approved}});
  }
  request->ok({{"pending", std::move(list)}, {"ca", ca ? print_text(*ca) : ""}});
}

// With `refuse` it is sent away.
void ControlApi::op_approve(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const std::string which = request->text("node");
  const auto name = request->flag("refuse") ? admission_.refuse(which) : admission_.approve(which);
  name ? request->ok({{"node", *name}}) : request->error(name.error());
}

// Everything that is known under this name: the key that it was admitted with, and what gossip has
// heard of.
std::vector<net::Charter::Expelled> ControlApi::bearers_of(const std::string& name) const {
  std::set<net::Charter::NodeId> ids;
  if (const auto book = admission_.book()) {
    const IssuedRecord* record = book->issued_to(name);
    if (record != nullptr && record->key != net::KeyPrint{}) {
      ids.insert(net::node_id_of(record->key));
    }
  }
  for (const auto& member : gossip_->view().members) {
    if (member.name == name && member.id != gossip_->id()) {
      ids.insert(member.id.bytes);
    }
  }
  std::vector<net::Charter::Expelled> list;
  for (const auto& id : ids) {
    if (!charter_.charter().expels(id)) {
      list.push_back({id, name, admission_.now()});
    }
  }
  return list;
}

void ControlApi::op_expel(const RequestPtr& request) {
  const std::string name = request->text("node");
  if (!check_ca(request)) {
    return;
  }
  if (name == options_.node_name) {
    request->error("refused", "a node does not expel itself: `tess leave`");
    return;
  }
  const auto bearers = bearers_of(name);
  if (bearers.empty()) {
    request->error("unknown_node",
                   fmt::format("no node '{}' is known that is not expelled yet", name));
    return;
  }
  charter_.expel(bearers, [this, request, name](const Result<>& expelled) {
    if (!expelled) {
      request->error(expelled.error());
      return;
    }
    const auto released = admission_.release(name);
    released ? request->ok({{"node", name}, {"serial", charter_.charter().serial}})
             : request->error(released.error());
  });
}

void ControlApi::op_rotate_key(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  charter_.rotate_key([this, request](const Result<>& rotated) {
    rotated ? request->ok({{"serial", charter_.charter().serial}})
            : request->error(rotated.error());
  });
}

// Of this node, by whoever holds the CA.
void ControlApi::op_rotate_certificate(const RequestPtr& request) {
  if (request->caller.uid != 0) {
    request->error("not_permitted", "only root may renew a node's certificate");
    return;
  }
  renewal_->renew([this, request](const Result<>& renewed) {
    renewed ? request->ok({{"node", options_.node_name}}) : request->error(renewed.error());
  });
}

void ControlApi::op_rotate_ca(const RequestPtr& request) {
  if (!check_ca(request)) {
    return;
  }
  const auto renewed = ca_renewal_->renew();
  renewed ? request->ok({{"until", ca_renewal_->until()}}) : request->error(renewed.error());
}

void ControlApi::op_rename(const RequestPtr& request) {
  const std::string node = request->text("node");
  const std::string name = request->text("name");
  if (!check_ca(request) || !check_node(request, node)) {
    return;
  }
  rename_->rename(node, name, [request, name](const Result<>& renamed) {
    renamed ? request->ok({{"node", name}}) : request->error(renamed.error());
  });
}

// The answer comes before the end: what waits for that sees the connection close.
void ControlApi::op_leave(const RequestPtr& request) {
  if (request->caller.uid != 0) {
    request->error("not_permitted", "only root may take a node out of its cluster");
    return;
  }
  if (admission_.holds_ca() && !request->flag("force")) {
    request->error("refused",
                   "this node holds the cluster's CA: without it nobody can join or be expelled. "
                   "Move ca.key and admission.json to another node first, or say --force");
    return;
  }
  const auto missing = std::make_shared<size_t>(1);
  const auto one_done = [this, request, missing] {
    if (--*missing == 0) {
      request->ok({{"node", options_.node_name}});
      stop_();
    }
  };
  for (const auto& node : cluster_.nodes()) {
    if (!node.up || !request->flag("remove")) {
      continue;
    }
    ++*missing;
    wire::ClusterMessage ask;
    ask.mutable_leaving();
    cluster_.ask(node.name, std::move(ask), kLeaveTimeout, [one_done](const auto&) { one_done(); });
  }
  one_done();
}

}  // namespace tess::node
