#include "node/join_client.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "net/charter.h"
#include "net/tls_stream.h"
#include "node/identity.h"
#include "node/version.h"
#include "sys/files.h"
#include "wire/frame.h"
#include "wire/join.pb.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{5'000};
constexpr milliseconds kAnswerTimeout{30'000};
constexpr milliseconds kApprovalTimeout{20 * 60 * 1000};  // longer than the server lets us wait
constexpr uint32_t kAnswerMost = 1 << 20;
constexpr const char* kNodeFiles[] = {"ca.crt", "node.crt", "node.key", "cluster.key"};

// A new key, or that of an attempt before.
Result<std::string> joining_key(const std::string& state_dir) {
  const std::string path = state_dir + "/joining.key";
  if (std::filesystem::exists(path)) {
    if (auto kept = sys::read_file(path); kept && net::make_request(*kept)) {
      return kept;
    }
  }
  TESS_TRY(sys::make_directories(state_dir, 0755));
  TESS_TRY_ASSIGN(const std::string key, net::make_key());
  TESS_TRY(sys::replace_file(path, key, 0600));
  return key;
}

struct Attempt {
  const JoinWish& wish;
  std::string request;  // PKCS#10
  net::KeyPrint key{};
  net::KeyPrint ca{};  // as the server has shown
};

Result<std::unique_ptr<net::TlsStream>> connect(const JoinWish& wish, const net::Endpoint& server,
                                                Attempt& attempt) {
  TESS_TRY_ASSIGN(const net::TlsContext context, net::TlsContext::for_joining(wish.ca));
  TESS_TRY_ASSIGN(auto stream,
                  net::TlsStream::connect(context, server.address, server.port, kConnectTimeout));
  TESS_TRY_ASSIGN(attempt.ca, stream->peer_ca());
  if (wish.ca) {
    attempt.ca = *wish.ca;
  } else if (!wish.believes || !wish.believes(server, attempt.ca)) {
    return fail(ErrorKind::kBadInput, "the cluster's fingerprint was not accepted");
  }
  return stream;
}

Result<> send_request(net::TlsStream& stream, const Attempt& attempt) {
  wire::JoinRequest request;
  request.set_format(kJoinFormat);
  request.set_version(kVersion);
  request.set_name(attempt.wish.name);
  request.set_request(attempt.request);
  if (attempt.wish.token) {
    const JoinToken& token = *attempt.wish.token;
    TESS_TRY_ASSIGN(const std::string session, stream.session_secret());
    TESS_TRY_ASSIGN(
        const std::string proof,
        net::prove(token.secret, kTokenContext,
                   join_transcript(session, token.id, attempt.request, attempt.wish.name)));
    request.set_token(token.id);
    request.set_proof(proof);
  }
  return wire::write_frame(stream, request, kAnswerTimeout);
}

Result<wire::JoinGranted> converse(const net::Endpoint& server, Attempt& attempt) {
  TESS_TRY_ASSIGN(const auto stream, connect(attempt.wish, server, attempt));
  TESS_TRY(send_request(*stream, attempt));
  milliseconds patience = kAnswerTimeout;
  while (true) {
    wire::JoinAnswer answer;
    TESS_TRY(wire::read_frame(*stream, answer, patience, kAnswerMost));
    switch (answer.body_case()) {
      case wire::JoinAnswer::kGranted:
        return std::move(*answer.mutable_granted());
      case wire::JoinAnswer::kRefused:
        return fail(ErrorKind::kNotPossible, "{} refuses: {}", server.to_string(),
                    answer.refused().reason());
      case wire::JoinAnswer::kPending:
        patience = kApprovalTimeout;
        if (attempt.wish.on_waiting) {
          attempt.wish.on_waiting(server.to_string(), attempt.key);
        }
        break;
      case wire::JoinAnswer::BODY_NOT_SET:
        return fail(ErrorKind::kBadInput, "{} gives an answer that makes no sense",
                    server.to_string());
    }
  }
}

// The first server that gives an answer, whatever it is.
Result<wire::JoinGranted> ask_servers(Attempt& attempt) {
  std::string failures;
  for (size_t i = 0; i < attempt.wish.servers.size();) {
    const net::Endpoint& server = attempt.wish.servers[i];
    bool waited = false;
    auto granted = converse(server, attempt);
    if (granted || granted.error().kind() == ErrorKind::kBadInput ||
        granted.error().kind() == ErrorKind::kNotPossible) {
      return granted;
    }
    // A server that has gone while it let us wait is asked again; it knows our key.
    waited = !attempt.wish.token && granted.error().kind() == ErrorKind::kDisconnected;
    if (!waited) {
      failures +=
          (failures.empty() ? "" : "; ") + server.to_string() + ": " + granted.error().message();
      ++i;
    } else {
      ::usleep(1'000'000);  // not a wait for anything: an attempt each second at most
    }
  }
  return fail(ErrorKind::kRetry, "nobody could be asked ({})", failures);
}

Result<std::vector<NodeEntry>> check_seeds(const wire::JoinGranted& granted) {
  std::vector<NodeEntry> seeds;
  for (const wire::JoinSeed& seed : granted.seed()) {
    TESS_TRY(check_node_name(seed.name()));
    constexpr std::string_view kKnown = "0123456789abcdefABCDEF.:[]%";
    if (seed.address().find_first_not_of(kKnown) != std::string::npos) {
      return fail(ErrorKind::kBadInput, "the server names an address that is none");
    }
    TESS_TRY_ASSIGN(net::Endpoint at, net::Endpoint::parse(seed.address(), kDefaultPort));
    seeds.push_back({seed.name(), std::move(at)});
  }
  return seeds;
}

// What came must be of the cluster that was asked, and for our key.
Result<> check_granted(const wire::JoinGranted& granted, const Attempt& attempt) {
  TESS_TRY_ASSIGN(const net::KeyPrint ca, net::key_fingerprint(granted.ca()));
  TESS_TRY_ASSIGN(const net::KeyPrint key, net::key_fingerprint(granted.certificate()));
  if (ca != attempt.ca || key != attempt.key || granted.name() != attempt.wish.name) {
    return fail(ErrorKind::kBadInput,
                "the server's answer is not for this machine, or not of its cluster");
  }
  if (!granted.charter().empty()) {
    TESS_TRY(net::Charter::parse(granted.charter(), granted.ca()));
  }
  return check_cluster_key(granted.cluster_key());
}

}  // namespace

