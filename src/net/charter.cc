#include "net/charter.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "net/secret_proof.h"
#include "wire/agent_process.h"

namespace tess::net {
namespace {

constexpr std::string_view kTitle = "tessera charter 1";
constexpr std::string_view kSignature = "signature ";
constexpr const char* kStages[] = {"settled", "spread", "use"};
constexpr size_t kNameMost = 63;

template <typename Bytes>
std::string hex(const Bytes& bytes) {
  return wire::to_hex(std::string(bytes.begin(), bytes.end()));
}

template <typename Bytes>
bool read_hex(const std::string& text, Bytes& into) {
  const std::string bytes = wire::from_hex(text);
  if (bytes.size() != into.size()) {
    return false;
  }
  std::memcpy(into.data(), bytes.data(), bytes.size());
  return true;
}

template <typename Number>
bool read_number(const std::string& text, Number& into) {
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, into);
  return error == std::errc() && end == last;
}

std::vector<std::string> words_of(const std::string& line) {
  std::vector<std::string> words;
  for (size_t at = 0; at <= line.size();) {
    const size_t end = std::min(line.find(' ', at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

bool read_line(const std::vector<std::string>& words, Charter& charter) {
  if (words.size() == 2 && words[0] == "serial") {
    return read_number(words[1], charter.serial);
  }
  if (words.size() == 2 && words[0] == "stage") {
    const auto found = std::find(std::begin(kStages), std::end(kStages), words[1]);
    charter.stage = static_cast<Charter::Stage>(found - std::begin(kStages));
    return found != std::end(kStages);
  }
  if (words.size() == 2 && words[0] == "key") {
    return charter.keys.size() < 2 && read_hex(words[1], charter.keys.emplace_back());
  }
  if (words.size() == 4 && words[0] == "expelled") {
    Charter::Expelled one;
    one.name = words[2];
    const bool good = read_hex(words[1], one.id) && !one.name.empty() &&
                      one.name.size() <= kNameMost && read_number(words[3], one.at);
    charter.expelled.push_back(std::move(one));
    return good && charter.expelled.size() <= Charter::kMostExpelled;
  }
  return false;
}

std::string body_of(const Charter& charter) {
  std::string body = fmt::format("{}\nserial {}\nstage {}\n", kTitle, charter.serial,
                                 kStages[static_cast<size_t>(charter.stage)]);
  for (const Charter::Key& key : charter.keys) {
    body += fmt::format("key {}\n", hex(key));
  }
  for (const Charter::Expelled& one : charter.expelled) {
    body += fmt::format("expelled {} {} {}\n", hex(one.id), one.name, one.at);
  }
  return body;
}

tl::unexpected<Error> damaged() {
  return fail(ErrorKind::kBadInput, "the cluster's charter is damaged");
}

}  // namespace

bool Charter::expels(const NodeId& id) const {
  return std::any_of(expelled.begin(), expelled.end(),
                     [&](const auto& one) { return one.id == id; });
}

Result<std::string> Charter::text(const std::string& ca_key_pem) const {
  const std::string body = body_of(*this);
  TESS_TRY_ASSIGN(const std::string signature, sign_with_key(ca_key_pem, body));
  return fmt::format("{}{}{}\n", body, kSignature, hex(signature));
}

Result<Charter> Charter::parse(const std::string& text, const std::string& ca_certificate_pem) {
  const size_t last = text.rfind(kSignature);
  if (!text.starts_with(fmt::format("{}\n", kTitle)) || last == std::string::npos ||
      text[last - 1] != '\n' || text.back() != '\n') {
    return damaged();
  }
  const std::string body = text.substr(0, last);
  const std::string signature = wire::from_hex(
      text.substr(last + kSignature.size(), text.size() - last - kSignature.size() - 1));
  // First of all: nothing else is looked at unless the CA has said it.
  if (!check_signature(ca_certificate_pem, body, signature)) {
    return fail(ErrorKind::kBadInput, "the charter is not signed by this cluster's CA");
  }
  Charter charter;
  for (size_t at = kTitle.size() + 1; at < body.size();) {
    const size_t end = body.find('\n', at);
    if (end == std::string::npos || !read_line(words_of(body.substr(at, end - at)), charter)) {
      return damaged();
    }
    at = end + 1;
  }
  const bool changing = charter.stage != Stage::kSettled;
  if (charter.serial == 0 || charter.keys.size() != (changing ? 2U : 1U)) {
    return damaged();
  }
  return charter;
}

Charter::NodeId node_id_of(const KeyPrint& print) {
  Charter::NodeId id{};
  std::copy_n(print.begin(), id.size(), id.begin());
  return id;
}

}  // namespace tess::net
