#include "node/admission_book.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using nlohmann::json;

constexpr int64_t kRemembered = 7 * 24 * 3600;  // so that an old token gets a clear word

std::string file_of(const std::string& dir) {
  return dir + "/admission.json";
}

template <typename Bytes>
std::string hex(const Bytes& bytes) {
  return wire::to_hex(std::string(bytes.begin(), bytes.end()));
}

template <typename Bytes>
bool from_hex(const json& text, Bytes& into) {
  const std::string bytes = wire::from_hex(text.get<std::string>());
  if (bytes.size() != into.size()) {
    return false;
  }
  std::copy(bytes.begin(), bytes.end(), into.begin());
  return true;
}

json to_json(const TokenRecord& token) {
  json from = json::array();
  for (const IpRange& range : token.from) {
    from.push_back(range.text());
  }
  return {{"id", hex(token.id)},      {"verifier", hex(token.verifier)},
          {"media", token.media},     {"unlimited", token.unlimited},
          {"used", token.used},       {"uses_left", token.uses_left},
          {"used_by", token.used_by}, {"replaces", token.replaces},
          {"made", token.made},       {"expires", token.expires},
          {"from", std::move(from)}};
}

// Throws json::exception for what is of another shape; false for values that make no sense.
bool read_token(const json& from, TokenRecord& token) {
  token.id = wire::from_hex(from.at("id").get<std::string>());
  token.unlimited = from.at("unlimited").get<bool>();
  token.uses_left = from.at("uses_left").get<uint32_t>();
  token.used = from.at("used").get<uint32_t>();
  token.used_by = from.at("used_by").get<std::string>();
  token.media = from.at("media").get<bool>();
  token.replaces = from.at("replaces").get<bool>();
  token.made = from.at("made").get<int64_t>();
  token.expires = from.at("expires").get<int64_t>();
  for (const json& text : from.at("from")) {
    auto range = IpRange::parse(text.get<std::string>());
    if (!range) {
      return false;
    }
    token.from.push_back(*range);
  }
  return !token.id.empty() && from_hex(from.at("verifier"), token.verifier);
}

bool read_issued(const json& from, IssuedRecord& issued) {
  issued.name = from.at("name").get<std::string>();
  issued.at = from.at("at").get<int64_t>();
  issued.token = wire::from_hex(from.at("token").get<std::string>());
  issued.media = from.at("media").get<bool>();
  issued.released = from.value("released", false);
  return from_hex(from.at("key"), issued.key);
}

