#include "node/manager.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "node/manage_exclusions.h"
#include "node/placer.h"
#include "node/proc_info.h"
#include "node/process_meter.h"

namespace tess::node {
namespace {

using cluster::Time;
using std::chrono::milliseconds;

constexpr cluster::Duration kReadAgain = std::chrono::seconds(5);
constexpr size_t kReadsMost = 32;       // processes looked at closely in one look
constexpr size_t kCandidatesBase = 64;  // and some for each core
constexpr double kLeastLife = 0.3;      // seconds of CPU: little where many share one
constexpr int kAncestorsMost = 64;
constexpr milliseconds kHomeTimeout{10 * 60 * 1000};
constexpr unsigned kHomeAgain = 10;  // looks

size_t candidates_most() {
  return kCandidatesBase + 4 * static_cast<size_t>(std::thread::hardware_concurrency());
}

bool is_adopted(const Agent& agent) {
  wire::Wishes wishes;
  return agent.role == wire::Register::HOME && !agent.note.empty() &&
         wishes.ParseFromString(agent.note.substr(1)) && wishes.adopted();
}

bool holds(const AgentHub& hub, pid_t pid) {
  const auto agent = hub.home_of(pid);
  return agent != nullptr && agent->has_status;
}

}  // namespace

std::string Manager::note() {
  wire::Wishes wishes;
  wishes.set_adopted(true);
  return Placer::note_of(wishes);
}

// ---- rules ----

Result<> Manager::add(const ManageRule& rule) {
  TESS_TRY(rules_.add(rule));
  log::info("node", "event=manage rule=\"{}\" owner={}", rule.text(), rule.owner);
  rules_changed();
  return {};
}

Result<> Manager::remove(const ManageRule& rule, uid_t by) {
  TESS_TRY(rules_.remove(rule, by));
  log::info("node", "event=unmanage rule=\"{}\" by={}", rule.text(), by);
  rules_changed();
  return {};
}

void Manager::rules_changed() {
  std::erase_if(
      busy_, [this](const auto& item) { return rules_.covering(item.second.subject) == nullptr; });
  for (auto& [pid, busy] : busy_) {
    busy.read_at = Time();  // another rule may say otherwise
  }
  for (auto& [job, adopted] : adopted_) {
    const auto agent = hub_.home_agent(job);
    if (agent != nullptr) {
      adopted.covered = covered(*agent);
      adopted.wait = 0;
      // The book is told: it is the cluster's to move, or not any more.
      agent->note = adopted.covered ? note() : "";
    }
  }
  review();
}

// ---- looking ----

void Manager::look(Time now, const std::unordered_map<pid_t, uint64_t>& wanted_ns) {
  review();
  if (rules_.all().empty()) {
    busy_.clear();
    activity_ = ProcessActivity();
    return;
  }
  activity_.update(now, wanted_ns);
  for (const auto& [pid, busy] : busy_) {
    if (busy.stand_in != nullptr && holds(hub_, pid)) {
      activity_.keep(pid);
    }
  }
  const std::vector<pid_t> pids = activity_.busy();
  std::erase_if(busy_, [&](const auto& item) {
    return std::find(pids.begin(), pids.end(), item.first) == pids.end();
  });
  size_t reads = 0;
  for (const pid_t pid : pids) {
    const auto known = busy_.find(pid);
    const bool young = known != busy_.end() && now - known->second.read_at < kReadAgain;
    if (!young && !holds(hub_, pid) && reads++ < kReadsMost) {
      consider(pid, now);
    }
  }
}

void Manager::consider(pid_t pid, Time now) {
  auto subject = look_at(pid);
  const ManageRule* rule = subject ? rules_.covering(*subject) : nullptr;
  if (rule == nullptr) {
    busy_.erase(pid);
    return;
  }
  Busy& busy = busy_[pid];
  if (busy.stand_in != nullptr && busy.subject.start_time != subject->start_time) {
    busy.stand_in = nullptr;  // another process with that number
  }
  busy.subject = std::move(*subject);
  busy.rule = rule->text();
  busy.read_at = now;
  busy.excluded = excluded_because(busy.subject, *rule);
  if (busy.excluded.empty() && busy.subject.cpu_seconds < kLeastLife) {
    busy.excluded = "it has used hardly any CPU yet";
  }
  const bool full = busy.stand_in == nullptr && candidates() >= candidates_most();
  if (busy.excluded.empty() && full) {
    busy.excluded = fmt::format("{} others are looked after already", candidates_most());
  }
  if (!busy.excluded.empty()) {
    busy.stand_in = nullptr;
  } else if (busy.stand_in == nullptr) {
    busy.stand_in = make_stand_in(busy.subject);
    log::info("node", "event=candidate pid={} job={} rule=\"{}\"", pid,
              job_text(busy.stand_in->job), rule->text());
  }
}

std::shared_ptr<Agent> Manager::make_stand_in(const Subject& subject) {
  auto agent = std::make_shared<Agent>();
  agent->job = job_ids_.next();
  agent->role = wire::Register::HOME;
  agent->first_pid = subject.pid;
  agent->note = note();
  agent->has_status = true;
  wire::JobProcess& process = *agent->status.add_process();
  process.set_pid(subject.pid);
  process.set_inner_pid(subject.innermost_pid);
  process.set_parent_pid(subject.parent);
  process.set_uid(subject.uids[0]);
  process.set_thread_count(subject.threads);
  process.set_command(subject.command_line());
  process.set_state("native");
  return agent;
}

std::optional<Subject> Manager::look_at(pid_t pid) const {
  auto subject = read_subject(pid);
  if (subject) {
    subject->of_tessera = subject->of_tessera || is_of_tessera(*subject);
  }
  return subject;
}

// An agent, a guest below one, or what a keeper of batch jobs has started.
bool Manager::is_of_tessera(const Subject& subject) const {
  pid_t pid = subject.pid;
  pid_t parent = subject.parent;
  for (int depth = 0; pid > 1 && depth < kAncestorsMost; ++depth) {
    if (pid == ::getpid() || hub_.by_process(pid) != nullptr) {
      return true;
    }
    const auto facts = process_facts(parent);
    pid = parent;
    parent = facts && *facts ? (*facts)->parent : 0;
  }
  return false;
}

size_t Manager::candidates() const {
  return static_cast<size_t>(std::count_if(busy_.begin(), busy_.end(), [](const auto& item) {
    return item.second.stand_in != nullptr;
  }));
}

// ---- candidates ----

void Manager::add_candidates(std::vector<std::shared_ptr<Agent>>& agents) const {
  for (const auto& [pid, busy] : busy_) {
    if (busy.stand_in != nullptr && !holds(hub_, pid)) {
      wire::JobProcess& process = *busy.stand_in->status.mutable_process(0);
      if (const auto use = process_use(pid)) {
        process.set_cpu_home_ns(use->ran_ns);
        process.set_memory_bytes(use->memory_bytes);
      }
      agents.push_back(busy.stand_in);
    }
  }
}

std::optional<Manager::Hold> Manager::hold_of(pid_t pid) const {
  const auto found = busy_.find(pid);
  if (found == busy_.end() || found->second.stand_in == nullptr) {
    return std::nullopt;
  }
  return Hold{found->second.stand_in->job, found->second.stand_in->note};
}

bool Manager::take(uint64_t job, const std::function<void(const Result<>&)>& then) {
  const auto found = std::find_if(busy_.begin(), busy_.end(), [job](const auto& item) {
    return item.second.stand_in != nullptr && item.second.stand_in->job == job;
  });
  if (found == busy_.end()) {
    return false;
  }
  const pid_t pid = found->first;
  const uint64_t start_time = found->second.subject.start_time;
  consider(pid, found->second.read_at);
  const auto again = busy_.find(pid);
  if (again == busy_.end() || again->second.subject.start_time != start_time) {
    then(fail(ErrorKind::kNotPossible, "it has ended"));
  } else if (!again->second.excluded.empty()) {
    then(fail(ErrorKind::kNotPossible, "{}", again->second.excluded));
  } else {
    hub_.start_home(job, pid, false, "", again->second.stand_in->note,
                    [then](const Result<std::shared_ptr<Agent>>& started) {
                      then(started ? Result<>() : tl::unexpected(started.error()));
                    });
  }
  return true;
}

// ---- those that are away ----

bool Manager::covered(const Agent& agent) const {
  const auto& processes = agent.status.process();
  return std::any_of(processes.begin(), processes.end(), [this](const wire::JobProcess& process) {
    const auto subject = read_subject(process.pid());
    return subject && rules_.covering(*subject) != nullptr;
  });
}

void Manager::review() {
  for (const auto& agent : hub_.all()) {
    if (agent->has_status && !adopted_.contains(agent->job) && is_adopted(*agent)) {
      // One that an earlier tessd started, or a new one.
      Adopted& adopted = adopted_[agent->job];
      adopted.covered = covered(*agent);
      if (!adopted.covered) {
        agent->note.clear();
      }
    }
  }
  for (auto it = adopted_.begin(); it != adopted_.end();) {
    const auto agent = hub_.home_agent(it->first);
    if (agent == nullptr) {
      it = adopted_.erase(it);
      continue;
    }
    Adopted& adopted = it->second;
    const auto& processes = agent->status.process();
    const bool away =
        std::any_of(processes.begin(), processes.end(),
                    [](const wire::JobProcess& one) { return one.state() != "native"; });
    if (!adopted.covered && !adopted.returning && away) {
      if (adopted.wait == 0) {
        adopted.wait = kHomeAgain;
        adopted.returning = true;
        bring_home(agent);
      } else {
        --adopted.wait;
      }
    }
    ++it;
  }
}

void Manager::bring_home(const std::shared_ptr<Agent>& agent) {
  log::info("node", "event=unmanaged job={} text=\"no rule covers it: it comes home\"",
            job_text(agent->job));
  wire::AgentDown ask;
  ask.mutable_bring_home();
  hub_.ask(agent, std::move(ask), kHomeTimeout,
           [this, job = agent->job](const Result<wire::AgentUp>& answer) {
             if (const auto found = adopted_.find(job); found != adopted_.end()) {
               found->second.returning = false;
             }
             if (!answer || !answer->answer().ok()) {
               log::warn("node", "event=recall_failed job={} reason=\"{}\"", job_text(job),
                         answer ? answer->answer().message() : answer.error().message());
             }
           });
}

// ---- for people ----

std::vector<Manager::Watched> Manager::watched() const {
  std::vector<Watched> list;
  for (const auto& [pid, busy] : busy_) {
    Watched one{pid,       busy.subject.uids[0], busy.subject.command_line(),
                busy.rule, busy.excluded,        ""};
    if (const auto agent = hub_.home_of(pid); agent != nullptr) {
      for (const auto& process : agent->status.process()) {
        one.node = process.pid() == pid ? process.node() : one.node;
      }
    }
    list.push_back(std::move(one));
  }
  return list;
}

std::vector<std::string> Manager::explain(pid_t pid) const {
  const auto agent = hub_.home_of(pid);
  const bool adopted = agent != nullptr && adopted_.contains(agent->job);
  if (agent != nullptr && !agent->note.empty() && !adopted) {
    return {};
  }
  const auto subject = look_at(pid);
  if (!subject) {
    return {};
  }
  const ManageRule* rule = rules_.covering(*subject);
  if (rule == nullptr) {
    return {
        "it was not started by `tess run`, and no rule of `tess manage` covers it: only people "
        "move it"};
  }
  const std::string managed =
      fmt::format("it was not started by `tess run`, but `tess manage {}` covers it", rule->text());
  if (hold_of(pid) || adopted) {
    return {managed};
  }
  const std::string excluded = excluded_because(*subject, *rule);
  if (!excluded.empty()) {
    return {fmt::format("{}; it is left alone all the same: {}", managed, excluded)};
  }
  return {
      fmt::format("{}; it is left alone while it wants little CPU: {:.1f} s lately, of {:.0f} "
                  "that make it worth while",
                  managed, activity_.lately(pid), ProcessActivity::kEnough)};
}

}  // namespace tess::node
