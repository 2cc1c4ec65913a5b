// ControlApi: the processes of the cluster as a list, signals for them, and requests that concern
// processes of another home.
#include <algorithm>
#include <cmath>
#include <csignal>
#include <map>
#include <set>

#include "base/log.h"
#include "node/control_request.h"
#include "sys/process.h"

namespace tess::node {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds kTableTimeout{2000};
constexpr milliseconds kFollowInterval{1000};
constexpr milliseconds kLongTimeout{60 * 60 * 1000};  // a migration may take long

// By job and the pid that the application sees: the same at home and on the host.
using Notes = std::map<std::pair<uint64_t, int>, wire::ProcessNote>;

json process_json(uint64_t job, const wire::JobProcess& process) {
  return {{"job", job_text(job)},
          {"pid", process.pid()},
          {"ppid", process.parent_pid()},
          {"uid", process.uid()},
          {"command", process.command()},
          {"home", process.home_node()},
          {"node", process.node()},
          {"state", process.state()},
          {"cpu_home_s", static_cast<double>(process.cpu_home_ns()) / 1e9},
          {"cpu_away_s", static_cast<double>(process.cpu_hosts_ns()) / 1e9},
          {"memory_bytes", process.memory_bytes()},
          {"moves", process.moves()},
          {"threads", process.thread_count()}};
}

// Where it runs its CPU is measured; its home knows why it is there.
Notes collect_notes(const std::vector<wire::JobTable>& tables) {
  Notes notes;
  for (const auto& table : tables) {
    for (const auto& note : table.note()) {
      wire::ProcessNote& all = notes[{note.job(), note.inner_pid()}];
      if (note.measured()) {
        all.set_measured(true);
        all.set_cores(note.cores());
      }
      if (!note.cause().empty()) {
        all.set_cause(note.cause());
        all.set_why(note.why());
      }
    }
  }
  return notes;
}

void add_note(json& process, const Notes& notes, const std::pair<uint64_t, int>& name) {
  const auto found = notes.find(name);
  process["cause"] = found == notes.end() ? "" : found->second.cause();
  process["why"] = found == notes.end() ? "" : found->second.why();
  if (found != notes.end() && found->second.measured()) {
    process["cpu"] = std::round(found->second.cores() * 1000) / 1000;
  }
}

// What root on one node may ask another node's tessd for.
bool may_be_forwarded(const std::string& operation) {
  return operation == "why" || operation == "migrate" || operation == "kill";
}

}  // namespace

// ---- the list ----

void ControlApi::op_ps(const RequestPtr& request) {
  if (request->flag("all")) {
    gather_ps(request);
  } else {
    send_ps(request, {});
  }
}

void ControlApi::gather_ps(const RequestPtr& request) {
  struct Gathering {
    size_t missing = 1;
    std::vector<wire::JobTable> tables;
  };
  const auto gathering = std::make_shared<Gathering>();
  const auto done_one = [this, request, gathering] {
    if (--gathering->missing == 0) {
      send_ps(request, gathering->tables);
    }
  };
  for (const auto& node : cluster_.nodes()) {
    if (!node.up) {
      continue;
    }
    ++gathering->missing;
    wire::ClusterMessage ask;
    ask.mutable_ask_job_table();
    cluster_.ask(node.name, std::move(ask), kTableTimeout,
                 [gathering, done_one](Result<wire::ClusterMessage> answer) {
                   if (answer && answer->has_job_table()) {
                     gathering->tables.push_back(answer->job_table());
                   }
                   done_one();
                 });
  }
  done_one();
}

void ControlApi::send_ps(const RequestPtr& request, const std::vector<wire::JobTable>& others) {
  std::vector<wire::JobTable> tables = others;
  tables.insert(tables.begin(), service_.job_table());
  const Notes notes = collect_notes(tables);
  // A process that is away is told of twice, by its home and as a guest: home knows more.
  std::set<std::pair<uint64_t, int>> told_by_home;
  json processes = json::array();
  for (const bool guests : {false, true}) {
    for (const auto& table : tables) {
      for (const auto& job : table.job()) {
        for (const auto& process : job.process()) {
          const std::pair<uint64_t, int> name{
              job.job(), process.inner_pid() != 0 ? process.inner_pid() : -process.pid()};
          if ((process.state() == "guest") != guests || (guests && told_by_home.contains(name))) {
            continue;
          }
          told_by_home.insert(name);
          processes.push_back(process_json(job.job(), process));
          add_note(processes.back(), notes, name);
        }
      }
    }
  }
  request->ok({{"node", options_.node_name}, {"processes", std::move(processes)}});
  if (request->flag("follow")) {
    request->timer = std::make_unique<net::Timer>(loop_);
    // The timer's task keeps the request, the request its timer: until the caller has left.
    request->timer->start(kFollowInterval, [this, request] {
      if (request->reply->alive()) {
        op_ps(request);
      }
    });
  }
}

// ---- signals ----

