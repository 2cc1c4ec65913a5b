#include "node/join_token.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "base/check.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

constexpr std::string_view kPrefix = "tess1-";
constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kChecksumSize = 4;
constexpr size_t kLongest = 1024;

std::string to_base64(std::string_view bytes) {
  std::string text;
  uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<uint8_t>(c);
    for (count += 8; count >= 6; count -= 6) {
      text += kAlphabet[bits >> (count - 6) & 63];
    }
  }
  if (count > 0) {
    text += kAlphabet[bits << (6 - count) & 63];
  }
  return text;
}

// False for what is not of the alphabet.
bool from_base64(std::string_view text, std::string& bytes) {
  uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) {
      return false;
    }
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count & 0xff);
    }
  }
  return true;
}

std::string checksum_of(std::string_view bytes) {
  const auto digest = net::sha256(bytes);
  return std::string(digest.begin(), digest.begin() + kChecksumSize);
}

std::string with_length(std::string_view bytes) {
  const auto size = static_cast<uint32_t>(bytes.size());
  std::string text;
  for (int shift = 24; shift >= 0; shift -= 8) {
    text += static_cast<char>(size >> shift & 0xff);
  }
  return text.append(bytes);
}

tl::unexpected<Error> cut_off() {
  return fail(ErrorKind::kBadInput,
              "the token is cut off or mistyped; copy the whole line that `tess token` printed");
}

}  // namespace

std::string JoinToken::text() const {
  TESS_CHECK(id.size() == kIdSize && addresses.size() <= kMostAddresses, "a token that is none");
  std::string bytes = id;
  bytes.append(secret.begin(), secret.end());
  bytes.append(ca.begin(), ca.end());
  for (const net::Endpoint& address : addresses) {
    const std::string where = address.to_string();
    TESS_CHECK(where.size() < 256, "an address of {} characters", where.size());
    bytes += static_cast<char>(where.size());
    bytes += where;
  }
  return std::string(kPrefix) + to_base64(bytes + checksum_of(bytes));
}

Result<JoinToken> JoinToken::parse(std::string_view text) {
  if (!text.starts_with(kPrefix)) {
    if (text.starts_with("tess") && text.size() > 5 && text[4] >= '2' && text[4] <= '9') {
      return fail(ErrorKind::kBadInput,
                  "the token is of a later version of Tessera; install that version here");
    }
    return fail(ErrorKind::kBadInput, "not a token: `tess token` prints one, beginning with '{}'",
                kPrefix);
  }
  std::string bytes;
  if (text.size() > kLongest || !from_base64(text.substr(kPrefix.size()), bytes)) {
    return cut_off();
  }
  JoinToken token;
  const size_t fixed = kIdSize + token.secret.size() + token.ca.size();
  if (bytes.size() < fixed + kChecksumSize) {
    return cut_off();
  }
  const std::string checksum = bytes.substr(bytes.size() - kChecksumSize);
  bytes.resize(bytes.size() - kChecksumSize);
  if (checksum_of(bytes) != checksum) {
    return cut_off();
  }
  token.id = bytes.substr(0, kIdSize);
  std::memcpy(token.secret.data(), bytes.data() + kIdSize, token.secret.size());
  std::memcpy(token.ca.data(), bytes.data() + kIdSize + token.secret.size(), token.ca.size());
  for (size_t at = fixed; at < bytes.size();) {
    const size_t size = static_cast<uint8_t>(bytes[at]);
    if (at + 1 + size > bytes.size() || token.addresses.size() >= kMostAddresses) {
      return cut_off();
    }
    auto address = net::Endpoint::parse(bytes.substr(at + 1, size), 0);
    if (!address || address->port == 0) {
      return cut_off();
    }
    token.addresses.push_back(std::move(*address));
    at += 1 + size;
  }
  if (token.addresses.empty()) {
    return cut_off();
  }
  return token;
}

std::string join_transcript(const std::string& session_secret, const std::string& token_id,
                            const std::string& request, const std::string& name) {
  const auto digest = net::sha256(request);
  return with_length("tessera join 1") + with_length(session_secret) + with_length(token_id) +
         with_length(std::string(digest.begin(), digest.end())) + with_length(name);
}

std::string print_text(const net::KeyPrint& print) {
  return wire::to_hex(std::string(print.begin(), print.end()));
}

Result<net::KeyPrint> parse_print(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c != ':' && c != ' ') {
      digits += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  const std::string bytes = wire::from_hex(digits);
  net::KeyPrint print{};
  if (bytes.size() != print.size()) {
    return fail(ErrorKind::kBadInput, "'{}' is not a fingerprint: 64 hexadecimal digits", text);
  }
  std::memcpy(print.data(), bytes.data(), print.size());
  return print;
}

}  // namespace tess::node
