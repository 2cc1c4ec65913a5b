#include "node/control_api.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "base/log.h"
#include "node/control_request.h"
#include "wire/agent_process.h"
#include "wire/version.h"

namespace tess::node {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kAgentReturns{
    4000};  // an agent that has lost tessd connects again each second
constexpr milliseconds kWhyTimeout{20000};
constexpr milliseconds kMigrateTimeout{60 * 60 * 1000};
constexpr milliseconds kFetchTimeout{10 * 60 * 1000};

// Is it an agent, perhaps one that this tessd does not know yet?
bool is_agent(pid_t pid) {
  std::error_code error;
  const auto exe = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), error);
  return !error && exe.filename().string().starts_with("tess-agent");
}

// An agent traces it: a deputy, or one of a job that is at home.
bool is_held(pid_t pid) {
  const auto facts = process_facts(pid);
  return facts && *facts && (*facts)->tracer != 0 && is_agent((*facts)->tracer);
}

}  // namespace

std::string json_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

const char* code_of(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kNotPossible:
      return "refused";
    case ErrorKind::kRetry:
    case ErrorKind::kDisconnected:
      return "unavailable";
    case ErrorKind::kBadInput:
      return "bad_request";
    case ErrorKind::kFailed:
      break;
  }
  return "failed";
}

ControlApi::ControlApi(net::Loop& loop, Options options, AgentHub& hub, Cluster& cluster,
                       const ClusterService& service, Admission& admission, CharterKeeper& charter,
                       std::function<void()> stop)
    : loop_(loop),
      options_(std::move(options)),
      hub_(hub),
      cluster_(cluster),
      service_(service),
      admission_(admission),
      charter_(charter),
      stop_(std::move(stop)),
      starts_(loop, [this] { return placer_->load().cores + size_t{1}; }) {}

ControlApi::~ControlApi() = default;

void ControlApi::handle(const Caller& caller, const std::string& line,
                        std::shared_ptr<ControlReply> reply) {
  const auto request = std::make_shared<Request>();
  request->caller = caller;
  request->reply = std::move(reply);
  request->body = json::parse(line, nullptr, false);
  if (!request->body.is_object()) {
    request->error("bad_request", "a request is one line with one JSON object");
    return;
  }
  static const std::map<std::string, void (ControlApi::*)(const RequestPtr&)> kOperations = {
      {"ping", &ControlApi::op_ping},
      {"nodes", &ControlApi::op_nodes},
      {"ps", &ControlApi::op_ps},
      {"why", &ControlApi::op_why},
      {"migrate", &ControlApi::op_migrate},
      {"kill", &ControlApi::op_kill},
      {"run", &ControlApi::op_run},
      {"bring_home", &ControlApi::op_bring_home},
      {"log", &ControlApi::op_log},
      {"best", &ControlApi::op_best},
      {"drain", &ControlApi::op_drain},
      {"set", &ControlApi::op_set},
      {"manage", &ControlApi::op_manage},
      {"token", &ControlApi::op_token},
      {"token_list", &ControlApi::op_token_list},
      {"token_revoke", &ControlApi::op_token_revoke},
      {"pending", &ControlApi::op_pending},
      {"approve", &ControlApi::op_approve},
      {"expel", &ControlApi::op_expel},
      {"rotate_key", &ControlApi::op_rotate_key},
      {"rotate_certificate", &ControlApi::op_rotate_certificate},
      {"rotate_ca", &ControlApi::op_rotate_ca},
      {"rename", &ControlApi::op_rename},
      {"leave", &ControlApi::op_leave},
      {"batch_submit", &ControlApi::op_batch_submit},
      {"batch_list", &ControlApi::op_batch_list},
      {"batch_show", &ControlApi::op_batch_show},
      {"batch_cancel", &ControlApi::op_batch_cancel},
      {"batch_hold", &ControlApi::op_batch_hold},
      {"batch_release", &ControlApi::op_batch_release},
      {"batch_wait", &ControlApi::op_batch_wait}};
  const auto found = kOperations.find(request->text("op"));
  if (found == kOperations.end()) {
    request->error("bad_request", fmt::format("unknown operation '{}'", request->text("op")));
    return;
  }
  if (const std::string at = request->text("at"); !at.empty() && at != options_.node_name) {
    forward(request, at);
    return;
  }
  (this->*found->second)(request);
}

void ControlApi::op_ping(const RequestPtr& request) {
  request->ok({{"node", options_.node_name},
               {"version", options_.version},
               {"protocol", wire::protocol_version()},
               {"pid", ::getpid()}});
}

