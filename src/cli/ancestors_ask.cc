// What the ancestors' names have to know of the cluster, from tessd.
#include <nlohmann/json.hpp>

#include "cli/ancestors.h"
#include "cli/client.h"

namespace tess::cli {
namespace {

using nlohmann::json;

Result<json> ask_quietly(const char* operation) {
  TESS_TRY_ASSIGN(Client client, Client::connect());
  TESS_TRY(client.send({{"op", operation}}));
  TESS_TRY_ASSIGN(json answer, client.receive());
  if (!answer.value("ok", false)) {
    return fail(ErrorKind::kFailed, "{}", answer.value("error", "tessd gives no reason"));
  }
  return answer;
}

Result<std::string> this_node() {
  TESS_TRY_ASSIGN(const json answer, ask_quietly("ping"));
  return answer.value("node", "");
}

Result<std::string> node_at(const std::string& address) {
  TESS_TRY_ASSIGN(const json answer, ask_quietly("nodes"));
  for (const json& node : answer.value("nodes", json::array())) {
    const std::string at = node.value("address", "");
    if (at.substr(0, at.rfind(':')) == address) {
      return node.value("name", "");
    }
  }
  return fail(ErrorKind::kNotPossible, "no node has the address {}; `tess nodes` lists them",
              address);
}

Result<bool> is_up(const std::string& name) {
  TESS_TRY_ASSIGN(const json answer, ask_quietly("nodes"));
  for (const json& node : answer.value("nodes", json::array())) {
    if (node.value("name", "") == name) {
      return node.value("up", false);
    }
  }
  return false;
}

Result<std::string> best_other() {
  TESS_TRY_ASSIGN(const std::string self, this_node());
  TESS_TRY_ASSIGN(const json answer, ask_quietly("best"));
  for (const json& node : answer.value("nodes", json::array())) {
    if (node.value("name", "") != self) {
      return node.value("name", "");
    }
  }
  return fail(ErrorKind::kRetry, "no other node takes guests now");
}

}  // namespace

Lookup ask_tessd() {
  return {this_node, node_at, is_up, best_other};
}

}  // namespace tess::cli
