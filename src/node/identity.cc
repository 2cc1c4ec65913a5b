#include "node/identity.h"

#include <algorithm>
#include <filesystem>

#include "net/certificate.h"
#include "sys/files.h"

namespace tess::node {
namespace {

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
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
  return sys::replace_file(certificate, ca.certificate_pem, 0644);
}

Result<> issue_node_certificate(const std::string& ca_dir, const std::string& node_name,
                                const std::string& out_dir) {
  TESS_TRY(check_node_name(node_name));
  net::Certificate ca;
  TESS_TRY_ASSIGN(ca.certificate_pem, sys::read_file(ca_dir + "/ca.crt"));
  TESS_TRY_ASSIGN(ca.key_pem, sys::read_file(ca_dir + "/ca.key"));
  TESS_TRY_ASSIGN(const net::Certificate node, net::issue_certificate(ca, node_name));
  TESS_TRY(sys::make_directories(out_dir, 0755));
  TESS_TRY(sys::replace_file(out_dir + "/node.key", node.key_pem, 0600));
  TESS_TRY(sys::replace_file(out_dir + "/node.crt", node.certificate_pem, 0644));
  return sys::replace_file(out_dir + "/ca.crt", ca.certificate_pem, 0644);
}

}  // namespace tess::node
