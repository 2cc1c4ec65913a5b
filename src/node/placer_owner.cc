// Placer: the machine's owner comes first.
#include "base/log.h"
#include "node/placer.h"

namespace tess::node {
namespace {

OwnerRule::Time now() {
  return std::chrono::duration_cast<OwnerRule::Time>(
      std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace

void Placer::watch_owner() {
  owner_watch_.reset();
  if (options_.owner == OwnerKind::kOff) {
    return;
  }
  auto watch = OwnerWatch::start(
      loop_, [kind = options_.owner] { return owner_devices(kind); },
      [this] {
        owner_rule_.touched(now());
        if (!load_.owner_active) {
          // Not at the next round: the first key should find the machine his.
          loop_.post([this] { tick(); });
        }
      });
  if (!watch) {
    log::error("node", "event=no_owner_watch reason=\"{}\"", watch.error().message());
    return;
  }
  owner_watch_ = std::move(*watch);
}

void Placer::look_for_owner() {
  if (owner_watch_ != nullptr) {
    owner_watch_->look();
  }
  owner_rule_.loaded(now(), others_);
  const bool present = options_.owner != OwnerKind::kOff && owner_rule_.present(now());
  if (present != owner_present_) {
    owner_present_ = present;
    log::info("node", "event=owner_{}", present ? "back" : "away");
  }
  load_.owner_active = present;
}

void Placer::set_owner(OwnerKind owner, const OwnerRule::Options& rule, double reserve) {
  options_.reserve = reserve;
  options_.owner_rule = rule;
  owner_rule_ = OwnerRule(rule);
  if (options_.owner != owner) {
    options_.owner = owner;
    watch_owner();
  }
}

}  // namespace tess::node
