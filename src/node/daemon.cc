#include "node/daemon.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/log.h"
#include "memory/cpu_features.h"
#include "node/proc_info.h"
#include "node/version.h"
#include "sys/files.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStopTimeout{15000};
constexpr milliseconds kPrepareTimeout{10000};
constexpr uint64_t kMemoryReserve = 64 << 20;  // a host keeps so much for itself

bool is_wildcard(const std::string& address) {
  return address == "0.0.0.0" || address == "::";
}

wire::HostPrepared refusal(const std::string& message) {
  wire::HostPrepared answer;
  answer.set_ok(false);
  answer.set_message(message);
  return answer;
}

std::vector<net::Endpoint> addresses_of(const std::vector<NodeEntry>& nodes) {
  std::vector<net::Endpoint> addresses;
  addresses.reserve(nodes.size());
  for (const NodeEntry& node : nodes) {
    addresses.push_back(node.endpoint);
  }
  return addresses;
}

double mebibytes(uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

}  // namespace

Daemon::Daemon(net::Loop& loop, DaemonPaths paths, Config config, net::TlsContext context)
    : loop_(loop),
      paths_(std::move(paths)),
      config_(std::move(config)),
      settings_(paths_.state_dir),
      admission_(admission_environment()),
      cpu_features_(memory::host_cpu_features()) {
  service_.node_info = [this] { return node_info(); };
  service_.job_table = [this] { return job_table(); };
  service_.prepare_host = [this](const wire::PrepareHost& request, const std::string& asker,
                                 const std::string& local_address) {
    return prepare_host(request, asker, local_address);
  };
  service_.other = [this](const wire::ClusterMessage& message, const std::string& asker,
                          const Placer::Reply& reply) {
    return answer_other(message, asker, reply);
  };
  service_.charter_serial = [this] { return charter_->charter().serial; };
  service_.ca_until = [this] { return ca_renewal_->until(); };
  service_.holds_ca = [this] { return admission_.holds_ca(); };
  service_.on_hello = [this](const std::string& node, const wire::ClusterHello& hello) {
    charter_->on_peer(node, hello.charter_serial());
    ca_renewal_->on_peer(node, hello.ca_until());
    renewal_->on_peer(node, hello.holds_ca());
  };
  service_.on_lost = [this](const std::string& node_id) {
    cluster::NodeId id;
    if (gossip_ != nullptr && node_id.size() == id.bytes.size()) {
      std::copy(node_id.begin(), node_id.end(), id.bytes.begin());
      // Not from within the connection's own call.
      loop_.post([this, id] { gossip_->lost_connection(id); });
    }
  };
  service_.join = [this](const wire::JoinRequest& request, const JoinPeer& peer,
                         const Admission::Reply& reply) {
    admission_.on_request(request, peer, reply);
  };
  AgentHub::Events events;
  events.status = [this](const Agent&) { placer_->on_status(); };
  events.need_host = [this](const Agent& agent, const wire::NeedHost& need, auto reply) {
    need_host(agent, need, reply);
  };
  events.place_program = [this](const Agent& agent, const wire::PlaceProgram& ask, auto reply) {
    placer_->place_program(agent, ask, std::move(reply));
  };
  events.fetch_home = [this](const Agent&, const wire::FetchHome& ask, auto reply) {
    api_->fetch_home(ask.pid(), std::move(reply));
  };
  events.transfer = [this](const Agent& agent, const wire::Transfer& transfer) {
    placer_->on_transfer(agent, transfer);
  };
  events.job_log = [this](const Agent& agent, const wire::JobLog& entry) {
    api_->on_job_log(agent, entry);
  };
  hub_ = std::make_unique<AgentHub>(
      loop_, AgentHub::Options{paths_.run_dir, paths_.agent_binary, config_.name},
      std::move(events));
  ClusterOptions options;
  options.node_name = config_.name;
  options.version = kVersion;
  if (const auto id = load_cluster_identity(paths_.state_dir)) {
    options.node_id.assign(id->node.begin(), id->node.end());
  }
  cluster_ = std::make_unique<Cluster>(loop_, std::move(context), options, service_);
  charter_ =
      std::make_unique<CharterKeeper>(loop_, CharterKeeper::Options{paths_.state_dir}, *cluster_,
                                      [this](const net::Charter& charter) { on_charter(charter); });
  renewal_ = std::make_unique<CertificateRenewal>(
      loop_, CertificateRenewal::Options{paths_.state_dir, config_.name}, *cluster_, admission_,
      [this] { use_certificate(); });
  ca_renewal_ = std::make_unique<CaRenewal>(loop_, CaRenewal::Options{paths_.state_dir}, *cluster_,
                                            [this] { use_certificate(); });
  rename_ = std::make_unique<NodeRename>(
      NodeRename::Options{paths_.state_dir, paths_.config, config_.name}, *cluster_, admission_,
      *renewal_, [this] { restart(); });
  placer_ =
      std::make_unique<Placer>(loop_,
                               Placer::Options{config_.name, paths_.state_dir, config_.balance,
                                               config_.owner, config_.owner_rule, config_.reserve},
                               *hub_, *cluster_);
  manager_ = std::make_unique<Manager>(paths_.state_dir, *hub_);
  if (const auto loaded = manager_->load(); !loaded) {
    log::error("node", "event=rules_ignored reason=\"{}\"", loaded.error().message());
  }
  placer_->attach(*manager_);
  if (const auto loaded = settings_.load(); !loaded) {
    log::error("node", "event=settings_ignored reason=\"{}\"", loaded.error().message());
  }
  apply_settings();
  api_ = std::make_unique<ControlApi>(
      loop_, ControlApi::Options{config_.name, kVersion, config_.listen.to_string()}, *hub_,
      *cluster_, service_, admission_, *charter_, [this] { stop(); });
  api_->attach(*manager_);
  api_->attach(*renewal_, *ca_renewal_, *rename_);
  control_ = std::make_unique<ControlServer>(
      loop_,
      [this](const Caller& caller, const std::string& line, std::shared_ptr<ControlReply> reply) {
        api_->handle(caller, line, std::move(reply));
      });
}

