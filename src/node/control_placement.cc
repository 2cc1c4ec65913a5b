// ControlApi: what people ask about placement, and tell it.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/log.h"
#include "cluster/placement/cost.h"
#include "node/control_request.h"
#include "wire/agent_process.h"
#include "wire/version.h"

namespace tess::node {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kDrainTimeout{3000};
constexpr milliseconds kLongestTurn{5000};
constexpr milliseconds kPrepareTimeout{10000};

json lines_json(const std::vector<std::string>& lines) {
  json list = json::array();
  for (const std::string& line : lines) {
    list.push_back(line);
  }
  return list;
}

// What gossip knows of a node.
void add_member(json& node, const cluster::MemberView& member) {
  node["state"] = cluster::to_text(member.state);
  node["id"] = member.id.text();
  if (member.round_trip > cluster::Duration::zero()) {
    node["round_trip_us"] = member.round_trip.count();
  }
  if (!member.has_load) {
    return;
  }
  const cluster::LoadRecord& load = member.load;
  node["age_s"] = std::chrono::duration<double>(member.age).count();
  node["speed"] = load.speed;
  node["cores"] = load.cores;
  node["threads"] = load.threads;
  node["runnable"] = std::round(load.runnable * 100) / 100;
  node["load"] = node["runnable"];
  node["memory_bytes"] = load.memory_bytes;
  node["memory_free_bytes"] = load.memory_free_bytes;
  node["swap_bytes"] = load.swap_bytes;
  node["swap_used_bytes"] = load.swap_used_bytes;
  node["cpu_pressure"] = load.cpu_pressure;
  node["memory_pressure"] = load.memory_pressure;
  node["guests"] = load.guests;
  node["incoming"] = load.incoming;
  node["draining"] = load.draining;
  node["owner_active"] = load.owner_active;
  node["accepting"] = load.accepting;
  if (load.link_mbit != 0) {
    node["link_mbit"] = load.link_mbit;
  }
}

// How fast memory gets there from here.
void add_bandwidth(json& node, const Placer::Bandwidth& bandwidth) {
  node["bandwidth_bytes_per_s"] = std::round(bandwidth.expected);
  if (bandwidth.measured) {
    node["measured_bytes_per_s"] = std::round(bandwidth.measured->rate);
    node["measured_ago_s"] = placement::seconds(bandwidth.measured->ago);
  }
}

}  // namespace

// A job that `tess run` begins, from the request until it runs where it is to run.
struct ControlApi::JobStart {
  uint64_t job = 0;
  pid_t pid = 0;
  std::string node;    // where to; empty: here
  bool fixed = false;  // by the caller: nobody is asked for a better place
  wire::Wishes wishes;
  StartQueue::Turn turn;
};

// ---- nodes ----

void ControlApi::op_nodes(const RequestPtr& request) {
  json warnings = json::array();
  if (const std::string warning = ca_renewal_->warning(); !warning.empty()) {
    warnings.push_back(warning);
  }
  request->ok(
      {{"node", options_.node_name}, {"nodes", nodes_json()}, {"warnings", std::move(warnings)}});
}