void ControlApi::op_kill(const RequestPtr& request) {
  const auto signal = request->body.find("signal");
  const int number = signal == request->body.end() ? SIGTERM
                     : signal->is_number_integer() ? signal->get<int>()
                                                   : -1;
  if (number < 0 || number > SIGRTMAX) {
    request->error("bad_request", "signal is a number from 0 to 64");
    return;
  }
  // The handle comes first: what is checked and what is hit are the same process then.
  const auto given = request->body.find("pid");
  const bool is_number = given != request->body.end() && given->is_number_integer();
  const auto handle = sys::Process::open(is_number ? given->get<pid_t>() : 0);
  const auto pid = target(request);
  if (!pid) {
    return;
  }
  const Result<> sent = handle ? handle->signal(number) : Result<>(tl::unexpected(handle.error()));
  if (!sent) {
    request->error(sent.error());
    return;
  }
  log::info("node", "event=kill pid={} signal={} uid={}", *pid, number, request->caller.uid);
  request->ok({{"pid", *pid}, {"signal", number}});
}

// ---- to another home ----

void ControlApi::forward(const RequestPtr& request, const std::string& node) {
  if (!may_be_forwarded(request->text("op"))) {
    request->error("bad_request", fmt::format("'{}' cannot be asked of another node: ask there",
                                              request->text("op")));
    return;
  }
  if (request->caller.uid != 0) {
    request->error("not_permitted",
                   fmt::format("only root may do this from here; its owner may on node {}, the "
                               "process's home",
                               node));
    return;
  }
  if (!check_node(request, node)) {
    return;
  }
  json asked = request->body;
  asked.erase("at");
  wire::ClusterMessage message;
  message.mutable_forward()->set_request(json_text(asked));
  cluster_.ask(node, std::move(message), kLongTimeout,
               [request](Result<wire::ClusterMessage> answer) {
                 if (!answer) {
                   request->error(answer.error());
                 } else if (!answer->has_forwarded()) {
                   request->error("failed", "that node does not understand the question");
                 } else {
                   request->reply->send_line(answer->forwarded().answer());
                 }
               });
}

bool ControlApi::answer(const wire::ClusterMessage& message, const std::string& asker,
                        const std::function<void(const wire::ClusterMessage&)>& reply) {
  if (!message.has_forward()) {
    return false;
  }
  const std::string& line = message.forward().request();
  const auto done = std::make_shared<bool>(false);
  const auto taken = std::make_shared<ControlReply>([reply, done](const std::string& text) {
    if (*done || json::parse(text, nullptr, false).contains("event")) {
      return;  // progress is told to those who ask here only
    }
    *done = true;
    wire::ClusterMessage forwarded;
    forwarded.mutable_forwarded()->set_answer(text);
    reply(forwarded);
  });
  const auto refuse = [&](const char* code, const std::string& why) {
    log::warn("node", "event=forward_refused from={} reason=\"{}\"", asker, why);
    taken->send_line(json_text({{"ok", false}, {"code", code}, {"error", why}}));
    return true;
  };
  const json asked = json::parse(line, nullptr, false);
  if (gossip_ == nullptr || !asked.is_object() || asked.contains("at") || !asked.contains("op") ||
      !asked["op"].is_string() || !may_be_forwarded(asked["op"].get<std::string>())) {
    return refuse("bad_request", "this cannot be asked from another node");
  }
  // The other node's root is trusted with what may run there anyway, not with this machine.
  const auto given = asked.find("pid");
  const pid_t pid = given != asked.end() && given->is_number_integer() ? given->get<pid_t>() : 0;
  if (hub_.home_of(pid) == nullptr && !manager_->hold_of(pid)) {
    return refuse("not_permitted", fmt::format("process {} is in no job: only node {} itself may "
                                               "do this to it",
                                               pid, options_.node_name));
  }
  const auto node = asked.find("node");
  if (asked["op"] == "migrate" && node != asked.end() && node->is_string() && *node != "home") {
    const std::string wish = placer_->wish_against(pid, node->get<std::string>());
    if (!wish.empty()) {
      return refuse("refused", wish + "; only its home may do otherwise");
    }
  }
  log::info("node", "event=forwarded from={} op={}", asker, asked["op"].get<std::string>());
  // Its tessd has made sure that root asks.
  handle(Caller{0, 0, 0, {}}, line, taken);
  return true;
}

void ControlApi::op_bring_home(const RequestPtr& request) {
  struct Gathering {
    size_t missing = 1;
    size_t jobs = 0;
    json failed = json::array();
  };
  const auto gathering = std::make_shared<Gathering>();
  const auto done_one = [request, gathering] {
    if (--gathering->missing == 0) {
      request->ok({{"jobs", gathering->jobs}, {"failed", gathering->failed}});
    }
  };
  for (const auto& agent : hub_.all()) {
    const auto& processes = agent->status.process();
    const bool away = std::any_of(processes.begin(), processes.end(),
                                  [](const auto& one) { return one.state() != "native"; });
    const bool theirs = std::all_of(processes.begin(), processes.end(), [&](const auto& one) {
      const auto facts = process_facts(one.pid());
      return request->caller.uid == 0 ||
             (facts && *facts && may_control(request->caller.uid, **facts));
    });
    if (agent->role != wire::Register::HOME || !away || !theirs) {
      continue;
    }
    ++gathering->missing;
    ++gathering->jobs;
    wire::AgentDown ask;
    ask.mutable_bring_home();
    hub_.ask(agent, std::move(ask), kLongTimeout,
             [gathering, done_one, job = agent->job](Result<wire::AgentUp> answer) {
               const std::string why = !answer                  ? answer.error().message()
                                       : !answer->answer().ok() ? answer->answer().message()
                                                                : "";
               if (!why.empty()) {
                 gathering->failed.push_back({{"job", job_text(job)}, {"error", why}});
               }
               done_one();
             });
  }
  done_one();
}

}  // namespace tess::node
