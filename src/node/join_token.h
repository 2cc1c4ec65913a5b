// What `tess token` prints and `tess join` takes: where a server of the cluster is, the fingerprint
// of the CA by which it has to be known, and a secret that proves that the joiner was invited.
// Values only. Bytes: docs/formats/join.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/certificate.h"
#include "net/secret_proof.h"
#include "net/tcp.h"

namespace tess::node {

inline constexpr uint32_t kJoinFormat = 1;
inline constexpr std::string_view kTokenContext = "tessera token 1";

struct JoinToken {
  static constexpr size_t kIdSize = 8;
  static constexpr size_t kMostAddresses = 8;

  std::string id;  // kIdSize bytes
  net::Secret secret{};
  net::KeyPrint ca{};
  std::vector<net::Endpoint> addresses;

  bool operator==(const JoinToken&) const = default;
  std::string text() const;
  // kBadInput says which: not a token at all, cut off or mistyped, of a later version.
  static Result<JoinToken> parse(std::string_view text);
};

// What the proof is over: this connection, this key, this name. So a proof is of no use elsewhere.
std::string join_transcript(const std::string& session_secret, const std::string& token_id,
                            const std::string& request, const std::string& name);

// Fingerprints as people compare them: 64 hex digits, also with ':' or ' ' between and in capitals.
std::string print_text(const net::KeyPrint& print);
Result<net::KeyPrint> parse_print(std::string_view text);

}  // namespace tess::node