bool read_all(const json& from, std::vector<TokenRecord>& tokens,
              std::vector<IssuedRecord>& issued) {
  for (const json& one : from.at("tokens")) {
    if (!read_token(one, tokens.emplace_back())) {
      return false;
    }
  }
  for (const json& one : from.at("issued")) {
    if (!read_issued(one, issued.emplace_back())) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<AdmissionBook> AdmissionBook::load(const std::string& dir) {
  const std::string path = file_of(dir);
  AdmissionBook book;
  if (!std::filesystem::exists(path)) {
    return book;
  }
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(path));
  try {
    if (read_all(json::parse(text), book.tokens_, book.issued_)) {
      return book;
    }
  } catch (const json::exception&) {
    // said below
  }
  return fail(ErrorKind::kBadInput,
              "{} is damaged; put back a copy, or move it away: then all tokens are void", path);
}

Result<> AdmissionBook::save(const std::string& dir) const {
  json tokens = json::array();
  for (const TokenRecord& token : tokens_) {
    tokens.push_back(to_json(token));
  }
  json issued = json::array();
  for (const IssuedRecord& one : issued_) {
    issued.push_back({{"name", one.name},
                      {"key", hex(one.key)},
                      {"at", one.at},
                      {"token", hex(one.token)},
                      {"media", one.media},
                      {"released", one.released}});
  }
  const json all = {{"tokens", std::move(tokens)}, {"issued", std::move(issued)}};
  return sys::replace_file(file_of(dir), all.dump(1) + "\n", 0600);
}

void AdmissionBook::add_token(TokenRecord token, int64_t now) {
  std::erase_if(tokens_, [&](const auto& old) { return old.expires + kRemembered < now; });
  tokens_.push_back(std::move(token));
}

Result<size_t> AdmissionBook::revoke(const std::string& id_hex) {
  if (id_hex.empty()) {
    return fail(ErrorKind::kBadInput, "which token? `tess token list` shows their ids");
  }
  const size_t count =
      std::erase_if(tokens_, [&](const auto& token) { return hex(token.id).starts_with(id_hex); });
  if (count == 0) {
    return fail(ErrorKind::kNotPossible, "there is no token '{}'; `tess token list` shows them",
                id_hex);
  }
  return count;
}

const IssuedRecord* AdmissionBook::issued_to(const std::string& name) const {
  const auto found = std::find_if(issued_.begin(), issued_.end(),
                                  [&](const auto& one) { return one.name == name; });
  return found == issued_.end() ? nullptr : &*found;
}

void AdmissionBook::release(const std::string& name) {
  for (IssuedRecord& one : issued_) {
    if (one.name == name) {
      one.released = true;
      return;
    }
  }
  IssuedRecord& made = issued_.emplace_back();
  made.name = name;
  made.released = true;
}

void AdmissionBook::rename(const std::string& from, const std::string& to, const net::KeyPrint& key,
                           int64_t now) {
  const IssuedRecord* old = issued_to(from);
  IssuedRecord record = old != nullptr ? *old : IssuedRecord();
  record.name = to;
  record.key = key;
  record.at = now;
  record.released = false;
  std::erase_if(issued_, [&](const auto& one) { return one.name == from || one.name == to; });
  issued_.push_back(std::move(record));
}

Result<> AdmissionBook::check_name(const Asking& asking, bool replaces) const {
  const IssuedRecord* holder = issued_to(asking.name);
  if (holder != nullptr && holder->key == asking.key && !holder->released) {
    return {};
  }
  if (asking.name_use == NameUse::kPresent) {
    return fail(ErrorKind::kNotPossible,
                "there is a node '{}' in the cluster now; choose another name with --name",
                asking.name);
  }
  const bool released = holder != nullptr && holder->released;
  if ((holder != nullptr || asking.name_use == NameUse::kGone) && !replaces && !released) {
    return fail(ErrorKind::kNotPossible,
                "the name '{0}' belongs to a node that is not there now; choose another with "
                "--name, or, if this is that machine, make the token with `tess token --replace`",
                asking.name);
  }
  return {};
}

void AdmissionBook::note(const Asking& asking, bool media) {
  std::erase_if(issued_, [&](const auto& one) { return one.name == asking.name; });
  issued_.push_back({asking.name, asking.key, asking.now, asking.token, media, false});
}

Result<> AdmissionBook::redeem(const Asking& asking) {
  const auto token = std::find_if(tokens_.begin(), tokens_.end(),
                                  [&](const auto& one) { return one.id == asking.token; });
  // One answer for both: who has no token learns nothing.
  if (token == tokens_.end() ||
      !net::check_proof(token->verifier, asking.transcript, asking.proof)) {
    return fail(ErrorKind::kNotPossible,
                "this cluster knows no such token: it was revoked, is long expired, or is of "
                "another cluster; `tess token` makes a new one");
  }
  const IssuedRecord* holder = issued_to(asking.name);
  if (holder != nullptr && holder->key == asking.key && holder->token == token->id &&
      !holder->released) {
    return {};
  }
  if (asking.now >= token->expires) {
    return fail(ErrorKind::kNotPossible,
                "the token has expired {} s ago; `tess token` makes a new one",
                asking.now - token->expires);
  }
  if (!token->unlimited && token->uses_left == 0) {
    return fail(ErrorKind::kNotPossible,
                "the token has been used already (by {}); `tess token` makes a new one",
                token->used_by);
  }
  const bool near = token->from.empty() ||
                    std::any_of(token->from.begin(), token->from.end(),
                                [&](const auto& range) { return range.contains(asking.address); });
  if (!near) {
    return fail(ErrorKind::kNotPossible, "the token is not for machines at {}", asking.address);
  }
  const bool same_media = token->media && holder != nullptr && holder->media;
  TESS_TRY(check_name(asking, token->replaces || same_media));
  token->uses_left -= token->unlimited ? 0 : 1;
  ++token->used;
  token->used_by = asking.name;
  note(asking, token->media);
  return {};
}

Result<> AdmissionBook::approve(const Asking& asking) {
  TESS_TRY(check_name(asking, true));
  note(asking, false);
  return {};
}

}  // namespace tess::node