Daemon::~Daemon() = default;

Result<std::unique_ptr<Daemon>> Daemon::start(net::Loop& loop, const DaemonPaths& paths) {
  TESS_TRY(NodeRename::finish(paths.state_dir, paths.config));
  TESS_TRY_ASSIGN(Config config, load_config(paths.config));
  TESS_TRY_ASSIGN(net::TlsContext context, net::TlsContext::load(paths.state_dir, true));
  if (context.node_name() != config.name) {
    return fail(ErrorKind::kNotPossible,
                "{} names this node '{}', but its certificate {}/node.crt is of '{}'; make them "
                "agree (`tess init` issues a certificate)",
                paths.config, config.name, paths.state_dir, context.node_name());
  }
  std::unique_ptr<Daemon> daemon(new Daemon(loop, paths, std::move(config), std::move(context)));
  TESS_TRY(sys::make_directories(paths.run_dir, 0755));
  TESS_TRY(daemon->lock_run_dir());
  TESS_TRY(daemon->charter_->start());
  for (const auto& one : daemon->charter_->charter().expelled) {
    daemon->expulsions_applied_.insert(one.id);  // nothing of theirs is here
  }
  TESS_TRY(daemon->hub_->listen());
  TESS_TRY(daemon->cluster_->listen(daemon->config_.listen));
  TESS_TRY(daemon->control_->listen(paths.run_dir + "/control.sock"));
  TESS_TRY(daemon->start_gossip());
  TESS_TRY(daemon->start_metrics());
  daemon->start_batch();
  log::info("node", "event=started node={} version={} listen={} nodes={}", daemon->config_.name,
            kVersion, daemon->config_.listen.to_string(), daemon->config_.nodes.size());
  return daemon;
}

void Daemon::apply_settings() {
  placer_->set_policy(settings_.policy());
  placer_->set_balance(settings_.balance().value_or(config_.balance));
}