std::optional<pid_t> ControlApi::target(const RequestPtr& request) {
  const auto found = request->body.find("pid");
  if (found == request->body.end() || !found->is_number_integer()) {
    request->error("bad_request", "pid is missing or not a number");
    return std::nullopt;
  }
  const int64_t number = found->get<int64_t>();
  const pid_t pid = number > 0 && number < (1 << 30) ? static_cast<pid_t>(number) : 0;
  const auto facts = process_facts(pid);
  if (!facts) {
    request->error(facts.error());
    return std::nullopt;
  }
  if (!*facts) {
    request->error("unknown_pid",
                   fmt::format("there is no process {} on node {}", number, options_.node_name));
    return std::nullopt;
  }
  const ProcessFacts& process = **facts;
  if (!may_control(request->caller.uid, process)) {
    request->error("not_permitted",
                   fmt::format("process {} ({}) belongs to uid {}; only that user and root may "
                               "ask this",
                               pid, process.name, process.uids[0]));
    return std::nullopt;
  }
  if (process.thread_group != pid) {
    request->error("unknown_pid", fmt::format("{} is a thread of process {}: name the process", pid,
                                              process.thread_group));
    return std::nullopt;
  }
  if (process.state == 'Z' || process.state == 'X') {
    const bool goes_on = process.state == 'Z' && process.threads > 1;
    request->error("refused",
                   fmt::format("{}process {} ({}) has already ended{}",
                               goes_on ? "the first thread of " : "", pid, process.name,
                               goes_on ? ", others go on: such a process stays where it is" : ""));
    return std::nullopt;
  }
  if (pid == ::getpid() || hub_.by_process(pid) != nullptr || is_agent(pid)) {
    request->error("refused",
                   fmt::format("process {} ({}) is a part of Tessera itself", pid, process.name));
    return std::nullopt;
  }
  // A body: its home decides about it. It is below the host agent in the process tree.
  pid_t ancestor = process.parent;
  for (int depth = 0; ancestor > 1 && depth < 64; ++depth) {
    const auto agent = hub_.by_process(ancestor);
    if (agent != nullptr && agent->role == wire::Register::HOST) {
      request->error("refused", fmt::format("process {} is a guest from node {}: ask there", pid,
                                            agent->home_node));
      return std::nullopt;
    }
    const auto parent = process_facts(ancestor);
    ancestor = parent && *parent ? (*parent)->parent : 0;
  }
  return pid;
}

bool ControlApi::check_node(const RequestPtr& request, const std::string& node) {
  if (node == options_.node_name) {
    return true;
  }
  if (const auto up = cluster_.check_up(node); !up) {
    request->error(up.error().kind() == ErrorKind::kNotPossible ? "unknown_node" : "unavailable",
                   up.error().message());
    return false;
  }
  return true;
}

void ControlApi::with_home_agent(pid_t pid, WithAgent then) {
  const auto facts = process_facts(pid);
  if (!facts || !*facts) {
    then(fail(ErrorKind::kFailed, "process {} has ended", pid), false);
    return;
  }
  if (hub_.home_of(pid) == nullptr && !is_held(pid)) {
    const auto hold = manager_->hold_of(pid).value_or(Manager::Hold{job_ids_.next(), ""});
    hub_.start_home(hold.job, pid, false, "", hold.note,
                    [then](Result<std::shared_ptr<Agent>> started) { then(started, true); });
    return;
  }
  // It has an agent, which may be just starting, or not have found this tessd again yet, or be
  // about to end because it has nothing left to hold.
  hub_.when(
      [this, pid] {
        const auto agent = hub_.home_of(pid);
        return agent != nullptr ? agent->connected() : !is_held(pid);
      },
      kAgentReturns,
      [this, pid, then](bool settled) {
        if (const auto agent = hub_.home_of(pid); settled && agent != nullptr) {
          then(agent, false);
        } else if (settled) {
          with_home_agent(pid, then);
        } else {
          then(fail(ErrorKind::kRetry, "the agent that holds process {} does not answer; try again",
                    pid),
               false);
        }
      });
}

void ControlApi::op_why(const RequestPtr& request) {
  const auto pid = target(request);
  const std::string node = request->text("node");
  if (!pid) {
    return;
  }
  if (!node.empty() && node != options_.node_name) {
    const auto up = cluster_.check_up(node);
    if (!up && up.error().kind() == ErrorKind::kNotPossible) {
      request->error("unknown_node", up.error().message());
      return;
    }
  }
  ask_why(request, *pid, node);
}

void ControlApi::ask_home_agent(const RequestPtr& request, pid_t pid, const wire::AgentDown& ask,
                                milliseconds timeout, AgentAnswered answered) {
  with_home_agent(pid, [=, this](Result<std::shared_ptr<Agent>> found, bool fresh) {
    if (!found) {
      request->error(found.error());
      return;
    }
    const std::shared_ptr<Agent> agent = *found;
    // Those who wait hear what the agent says about the job meanwhile.
    const auto listener = listeners_.emplace(agent->job, request->reply);
    hub_.ask(agent, ask, timeout, [=, this](Result<wire::AgentUp> answer) {
      listeners_.erase(listener);
      if (answer) {
        answered(agent, fresh, *answer);
      } else if (!fresh && agent->ended_well) {
        ask_home_agent(request, pid, ask, timeout, answered);
      } else {
        request->error(answer.error());
      }
    });
  });
}

