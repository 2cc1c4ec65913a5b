// What this node knows about processes besides what their agents say.
#include <algorithm>

#include "node/placer.h"

namespace tess::node {
namespace {

// Why one that has not been moved is where it is; empty: there is nothing to say.
std::string unmoved_because(const OwnProcess& own) {
  if (own.wishes.home()) {
    return "--home";
  }
  if (own.wishes.stay()) {
    return "--stay";
  }
  std::string text;
  for (const std::string& node : own.wishes.on()) {
    text += (text.empty() ? "--on " : ",") + node;
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
  const auto has = [&node](const auto& list) {
    return std::find(list.begin(), list.end(), node) != list.end();
  };
  if (wishes.home() || wishes.stay()) {
    return wishes.home() ? "it was started to run at home" : "it was started to stay";
  }
  if (has(wishes.avoid()) || (!wishes.on().empty() && !has(wishes.on()))) {
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
    } else if (why = unmoved_because(own); !why.empty()) {
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