Result<> Daemon::start_gossip() {
  Gossip::Options options;
  options.name = config_.name;
  TESS_TRY_ASSIGN(options.listen, cluster_->listening());
  TESS_TRY_ASSIGN(options.identity, load_cluster_identity(paths_.state_dir));
  options.seeds = addresses_of(config_.nodes);
  options.beacons = config_.beacons;
  TESS_TRY_ASSIGN(gossip_,
                  Gossip::start(loop_, options, placer_->first_load(),
                                [this](const cluster::Event& event) { on_member(event); }));
  heed_charter();
  api_->attach(*gossip_, *placer_, settings_, [this] { apply_settings(); });
  placer_->start(*gossip_);
  ca_renewal_->start();
  renewal_->start();
  cluster_->set_nodes(known_nodes());
  return {};
}

std::vector<NodeEntry> Daemon::known_nodes() const {
  std::map<std::string, net::Endpoint> nodes;
  for (const NodeEntry& entry : config_.nodes) {
    nodes[entry.name] = entry.endpoint;
  }
  std::map<std::string, std::vector<net::Endpoint>> present;
  const auto view = gossip_ != nullptr ? gossip_->view() : cluster::ClusterView();
  for (const auto& member : view.members) {
    const bool is_there = member.state == cluster::MemberState::kAlive ||
                          member.state == cluster::MemberState::kSuspect;
    const auto at = net::Endpoint::parse(member.address, kDefaultPort);
    const bool expelled = charter_->charter().expels(member.id.bytes);
    if (member.id != gossip_->id() && member.name != config_.name && is_there && at && !expelled) {
      present[member.name].push_back(*at);
    }
  }
  for (const auto& [name, endpoints] : present) {
    // A node that is called otherwise now is not looked for by its old name.
    std::erase_if(nodes, [&own = name, &endpoints = endpoints](const auto& entry) {
      return entry.first != own && entry.second == endpoints.front();
    });
    // Of two with one name the one that we are connected with.
    const auto held = std::find_if(
        endpoints.begin(), endpoints.end(),
        [this, &own = name](const auto& endpoint) { return cluster_->is_up_at(own, endpoint); });
    nodes[name] = held != endpoints.end() ? *held : endpoints.front();
  }
  std::vector<NodeEntry> list;
  list.reserve(nodes.size());
  for (const auto& [name, endpoint] : nodes) {
    list.push_back({name, endpoint});
  }
  return list;
}

void Daemon::on_member(const cluster::Event& event) {
  log::info("node", "event=member_{} id={} incarnation={}", cluster::to_text(event.kind),
            event.node.text(), event.incarnation);
  if (event.kind == cluster::EventKind::kIdentityClash) {
    log::error("node",
               "event=identity_clash text=\"another machine uses this node's key: issue a "
               "certificate for each\"");
  }
  // Not from within: this may be the end of a turn that a connection began.
  loop_.post([this] { cluster_->set_nodes(known_nodes()); });
}

Result<> Daemon::lock_run_dir() {
  const std::string path = paths_.run_dir + "/tessd.pid";
  pid_file_ = sys::Fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!pid_file_.valid()) {
    return fail_errno("open {}", path);
  }
  if (::flock(pid_file_.get(), LOCK_EX | LOCK_NB) != 0) {
    const auto other = sys::read_file(path);
    return fail(ErrorKind::kNotPossible, "tessd is already running here (process {}); {} is locked",
                other ? other->substr(0, other->find('\n')) : "unknown", path);
  }
  const std::string text = fmt::format("{}\n", ::getpid());
  if (::ftruncate(pid_file_.get(), 0) != 0) {
    return fail_errno("truncate {}", path);
  }
  return sys::write_all(pid_file_, std::as_bytes(std::span(text)));
}