void ControlApi::ask_why(const RequestPtr& request, pid_t pid, const std::string& node) {
  wire::AgentDown ask;
  ask.mutable_why_request()->set_pid(pid);
  ask.mutable_why_request()->set_node(node);
  ask.mutable_why_request()->set_by_root(request->caller.uid == 0);
  ask_home_agent(
      request, pid, ask, kWhyTimeout,
      [this, request, pid, node](const std::shared_ptr<Agent>& agent, bool fresh,
                                 const wire::AgentUp& answer) {
        if (fresh) {
          // It was started for this question only and holds nothing.
          (void)agent->process.signal(SIGTERM);
        }
        if (!answer.has_why()) {
          request->error("failed", "the agent gave no reasons");
          return;
        }
        json reasons = json::array();
        for (const auto& reason : answer.why().reason()) {
          reasons.push_back(reason);
        }
        if (!node.empty() && node != options_.node_name) {
          if (const auto up = cluster_.check_up(node); !up) {
            reasons.push_back(up.error().message());
          }
        }
        const bool can_move = reasons.empty();
        json told = {
            {"pid", pid}, {"node", node}, {"can_move", can_move}, {"reasons", std::move(reasons)}};
        add_placement(request, pid, std::move(told));
      });
}

void ControlApi::op_migrate(const RequestPtr& request) {
  std::string node = request->text("node");
  const bool home = request->flag("home") || node == "home" || node == options_.node_name;
  const auto pid = target(request);
  if (!pid) {
    return;
  }
  if (node.empty() && !home) {
    request->error("bad_request", "node is missing: a node's name or 'home'");
    return;
  }
  if (home) {
    node = options_.node_name;
    if (hub_.home_of(*pid) == nullptr && !is_held(*pid)) {
      request->ok({{"pid", *pid}, {"node", node}, {"message", "it is at home already"}});
      return;
    }
  } else if (stopping_) {
    request->error("unavailable", fmt::format("node {} is stopping", options_.node_name));
    return;
  } else if (!check_node(request, node)) {
    return;
  }
  ask_migrate(request, *pid, node, home);
}

void ControlApi::ask_migrate(const RequestPtr& request, pid_t pid, const std::string& node,
                             bool home) {
  wire::AgentDown ask;
  ask.mutable_migrate()->set_pid(pid);
  ask.mutable_migrate()->set_node(node);
  ask.mutable_migrate()->set_home(home);
  ask.mutable_migrate()->set_by_hand(true);
  ask.mutable_migrate()->set_by_root(request->caller.uid == 0);
  ask_home_agent(request, pid, ask, kMigrateTimeout,
                 [this, request, pid, node](const std::shared_ptr<Agent>& agent, bool,
                                            const wire::AgentUp& answer) {
                   if (!answer.has_answer() || !answer.answer().ok()) {
                     const std::string& words = answer.answer().message();
                     request->error("refused", words.empty() ? "the agent gives no reason" : words);
                     return;
                   }
                   placer_->moved_by_hand(pid, node);
                   request->ok({{"pid", pid},
                                {"job", job_text(agent->job)},
                                {"node", node},
                                {"message", answer.answer().message()}});
                 });
}

void ControlApi::fetch_home(pid_t pid, std::function<void(const Result<>&)> done) {
  if (hub_.home_of(pid) == nullptr && !is_held(pid)) {
    done({});
    return;
  }
  with_home_agent(pid, [=, this](const Result<std::shared_ptr<Agent>>& found, bool fresh) {
    const auto ended = [pid] {
      const auto facts = process_facts(pid);
      return facts && !*facts;
    };
    if (!found || fresh) {
      if (fresh && found) {
        (void)(*found)->process.signal(SIGTERM);  // nobody held it
      }
      done(found || ended() ? Result<>() : tl::unexpected(found.error()));
      return;
    }
    wire::AgentDown ask;
    ask.mutable_migrate()->set_pid(pid);
    ask.mutable_migrate()->set_home(true);
    ask.mutable_migrate()->set_fetched(true);
    hub_.ask(*found, std::move(ask), kFetchTimeout, [=](const Result<wire::AgentUp>& answer) {
      if (ended() || (answer && answer->answer().ok())) {
        done({});
      } else if (!answer) {
        done(tl::unexpected(answer.error()));
      } else {
        done(fail(ErrorKind::kNotPossible, "{}", answer->answer().message()));
      }
    });
  });
}

void ControlApi::on_job_log(const Agent& agent, const wire::JobLog& entry) {
  log::info("node", "event=job_log job={} pid={} text=\"{}\"", job_text(agent.job), entry.pid(),
            entry.text());
  const auto [first, last] = listeners_.equal_range(agent.job);
  for (auto listener = first; listener != last; ++listener) {
    if (const auto reply = listener->second.lock()) {
      reply->send_line(json_text({{"event", "log"}, {"pid", entry.pid()}, {"text", entry.text()}}));
    }
  }
}

}  // namespace tess::node