// Those of the configuration, connected or not, and all that gossip knows of.
json ControlApi::nodes_json() const {
  std::map<std::string, json> nodes;
  const auto add = [&](const std::string& name, const std::string& address, bool up,
                       const std::string& reason, const wire::NodeInfo& info) {
    nodes[name] = json{{"name", name},
                       {"address", address},
                       {"up", up},
                       {"why", reason},
                       {"state", "unknown"},
                       {"cores", info.cores()},
                       {"memory_bytes", info.memory_bytes()},
                       {"memory_free_bytes", info.memory_free_bytes()},
                       {"load", info.load()},
                       {"guests", info.guests()},
                       {"kernel", info.kernel()},
                       {"version", info.version()}};
  };
  add(options_.node_name, options_.address, true, "", service_.node_info());
  nodes[options_.node_name]["protocol"] = wire::protocol_version();
  for (const auto& node : cluster_.nodes()) {
    add(node.name, node.endpoint.to_string(), node.up, node.reason, node.info);
    if (node.up) {
      nodes[node.name]["protocol"] = node.protocol;
    }
  }
  const auto view = gossip_ != nullptr ? gossip_->view() : cluster::ClusterView();
  const auto gone = [this](const cluster::MemberView& member) {
    return member.state == cluster::MemberState::kLeft ||
           member.state == cluster::MemberState::kDead ||
           charter_.charter().expels(member.id.bytes);
  };
  std::set<std::string> live;
  for (const auto& member : view.members) {
    if (!gone(member)) {
      live.insert(member.name);
    }
  }
  for (const auto& member : view.members) {
    // One that has left, or died, does not stand before another that bears its name now.
    if (gone(member) && live.contains(member.name)) {
      continue;
    }
    if (!nodes.contains(member.name)) {
      add(member.name, member.address, false,
          fmt::format("it is {}", cluster::to_text(member.state)), wire::NodeInfo());
    }
    json& node = nodes[member.name];
    add_member(node, member);
    if (member.has_load && member.id != view.self) {
      add_bandwidth(node, placer_->bandwidth_to(member));
    }
    if (charter_.charter().expels(member.id.bytes) && !node.value("up", false)) {
      node["state"] = "expelled";
      node["why"] = "it was expelled from the cluster";
    }
  }
  // This node first.
  json list = json::array({nodes.extract(options_.node_name).mapped()});
  for (auto& [name, node] : nodes) {
    list.push_back(std::move(node));
  }
  return list;
}

// ---- moves and why ----

void ControlApi::add_placement(const RequestPtr& request, pid_t pid, json told) {
  auto managed = manager_->explain(pid);
  placer_->explain(pid, [request, told = std::move(told),
                         managed = std::move(managed)](const Placer::Told& why) mutable {
    managed.insert(managed.end(), why.why_here.begin(), why.why_here.end());
    told["why_here"] = lines_json(managed);
    told["would_move"] = lines_json(why.would_move);
    told["last_moves"] = lines_json(why.last_moves);
    request->ok(std::move(told));
  });
}

Result<wire::Wishes> ControlApi::read_wishes(const RequestPtr& request,
                                             const std::string& node) const {
  wire::Wishes wishes;
  const auto found = request->body.find("wishes");
  const json empty = json::object();
  const json& given = found != request->body.end() && found->is_object() ? *found : empty;
  const auto flag = [&](const char* key) {
    return given.contains(key) && given[key].is_boolean() && given[key].get<bool>();
  };
  wishes.set_home(flag("home"));
  wishes.set_stay(flag("stay"));
  wishes.set_cpu_bound(flag("cpu_bound"));
  if (given.contains("memory_bytes") && given["memory_bytes"].is_number_unsigned()) {
    wishes.set_memory_bytes(given["memory_bytes"].get<uint64_t>());
  }
  if (given.contains("cpus") && given["cpus"].is_number()) {
    wishes.set_cpus(std::clamp(given["cpus"].get<double>(), 0.0, 65535.0));
  }
  if (given.contains("avoid") && given["avoid"].is_array()) {
    for (const auto& one : given["avoid"]) {
      if (!one.is_string()) {
        return fail(ErrorKind::kBadInput, "avoid is a list of nodes' names");
      }
      wishes.add_avoid(one.get<std::string>());
      wishes.add_avoid_id(placer_->id_bytes_of(wishes.avoid(wishes.avoid_size() - 1)));
    }
  }
  if (node == "home") {
    wishes.set_home(true);
  } else if (!node.empty()) {
    wishes.add_on(node);
    wishes.add_on_id(placer_->id_bytes_of(node));
  }
  return wishes;
}

