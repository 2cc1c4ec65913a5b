// Daemon: what those that want to join have to be told, and who has which name.
#include <algorithm>
#include <chrono>

#include "node/daemon.h"

namespace tess::node {
namespace {

constexpr size_t kSeedsMost = 8;

bool is_wildcard(const std::string& address) {
  return address == "0.0.0.0" || address == "::";
}

}  // namespace

Admission::Environment Daemon::admission_environment() {
  Admission::Environment environment;
  environment.state_dir = paths_.state_dir;
  environment.node_name = config_.name;
  environment.now = [] {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  environment.name_use = [this](const std::string& name) { return name_use(name); };
  environment.seeds = [this](const std::string& local_address) { return seeds(local_address); };
  return environment;
}

NameUse Daemon::name_use(const std::string& name) const {
  if (name == config_.name) {
    return NameUse::kPresent;
  }
  NameUse use = NameUse::kFree;
  for (const auto& node : cluster_->nodes()) {
    if (node.name == name) {
      if (node.up) {
        return NameUse::kPresent;
      }
      use = NameUse::kGone;
    }
  }
  if (gossip_ == nullptr) {
    return use;
  }
  for (const auto& member : gossip_->view().members) {
    if (member.name == name) {
      if (member.state == cluster::MemberState::kAlive ||
          member.state == cluster::MemberState::kSuspect) {
        return NameUse::kPresent;
      }
      use = NameUse::kGone;
    }
  }
  return use;
}

std::vector<NodeEntry> Daemon::seeds(const std::string& local_address) const {
  std::vector<NodeEntry> list;
  if (const auto at = cluster_->listening()) {
    const std::string& address = is_wildcard(at->address) ? local_address : at->address;
    list.push_back({config_.name, {address, at->port}});
  }
  for (const auto& node : cluster_->nodes()) {
    if (node.up && list.size() < kSeedsMost) {
      list.push_back({node.name, node.endpoint});
    }
  }
  return list;
}

}  // namespace tess::node
