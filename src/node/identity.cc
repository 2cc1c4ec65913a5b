#include "node/identity.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "net/certificate.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

constexpr size_t kKeySize = 32;

// The key, or an empty text.
std::string read_key(const std::string& text) {
  const std::string key = wire::from_hex(text.substr(0, text.find_last_not_of(" \n\r") + 1));
  return key.size() == kKeySize ? key : std::string();
}

}  // namespace

Result<> check_node_name(const std::string& name) {
  if (name.empty() || name.size() > 63 || name[0] == '-' || name[0] == '.' ||
      !std::all_of(name.begin(), name.end(), is_name_character)) {
    return fail(
        ErrorKind::kBadInput,
        "'{}' is not a node name: 1 to 63 letters, digits, '-', '_' or '.', starting with a "
        "letter or digit",
        name);
  }
  return {};
}

Result<> make_cluster_ca(const std::string& dir) {
  TESS_TRY(sys::make_directories(dir, 0755));
  const std::string key = dir + "/ca.key";
  const std::string certificate = dir + "/ca.crt";
  for (const std::string& path : {key, certificate}) {
    if (std::filesystem::exists(path)) {
      return fail(ErrorKind::kNotPossible,
                  "{} exists: a new CA would cut this node off from its cluster; remove the file "
                  "first if that is what you want",
                  path);
    }
  }
  TESS_TRY_ASSIGN(const net::Certificate ca, net::make_ca("Tessera cluster CA"));
  TESS_TRY(sys::replace_file(key, ca.key_pem, 0600));
  TESS_TRY(ensure_cluster_key(dir));
  return sys::replace_file(certificate, ca.certificate_pem, 0644);
}

Result<> issue_node_certificate(const std::string& ca_dir, const std::string& node_name,
                                const std::string& out_dir) {
  TESS_TRY(check_node_name(node_name));
  net::Certificate ca;
  TESS_TRY_ASSIGN(ca.certificate_pem, sys::read_file(ca_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(ca.key_pem, sys::read_file(ca_dir + "/ca.key"));
  TESS_TRY_ASSIGN(const net::Certificate node, net::issue_certificate(ca, node_name));
  TESS_TRY(ensure_cluster_key(ca_dir));  // of a CA that is older than such keys
  TESS_TRY_ASSIGN(const std::string cluster_key, sys::read_file(ca_dir + "/cluster.key"));
  TESS_TRY(sys::make_directories(out_dir, 0755));
  TESS_TRY(sys::replace_file(out_dir + "/cluster.key", cluster_key, 0600));
  TESS_TRY(sys::replace_file(out_dir + "/node.key", node.key_pem, 0600));
  TESS_TRY(sys::replace_file(out_dir + "/node.crt", node.certificate_pem, 0644));
  return sys::replace_file(out_dir + "/ca.crt", ca.certificate_pem, 0644);
}

Result<> ensure_cluster_key(const std::string& dir) {
  const std::string path = dir + "/cluster.key";
  if (std::filesystem::exists(path)) {
    return {};
  }
  std::string key(32, '\0');
  if (::getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
    return fail_errno("get random bytes");
  }
  return sys::replace_file(path, wire::to_hex(key) + "\n", 0600);
}

Result<> check_cluster_key(const std::string& text) {
  if (read_key(text).empty()) {
    return fail(ErrorKind::kBadInput, "not a cluster's key: 64 hexadecimal digits");
  }
  return {};
}

Result<ClusterIdentity> load_cluster_identity(const std::string& dir) {
  auto text = sys::read_file(dir + "/cluster.key");
  if (!text) {
    return fail_with(std::move(text.error()),
                     "read the cluster's key (`tess init` makes it where the cluster was made; "
                     "copy it to {} on the other nodes)",
                     dir);
  }
  const std::string key = read_key(*text);
  ClusterIdentity identity;
  if (key.empty()) {
    return fail(ErrorKind::kBadInput, "{}/cluster.key is not 64 hexadecimal digits", dir);
  }
  std::memcpy(identity.key.data(), key.data(), key.size());
  TESS_TRY_ASSIGN(const std::string node, sys::read_file(dir + "/node.crt"));
  TESS_TRY_ASSIGN(const auto node_print, net::key_fingerprint(node));
  std::copy_n(node_print.begin(), identity.node.size(), identity.node.begin());
  TESS_TRY_ASSIGN(const std::string ca, sys::read_file(dir + "/ca.crt"));
  TESS_TRY_ASSIGN(const auto ca_print, net::key_fingerprint(ca));
  for (size_t i = 0; i < 4; ++i) {
    identity.cluster = identity.cluster << 8 | ca_print[i];
  }
  return identity;
}

}  // namespace tess::node
