// Daemon: what those that want to join have to be told, and who has which name.
#include <algorithm>
#include <chrono>
#include <csignal>

#include "base/log.h"
#include "node/daemon.h"

namespace tess::node {
namespace {

constexpr size_t kSeedsMost = 8;
constexpr std::chrono::milliseconds kComeHome{60'000};

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
    if (member.name == name && charter_->charter().expels(member.id.bytes)) {
      use = NameUse::kGone;  // its machine still answers knocks
    } else if (member.name == name) {
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

bool Daemon::answer_other(const wire::ClusterMessage& message, const std::string& asker,
                          const Placer::Reply& reply) {
  if (message.has_leaving()) {
    const auto released = admission_.release(asker);
    wire::ClusterMessage answer;
    answer.mutable_done()->set_ok(released.has_value());
    answer.mutable_done()->set_message(released ? "" : released.error().message());
    reply(answer);
    return true;
  }
  return charter_->answer(message, asker, reply) || renewal_->answer(message, asker, reply) ||
         ca_renewal_->answer(message, asker, reply) || rename_->answer(message, asker, reply) ||
         api_->answer(message, asker, reply) || placer_->answer(message, asker, reply);
}

void Daemon::restart() {
  restarts_ = true;
  // Not from within: whoever has asked hears of it first.
  loop_.post([this] { stop(); });
}

// New connections show the new one.
void Daemon::use_certificate() {
  auto context = net::TlsContext::load(paths_.state_dir, true);
  if (!context) {
    log::error("node", "event=certificate_unreadable reason=\"{}\"", context.error().message());
    return;
  }
  cluster_->set_context(std::move(*context));
}

void Daemon::on_charter(const net::Charter& charter) {
  auto context = net::TlsContext::load(paths_.state_dir, true);
  if (!context) {
    // Without it somebody expelled might be talked to: better nobody.
    log::error("node", "event=charter_unreadable reason=\"{}\"", context.error().message());
    stop();
    return;
  }
  cluster_->set_context(std::move(*context));
  if (gossip_ != nullptr) {
    heed_charter();
  }
  // At once: the next that is done may be to tell all that are connected, and they must not be.
  for (const auto& one : charter.expelled) {
    apply_expulsion(one);
  }
  loop_.post([this] { cluster_->set_nodes(known_nodes()); });
}

// What datagrams and members are like by the charter in force.
void Daemon::heed_charter() {
  const net::Charter& charter = charter_->charter();
  gossip_->set_keys(charter.keys);
  std::vector<cluster::NodeId> expelled;
  for (const auto& one : charter.expelled) {
    expelled.push_back({one.id});
  }
  gossip_->shut_out(expelled);
}

// Ends what that node still has to do with this one. Its name may be another's by now.
void Daemon::apply_expulsion(const net::Charter::Expelled& one) {
  if (!expulsions_applied_.insert(one.id).second) {
    return;
  }
  log::warn("node", "event=expelled node={}", one.name);
  cluster_->disconnect(one.name, "it was expelled from the cluster");
  for (const auto& agent : hub_->all()) {
    if (agent->role == wire::Register::HOST && agent->home_node == one.name) {
      (void)agent->process.signal(SIGTERM);  // its guests go home
      continue;
    }
    const auto& processes = agent->status.process();
    if (std::any_of(processes.begin(), processes.end(),
                    [&](const auto& process) { return process.node() == one.name; })) {
      wire::AgentDown ask;
      ask.mutable_bring_home();
      hub_->ask(agent, std::move(ask), kComeHome, [](const auto&) {});
    }
  }
}

}  // namespace tess::node