wire::NodeInfo Daemon::node_info() {
  constexpr std::chrono::seconds kFresh(1);  // every other node asks
  const auto now = std::chrono::steady_clock::now();
  if (facts_at_ == std::chrono::steady_clock::time_point() || now - facts_at_ > kFresh) {
    facts_ = machine_facts().value_or(MachineFacts());
    facts_at_ = now;
  }
  wire::NodeInfo info;
  info.set_cores(facts_.cores);
  info.set_memory_bytes(facts_.memory_bytes);
  info.set_memory_free_bytes(facts_.memory_free_bytes);
  info.set_load(facts_.load);
  info.set_kernel(facts_.kernel);
  info.set_cpu_features(cpu_features_);
  info.set_version(kVersion);
  uint32_t guests = 0;
  for (const auto& agent : hub_->all()) {
    if (agent->role == wire::Register::HOST) {
      guests += static_cast<uint32_t>(agent->status.process_size());
    }
  }
  info.set_guests(guests);
  return info;
}

wire::JobTable Daemon::job_table() const {
  wire::JobTable table;
  auto agents = hub_->all();
  manager_->add_candidates(agents);
  for (const auto& agent : agents) {
    if (agent->status.process_size() == 0) {
      continue;
    }
    wire::JobStatus& job = *table.add_job();
    job = agent->status;
    job.set_job(agent->job);
    for (wire::JobProcess& process : *job.mutable_process()) {
      if (agent->role == wire::Register::HOST) {
        process.set_state("guest");
        process.set_home_node(agent->home_node);
        process.set_node(config_.name);
        continue;
      }
      process.set_home_node(config_.name);
      if (process.node().empty()) {
        process.set_node(config_.name);
      }
    }
  }
  placer_->add_notes(table);
  return table;
}

wire::HostPrepared Daemon::prepare_host(const wire::PrepareHost& request, const std::string& asker,
                                        const std::string& local_address) {
  if (stopping_) {
    return refusal(fmt::format("node {} is stopping", config_.name));
  }
  if (request.home_node() != asker) {
    return refusal(fmt::format("node {} asks in the name of {}", asker, request.home_node()));
  }
  const auto facts = machine_facts();
  if (facts && request.memory_bytes() + kMemoryReserve > facts->memory_free_bytes) {
    return refusal(
        fmt::format("node {} has too little memory: {:.0f} MiB are free, the process needs {:.0f} "
                    "MiB (and {:.0f} "
                    "MiB stay in reserve)",
                    config_.name, mebibytes(facts->memory_free_bytes),
                    mebibytes(request.memory_bytes()), mebibytes(kMemoryReserve)));
  }
  if (!request.cpu_features().empty()) {
    const std::string missing = memory::explain_missing(request.cpu_features(), cpu_features_);
    if (!missing.empty()) {
      return refusal(fmt::format("node {}: {}", config_.name, missing));
    }
  }
  const std::string& address =
      is_wildcard(config_.listen.address) ? local_address : config_.listen.address;
  const auto host = hub_->host_for(request.job(), asker, address);
  if (!host) {
    log::error("node", "event=prepare_failed reason=\"{}\"", host.error().message());
    return refusal(fmt::format("node {}: {}", config_.name, host.error().message()));
  }
  wire::HostPrepared answer;
  answer.set_ok(true);
  answer.set_address(host->endpoint.address);
  answer.set_port(host->endpoint.port);
  answer.set_token(host->token);
  answer.set_node(config_.name);
  answer.set_encrypt_channels(!config_.trusted_network);
  answer.set_protocol_version(wire::protocol_version());
  return answer;
}

void Daemon::need_host(const Agent& agent, const wire::NeedHost& need,
                       const std::function<void(const wire::HostPrepared&)>& reply) {
  if (stopping_) {
    reply(refusal(fmt::format("node {} is stopping", config_.name)));
    return;
  }
  if (need.node() == config_.name) {
    reply(refusal(fmt::format("{} is the process's home", need.node())));
    return;
  }
  wire::ClusterMessage ask;
  wire::PrepareHost& prepare = *ask.mutable_prepare_host();
  prepare.set_job(agent.job);
  prepare.set_memory_bytes(need.memory_bytes());
  prepare.set_cpu_features(need.cpu_features());
  prepare.set_home_node(config_.name);
  cluster_->ask(need.node(), std::move(ask), kPrepareTimeout,
                [this, reply](Result<wire::ClusterMessage> answer) {
                  if (!answer) {
                    reply(refusal(answer.error().message()));
                    return;
                  }
                  if (!answer->has_host_prepared()) {
                    reply(refusal(answer->done().message()));
                    return;
                  }
                  wire::HostPrepared host = answer->host_prepared();
                  // Both nodes have to trust the network.
                  host.set_encrypt_channels(host.encrypt_channels() || !config_.trusted_network);
                  reply(host);
                });
}

