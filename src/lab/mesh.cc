#include "lab/mesh.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "lab/image.h"
#include "sys/namespaces.h"
#include "sys/process.h"

namespace tess::lab {
namespace {

std::string tess_beside(const std::string& tessd) {
  return tessd.substr(0, tessd.rfind('/')) + "/tess";
}

}  // namespace

bool can_ask_nodes(const State& state) {
  return state.spec.tessd.ends_with("/tessd") &&
         ::access(tess_beside(state.spec.tessd).c_str(), X_OK) == 0;
}

Result<bool> sees_all(const State& state, size_t index) {
  const NodeState& node = state.nodes[index];
  const std::string tess = tess_beside(state.spec.tessd);
  TESS_TRY_ASSIGN(const sys::Fd files, sys::open_namespace(node.init.pid, sys::Namespace::kMount));
  sys::SpawnOptions options;
  options.argv = {index == 0 ? tess : program_in_image(tess), "nodes", "--json"};
  options.enter = {{&files, sys::Namespace::kMount}};
  options.env = std::vector<std::string>{"PATH=/usr/bin:/bin"};
  TESS_TRY_ASSIGN(const std::string output, sys::run_tool(options));
  const auto answer = nlohmann::json::parse(output, nullptr, false);
  if (!answer.is_object() || !answer.contains("nodes")) {
    return fail(ErrorKind::kFailed, "`tess nodes` of {} makes no sense: {}", node.name, output);
  }
  const auto& seen = answer["nodes"];
  const auto up = std::count_if(seen.begin(), seen.end(),
                                [](const auto& each) { return each.value("up", false); });
  return static_cast<size_t>(up) == state.nodes.size();
}

}  // namespace tess::lab