void ControlApi::op_run(const RequestPtr& request) {
  const pid_t pid = request->caller.pid;
  std::string node = request->text("node");
  if (pid <= 0) {
    request->error("refused", "the caller is in a pid namespace that this node does not see");
    return;
  }
  if (stopping_) {
    request->error("unavailable", fmt::format("node {} is stopping", options_.node_name));
    return;
  }
  if (!node.empty() && node != "home") {
    node = placer_->name_now(node, wire::from_hex(request->text("node_id")));
  }
  const std::string wanted = node;
  const bool asked_for_place = !node.empty();
  if (node == "home" || node == options_.node_name) {
    node.clear();
  }
  if (!node.empty() && !check_node(request, node)) {
    return;
  }
  if (const auto agent = hub_.home_of(pid)) {
    request->ok(
        {{"job", job_text(agent->job)}, {"pid", pid}, {"message", "it is in a job already"}});
    return;
  }
  auto wishes = read_wishes(request, wanted);
  if (!wishes) {
    request->error(wishes.error());
    return;
  }
  const auto start = std::make_shared<JobStart>();
  start->pid = pid;
  start->node = node;
  start->fixed = asked_for_place;
  start->wishes = std::move(*wishes);
  starts_.enter(::getsid(pid), {[request] { return request->reply->alive(); },
                                [this, request, start](StartQueue::Turn turn) {
                                  start->turn = std::move(turn);
                                  begin_job(request, start);
                                }});
}

// It is its turn: what was true when it was asked for may not be so any more.
void ControlApi::begin_job(const RequestPtr& request, const std::shared_ptr<JobStart>& start) {
  if (stopping_) {
    start->turn.reset();
    request->error("unavailable", fmt::format("node {} is stopping", options_.node_name));
    return;
  }
  start->job = job_ids_.next();
  if (start->fixed) {
    start_job(request, start);
    return;
  }
  placer_->place_new(start->job, start->pid, start->wishes,
                     [this, request, start](const std::string& node) {
                       start->node = node;
                       start_job(request, start);
                     });
}

// The home agent will ask for a host agent there, and gets the one that is started meanwhile. What
// is against it is said then; one that nobody comes to ends by itself.
void ControlApi::announce_job(const JobStart& start) {
  wire::ClusterMessage message;
  wire::PrepareHost& prepare = *message.mutable_prepare_host();
  prepare.set_job(start.job);
  prepare.set_memory_bytes(start.wishes.memory_bytes());
  prepare.set_home_node(options_.node_name);
  cluster_.ask(start.node, std::move(message), kPrepareTimeout,
               [](const Result<wire::ClusterMessage>&) {});
}

void ControlApi::start_job(const RequestPtr& request, const std::shared_ptr<JobStart>& start) {
  const wire::Wishes& wishes = start->wishes;
  const bool place_programs = !start->fixed && !wishes.stay() && !wishes.home();
  if (!start->node.empty()) {
    announce_job(*start);
  }
  hub_.start_home(
      start->job, start->pid, true, start->node, Placer::note_of(wishes),
      [this, request, start](auto started) {
        // Its turn lasts until it is where it is to run: what leaves this node is work of the
        // start, too. Unless that takes long, and then hardly this node's CPU.
        const StartQueue::Turn turn = std::move(start->turn);
        if (!started) {
          request->error(started.error());
          return;
        }
        request->ok({{"job", job_text(start->job)}, {"pid", start->pid}});
        if (!start->node.empty()) {
          hub_.when([this, start] { return !is_starting(start->job, start->pid); }, kLongestTurn,
                    [turn](bool) {});
        }
      },
      place_programs);
}

bool ControlApi::is_starting(uint64_t job, pid_t pid) const {
  const auto agent = hub_.home_agent(job);
  if (agent == nullptr) {
    return false;
  }
  const auto& processes = agent->status.process();
  return std::any_of(processes.begin(), processes.end(), [pid](const wire::JobProcess& process) {
    return process.pid() == pid && process.state() == "moving";
  });
}