bool is_node(const std::string& state_dir) {
  return std::all_of(std::begin(kNodeFiles), std::end(kNodeFiles), [&](const char* name) {
    return std::filesystem::exists(state_dir + "/" + name);
  });
}

Result<Joined> join_cluster(const JoinWish& wish) {
  TESS_TRY(check_node_name(wish.name));
  TESS_TRY_ASSIGN(const std::string key, joining_key(wish.state_dir));
  Attempt attempt{wish, {}, {}, {}};
  TESS_TRY_ASSIGN(attempt.request, net::make_request(key));
  TESS_TRY_ASSIGN(attempt.key, net::request_fingerprint(attempt.request));
  TESS_TRY_ASSIGN(const wire::JoinGranted granted, ask_servers(attempt));
  TESS_TRY(check_granted(granted, attempt));
  Joined joined{granted.name(), attempt.ca, {}};
  TESS_TRY_ASSIGN(joined.seeds, check_seeds(granted));
  // node.crt last: with it this machine is a node.
  const std::string& dir = wish.state_dir;
  TESS_TRY(sys::replace_file(dir + "/cluster.key", granted.cluster_key(), 0600));
  TESS_TRY(sys::replace_file(dir + "/ca.crt", granted.ca(), 0644));
  TESS_TRY(granted.charter().empty()
               ? sys::remove_tree(dir + "/charter")
               : sys::replace_file(dir + "/charter", granted.charter(), 0600));
  TESS_TRY(sys::replace_file(dir + "/node.key", key, 0600));
  TESS_TRY(sys::replace_file(dir + "/node.crt", granted.certificate(), 0644));
  TESS_TRY(sys::remove_tree(dir + "/joining.key"));
  return joined;
}

std::string joined_config(const std::string& name, const std::string& listen,
                          const std::vector<NodeEntry>& seeds) {
  std::string text = fmt::format(
      "# This node of a Tessera cluster: see tessera.toml(5). tessd reads it at start and at "
      "SIGHUP.\n"
      "name = \"{}\"\n"
      "listen = \"{}\"\n"
      "\n"
      "# Whom it asks first; the others it learns from them.\n",
      name, listen);
  for (const NodeEntry& seed : seeds) {
    text += fmt::format("[[node]]\nname = \"{}\"\naddress = \"{}\"\n", seed.name,
                        seed.endpoint.to_string());
  }
  return text;
}

}  // namespace tess::node
