// What this node knows about processes besides what their agents say.
#include <algorithm>

#include "node/placer.h"

namespace tess::node {
namespace {

// Why one that has not been moved is where it is; empty: there is nothing to say.
std::string unmoved_because(
    const OwnProcess& own,
    const std::function<std::string(const std::string&, const std::string&)>& name_now) {
  if (own.wishes.home()) {
    return "--home";
  }
  if (own.wishes.stay()) {
    return "--stay";
  }
  std::string text;
  for (int i = 0; i < own.wishes.on_size(); ++i) {
    const std::string id = i < own.wishes.on_id_size() ? own.wishes.on_id(i) : "";
    text += (text.empty() ? "--on " : ",") + name_now(own.wishes.on(i), id);
  }
  return text;
}

}  // namespace

std::string Placer::wish_against(pid_t pid, const std::string& node) const {
  const OwnProcess* own = book_ == nullptr ? nullptr : book_->own_by_pid(pid);
  if (own == nullptr || node == options_.node_name) {
    return {};
  }
  const wire::Wishes& wishes = own->wishes;
  if (wishes.home() || wishes.stay()) {
    return wishes.home() ? "it was started to run at home" : "it was started to stay";
  }
  const auto of = ids();
  placement::Wishes nodes;
  resolve_nodes(wishes, of, nodes);
  const auto has = [target = of(node, "")](const auto& list) {
    return std::find(list.begin(), list.end(), target) != list.end();
  };
  if (has(nodes.avoid) || (!nodes.on.empty() && !has(nodes.on))) {
    return fmt::format("it was started not to run on {}", node);
  }
  return {};
}

void Placer::add_notes(wire::JobTable& table) const {
  if (book_ == nullptr) {
    return;
  }
  for (const auto& [key, resident] : book_->residents()) {
    wire::ProcessNote& note = *table.add_note();
    note.set_job(resident.name.job);
    note.set_inner_pid(resident.name.inner_pid);
    note.set_measured(resident.measured_at != placement::Time());
    note.set_cores(resident.cores);
  }
  const auto name_now = [this](const std::string& node, const std::string& id) {
    return this->name_now(node, id);
  };
  for (const auto& [key, own] : book_->owns()) {
    std::string cause;
    std::string why;
    const auto& moves = own.log.moves();
    const auto last = std::find_if(moves.rbegin(), moves.rend(), [](const auto& move) {
      return move.outcome == placement::Outcome::kMoved;
    });
    if (last != moves.rend()) {
      cause = placement::to_text(last->decision.cause);
      why = last->decision.text();
    } else if (why = unmoved_because(own, name_now); !why.empty()) {
      cause = placement::to_text(placement::Cause::kWish);
    } else {
      continue;
    }
    wire::ProcessNote& note = *table.add_note();
    note.set_job(own.name.job);
    note.set_inner_pid(own.name.inner_pid);
    note.set_cause(cause);
    note.set_why(why);
  }
}

}  // namespace tess::node