void ControlApi::op_log(const RequestPtr& request) {
  const auto now = Gossip::now();
  json moves = json::array();
  for (const auto& entry : placer_->history()) {
    const auto& decision = entry.decision;
    moves.push_back({{"ago_s", placement::seconds(now - decision.at)},
                     {"pid", decision.process.pid & 0xffffffff},
                     {"command", decision.process_name},
                     {"from", decision.from_name},
                     {"to", decision.to_name},
                     {"cause", placement::to_text(decision.cause)},
                     {"outcome", placement::to_text(entry.outcome)},
                     {"text", decision.text()},
                     {"because", entry.because}});
  }
  request->ok({{"node", options_.node_name}, {"moves", std::move(moves)}});
}

// Where one more thread would get on best, as far as known.
void ControlApi::op_best(const RequestPtr& request) {
  std::vector<std::pair<double, json>> order;
  const auto view = gossip_->view();
  for (const auto& member : view.members) {
    const cluster::LoadRecord& load = member.load;
    if (member.state != cluster::MemberState::kAlive || !member.has_load || load.draining ||
        load.owner_active || !load.accepting) {
      continue;
    }
    const bool guest = member.id != gossip_->id();
    const auto place = placement::place_of(load, placer_->policy(), guest);
    const double speed = 1 / placement::slowness(place, place.runnable + 1);
    order.emplace_back(speed, json{{"name", member.name},
                                   {"speed", speed},
                                   {"runnable", load.runnable},
                                   {"memory_free_bytes", load.memory_free_bytes}});
  }
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  json nodes = json::array();
  for (auto& [speed, node] : order) {
    nodes.push_back(std::move(node));
  }
  request->ok({{"nodes", std::move(nodes)}});
}

bool ControlApi::check_root(const RequestPtr& request) {
  if (request->caller.uid != 0) {
    request->error("not_permitted", "only root may change how a node is used");
  }
  return request->caller.uid == 0;
}

void ControlApi::op_drain(const RequestPtr& request) {
  const std::string node =
      request->text("node").empty() ? options_.node_name : request->text("node");
  const bool on = request->flag("on");
  if (!check_root(request) || !check_node(request, node)) {
    return;
  }
  if (node == options_.node_name) {
    const auto done = placer_->set_draining(on);
    done ? request->ok({{"node", node}, {"draining", on}}) : request->error(done.error());
    return;
  }
  wire::ClusterMessage ask;
  ask.mutable_set_drain()->set_on(on);
  cluster_.ask(node, std::move(ask), kDrainTimeout,
               [request, node, on](Result<wire::ClusterMessage> answer) {
                 if (!answer) {
                   request->error(answer.error());
                 } else if (!answer->done().ok()) {
                   request->error("failed", answer->done().message());
                 } else {
                   request->ok({{"node", node}, {"draining", on}});
                 }
               });
}

// Without a key it tells all values.
void ControlApi::op_set(const RequestPtr& request) {
  const std::string key = request->text("key");
  const std::string value = request->text("value");
  if (key.empty()) {
    json values = settings_->numbers();
    values["balance"] = placer_->balance() ? "on" : "off";
    json chosen = json::array();
    for (const auto& [name, text] : settings_->chosen()) {
      chosen.push_back(name);
    }
    request->ok(
        {{"node", options_.node_name}, {"values", std::move(values)}, {"set", std::move(chosen)}});
    return;
  }
  if (!check_root(request)) {
    return;
  }
  if (const auto done = settings_->set(key, value); !done) {
    request->error(done.error());
    return;
  }
  apply_settings_();
  log::info("node", "event=set key={} value={} uid={}", key, value, request->caller.uid);
  request->ok({{"key", key}, {"value", value}});
}

}  // namespace tess::node
