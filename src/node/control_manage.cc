// ControlApi: which processes that nobody started under Tessera the cluster may move.
#include "node/control_request.h"

namespace tess::node {

using nlohmann::json;

json ControlApi::managed_json(uid_t caller) const {
  json rules = json::array();
  for (const ManageRule& rule : manager_->rules().all()) {
    rules.push_back(
        {{"kind", to_text(rule.kind)}, {"pattern", rule.pattern}, {"owner", rule.owner}});
  }
  json processes = json::array();
  for (const auto& one : manager_->watched()) {
    if (caller == 0 || caller == one.uid) {
      processes.push_back({{"pid", one.pid},
                           {"uid", one.uid},
                           {"command", one.command},
                           {"rule", one.rule},
                           {"node", one.node.empty() ? options_.node_name : one.node},
                           {"excluded", one.excluded}});
    }
  }
  return {{"node", options_.node_name},
          {"rules", std::move(rules)},
          {"processes", std::move(processes)}};
}

// {"action": "add", "remove" or "list"}; the CLI looks up users' names, where waiting for a
// directory server harms nobody.
void ControlApi::op_manage(const RequestPtr& request) {
  const uid_t caller = request->caller.uid;
  const std::string action = request->text("action");
  if (action == "list") {
    request->ok(managed_json(caller));
    return;
  }
  if (action != "add" && action != "remove") {
    request->error("bad_request", "action is add, remove or list");
    return;
  }
  const auto number = request->body.find("user");
  const bool has_user = number != request->body.end() && number->is_number_unsigned();
  const uid_t user = has_user ? number->get<uid_t>() : static_cast<uid_t>(-1);
  const auto rule = make_rule(request->text("kind"), request->text("pattern"), user, caller);
  if (!rule) {
    request->error(rule.error());
    return;
  }
  if (rule->kind == ManageRule::Kind::kUser && !has_user) {
    request->error("bad_request", "user is missing: the number of the user");
    return;
  }
  if (rule->kind == ManageRule::Kind::kUser && caller != 0 && caller != user) {
    request->error("not_permitted",
                   "only root may have processes of others moved; a user may have his own");
    return;
  }
  const auto done = action == "add" ? manager_->add(*rule) : manager_->remove(*rule, caller);
  done ? request->ok({{"rule", rule->text()}}) : request->error(done.error());
}

}  // namespace tess::node