void Daemon::reload() {
  auto config = load_config(paths_.config);
  auto context = net::TlsContext::load(paths_.state_dir, true);
  if (!config || !context) {
    log::error("node", "event=reload_failed reason=\"{}\"",
               !config ? config.error().message() : context.error().message());
    return;
  }
  if (config->name != config_.name || !(config->listen == config_.listen)) {
    log::warn("node", "event=reload text=\"a new name or listen address needs a restart\"");
    config->name = config_.name;
    config->listen = config_.listen;
  }
  const bool new_metrics = config->metrics != config_.metrics;
  config_ = std::move(*config);
  if (const auto started = new_metrics ? start_metrics() : Result<>(); !started) {
    log::error("node", "event=metrics_failed reason=\"{}\"", started.error().message());
  }
  cluster_->set_context(std::move(*context));
  apply_settings();
  placer_->set_owner(config_.owner, config_.owner_rule, config_.reserve);
  gossip_->set_seeds(addresses_of(config_.nodes));
  cluster_->set_nodes(known_nodes());
  log::info("node", "event=reloaded nodes={}", config_.nodes.size());
}

bool Daemon::anything_away() const {
  for (const auto& agent : hub_->all()) {
    if (agent->role == wire::Register::HOST && agent->status.process_size() > 0) {
      return true;
    }
    for (const auto& process : agent->status.process()) {
      if (agent->role == wire::Register::HOME && process.state() != "native") {
        return true;
      }
    }
  }
  return false;
}

void Daemon::recall(const std::shared_ptr<Agent>& agent, const std::shared_ptr<size_t>& left) {
  wire::AgentDown ask;
  if (agent->role == wire::Register::HOST) {
    ask.mutable_recall();
  } else {
    ask.mutable_bring_home();
  }
  hub_->ask(agent, std::move(ask), kStopTimeout, [left, agent](Result<wire::AgentUp> answer) {
    --*left;
    if (!answer || !answer->answer().ok()) {
      log::warn("node", "event=recall_failed job={} reason=\"{}\"", job_text(agent->job),
                answer ? answer->answer().message() : answer.error().message());
    }
  });
}

void Daemon::stop() {
  if (stopping_) {
    finish_stop(!anything_away());
    return;
  }
  stopping_ = true;
  api_->set_stopping();
  if (batch_ != nullptr) {
    batch_->stop();
  }
  log::info("node", "event=stopping agents={}", hub_->all().size());
  const auto left = std::make_shared<size_t>(0);
  for (const auto& agent : hub_->all()) {
    ++*left;
    // One that is just starting, or looking for this tessd, is asked as soon as it is there.
    hub_->when([agent] { return agent->connected() || !agent->process.running(); }, kStopTimeout,
               [this, agent, left](bool) { recall(agent, left); });
  }
  // All have answered (failed or not) and every status says so, or the time is over.
  hub_->when([this, left] { return *left == 0 && !anything_away(); }, kStopTimeout,
             [this](bool all_home) { finish_stop(all_home); });
}

void Daemon::finish_stop(bool all_home) {
  if (!all_home) {
    for (const auto& agent : hub_->all()) {
      for (const auto& process : agent->status.process()) {
        const bool guest = agent->role == wire::Register::HOST;
        if (guest || process.state() != "native") {
          log::warn("node", "event=stays_away job={} pid={} command=\"{}\" text=\"{}\"",
                    job_text(agent->job), process.pid(), process.command(),
                    guest ? "a guest stays; its agent goes on" : "still away; its agent goes on");
        }
      }
    }
  }
  gossip_->leave([this] {
    log::info("node", "event=stopped");
    loop_.stop();
  });
}

}  // namespace tess::node
