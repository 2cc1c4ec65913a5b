#include "migrate/coordinator.h"

#include <algorithm>

namespace tess::migrate {
namespace {

std::vector<Step> forward_steps(Kind kind) {
  switch (kind) {
    case Kind::kOut:
      return {Step::kReserve,   Step::kFreeze,  Step::kTransfer, Step::kConnect,
              Step::kRunTarget, Step::kJournal, Step::kSwitch};
    case Kind::kHop:
      return {Step::kReserve,   Step::kFreeze,  Step::kTransfer, Step::kConnect,
              Step::kRunTarget, Step::kJournal, Step::kSwitch,   Step::kDropSource};
    case Kind::kBack:
      return {Step::kFreeze, Step::kTransfer, Step::kJournal, Step::kSwitch, Step::kDropSource};
  }
  return {};
}

}  // namespace

Coordinator::Coordinator(Kind kind) : kind_(kind), plan_(forward_steps(kind)) {}

std::optional<Step> Coordinator::next() const {
  return at_ < plan_.size() ? std::optional(plan_[at_]) : std::nullopt;
}

void Coordinator::done() {
  if (at_ >= plan_.size()) {
    return;
  }
  const Step step = plan_[at_++];
  if (!undoing_) {
    begun_.push_back(step);
    committed_ = committed_ || step == Step::kJournal;
  }
}

void Coordinator::failed(std::string reason) {
  if (at_ >= plan_.size()) {
    return;
  }
  if (reason_.empty()) {
    reason_ = std::move(reason);
  }
  const Step step = plan_[at_];
  if (undoing_ || committed_) {
    // Nothing to go back to: the rest is still to be done, each of it stands alone.
    ++at_;
    return;
  }
  begun_.push_back(step);
  start_undo();
}

void Coordinator::start_undo() {
  const auto begun = [&](Step step) {
    return std::find(begun_.begin(), begun_.end(), step) != begun_.end();
  };
  undoing_ = true;
  at_ = 0;
  plan_.clear();
  if (begun(Step::kTransfer) && kind_ != Kind::kBack) {
    plan_.push_back(Step::kDropTarget);
  }
  if (begun(Step::kFreeze)) {
    if (kind_ != Kind::kOut) {
      plan_.push_back(Step::kThawSource);
    }
    plan_.push_back(Step::kReleaseHome);
  }
}

std::string_view name(Kind kind) {
  switch (kind) {
    case Kind::kOut:
      return "out";
    case Kind::kHop:
      return "hop";
    case Kind::kBack:
      return "back";
  }
  return "?";
}

std::string_view name(Step step) {
  switch (step) {
    case Step::kReserve:
      return "reserve";
    case Step::kFreeze:
      return "freeze";
    case Step::kTransfer:
      return "transfer";
    case Step::kConnect:
      return "connect";
    case Step::kRunTarget:
      return "run_target";
    case Step::kJournal:
      return "journal";
    case Step::kSwitch:
      return "switch";
    case Step::kDropSource:
      return "drop_source";
    case Step::kDropTarget:
      return "drop_target";
    case Step::kThawSource:
      return "thaw_source";
    case Step::kReleaseHome:
      return "release_home";
  }
  return "?";
}

std::string fault_point(Kind kind, bool after, Step step) {
  return std::string(name(kind)) + (after ? ".after_" : ".before_") + std::string(name(step));
}

std::vector<std::string> fault_points() {
  std::vector<std::string> points;
  for (const Kind kind : {Kind::kOut, Kind::kHop, Kind::kBack}) {
    for (const Step step : forward_steps(kind)) {
      points.push_back(fault_point(kind, false, step));
      points.push_back(fault_point(kind, true, step));
    }
  }
  return points;
}

}  // namespace tess::migrate
