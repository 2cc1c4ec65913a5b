// ControlApi: batch jobs. A job belongs to the user who submitted it; others but root do not see
// it.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "node/control_request.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using batch::TaskState;
using nlohmann::json;

constexpr size_t kMaxTasksShown = 10000;

// The caller's own limits: the kernel's word, as a client could claim any. (Not by prlimit, which
// asks for more than root's rights in a container.) One line a resource, in their order.
Result<std::vector<std::pair<uint64_t, uint64_t>>> limits_of(pid_t pid) {
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(fmt::format("/proc/{}/limits", pid)));
  constexpr size_t kSoftColumn = 26;
  constexpr size_t kHardColumn = 47;
  const auto value = [](const std::string& column) {
    return column.starts_with("unlimited") ? RLIM_INFINITY
                                           : std::strtoull(column.c_str(), nullptr, 10);
  };
  std::vector<std::pair<uint64_t, uint64_t>> limits;
  std::istringstream lines(text);
  std::string line;
  std::getline(lines, line);  // titles
  while (std::getline(lines, line) && limits.size() < RLIM_NLIMITS) {
    if (line.size() <= kHardColumn) {
      return fail(ErrorKind::kFailed, "the resource limits of process {} cannot be read", pid);
    }
    limits.emplace_back(value(line.substr(kSoftColumn)), value(line.substr(kHardColumn)));
  }
  return limits;
}

// What a job as a whole is like.
const char* state_of_job(const batch::Job& job) {
  const batch::Counts& counts = job.counts;
  if (counts.running > 0) {
    return "running";
  }
  if (counts.queued > 0) {
    return job.held ? "held" : "queued";
  }
  if (counts.lost > 0) {
    return "lost";
  }
  if (counts.failed > 0) {
    return "failed";
  }
  return counts.cancelled > 0 ? "cancelled" : "done";
}

json time_json(batch::Time time) {
  return time.count() == 0 ? json() : json(static_cast<double>(time.count()) / 1000);
}

json job_json(const batch::Job& job) {
  const batch::Counts& counts = job.counts;
  std::string command = job.spec.script.empty() ? "" : job.spec.name;
  for (const std::string& word : job.spec.command) {
    command += (command.empty() ? "" : " ") + word;
  }
  return {{"job", job.id},
          {"name", job.spec.name},
          {"uid", job.spec.uid},
          {"state", state_of_job(job)},
          {"command", command},
          {"submitted", time_json(job.submitted)},
          {"ended", time_json(job.ended)},
          {"priority", job.spec.priority},
          {"cpus", job.spec.cpus},
          {"memory_bytes", job.spec.memory_bytes},
          {"array", job.spec.array},
          {"waits_for", counts.queued > 0 ? job.waits_for : ""},
          {"tasks", counts.all()},
          {"queued", counts.queued},
          {"running", counts.running},
          {"done", counts.done},
          {"failed", counts.failed},
          {"cancelled", counts.cancelled},
          {"lost", counts.lost}};
}

std::string absolute(const std::string& path, const std::string& directory) {
  if (path.empty() || path.starts_with("/")) {
    return path;
  }
  return directory + "/" + path;
}

json task_json(const batch::Job& job, uint32_t task) {
  static const batch::TaskInfo kFresh;
  const auto found = job.info.find(task);
  const batch::TaskInfo& info = found == job.info.end() ? kFresh : found->second;
  const auto values = pattern_values(job, task);
  const auto path = [&](const std::string& pattern) {
    return absolute(batch::expand_pattern(pattern, values).value_or(""), job.spec.directory);
  };
  const std::string output = path(batch::output_pattern(job.spec));
  const bool running = info.state == TaskState::kRunning;
  return {{"task", task},
          {"state", info.cancelling && !is_final(info.state) ? "ending" : to_text(info.state)},
          {"attempt", info.attempt},
          {"started", time_json(info.started)},
          {"ended", time_json(info.ended)},
          {"pid", running && info.pid != 0 ? json(info.pid) : json()},
          {"node", running ? info.node : ""},
          {"exit_code", info.exit_code >= 0 ? json(info.exit_code) : json()},
          {"outcome", info.outcome},
          {"output", output},
          {"error", job.spec.error.empty() ? output : path(job.spec.error)}};
}

std::optional<uint32_t> task_number(const json& body) {
  const auto found = body.find("task");
  const bool good =
      found != body.end() && found->is_number_unsigned() && found->get<uint64_t>() <= UINT32_MAX;
  return good ? std::optional(found->get<uint32_t>()) : std::nullopt;
}

}  // namespace

bool ControlApi::batch_ready(const RequestPtr& request) const {
  if (batch_ == nullptr) {
    request->error("unavailable", no_batch_);
  }
  return batch_ != nullptr;
}

// A job that the caller may see; else it has been answered.
std::optional<uint64_t> ControlApi::batch_job(const RequestPtr& request, const json& number) const {
  if (!number.is_number_unsigned()) {
    request->error("bad_request", "a job's number is missing");
    return std::nullopt;
  }
  const auto id = number.get<uint64_t>();
  const batch::Job* job = batch_->queue().find(id);
  if (job == nullptr) {
    request->error("unknown_job",
                   fmt::format("there is no job {} on node {}", id, options_.node_name));
    return std::nullopt;
  }
  if (request->caller.uid != 0 && request->caller.uid != job->spec.uid) {
    request->error("not_permitted", fmt::format("job {} belongs to uid {}; only that user and root "
                                                "may ask this",
                                                id, job->spec.uid));
    return std::nullopt;
  }
  return id;
}

void ControlApi::op_batch_submit(const RequestPtr& request) {
  const Caller& caller = request->caller;
  const auto given = request->body.find("job");
  if (!batch_ready(request)) {
    return;
  }
  if (stopping_) {
    request->error("unavailable", fmt::format("node {} is stopping", options_.node_name));
    return;
  }
  if (caller.pid <= 0) {
    request->error("refused", "the caller is in a pid namespace that this node does not see");
    return;
  }
  auto spec = batch::decode(given == request->body.end() ? "" : json_text(*given));
  if (spec) {
    if (const auto checked = batch::check(*spec); !checked) {
      spec = tl::unexpected(checked.error());
    }
  }
  if (!spec) {
    request->error(spec.error());
    return;
  }
  for (const auto& after : spec->after) {
    if (!batch_job(request, after.job)) {
      return;
    }
  }
  if (spec->priority > 0 && caller.uid != 0) {
    request->error("not_permitted", "only root may give a job a priority above 0");
    return;
  }
  const auto limits = limits_of(caller.pid);
  if (!limits) {
    request->error(limits.error());
    return;
  }
  spec->node_id = spec->node.empty() ? "" : wire::to_hex(placer_->id_bytes_of(spec->node));
  spec->uid = caller.uid;
  spec->gid = caller.gid;
  spec->groups = caller.groups;
  spec->limits = *limits;
  batch_->submit(std::move(*spec), [this, request](const Result<uint64_t>& id) {
    if (!id) {
      request->error(id.error());
      return;
    }
    json answer = job_json(*batch_->queue().find(*id));
    request->ok(std::move(answer));
  });
}

void ControlApi::op_batch_list(const RequestPtr& request) {
  if (!batch_ready(request)) {
    return;
  }
  const bool all = request->flag("all");
  json jobs = json::array();
  for (const auto& [id, job] : batch_->queue().jobs()) {
    const bool theirs = request->caller.uid == 0 || request->caller.uid == job.spec.uid;
    if (theirs && (all || !job.over())) {
      jobs.push_back(job_json(job));
    }
  }
  request->ok({{"node", options_.node_name}, {"jobs", std::move(jobs)}});
}

void ControlApi::op_batch_show(const RequestPtr& request) {
  const auto id =
      batch_ready(request) ? batch_job(request, request->body.value("job", json())) : std::nullopt;
  if (!id) {
    return;
  }
  const batch::Job& job = *batch_->queue().find(*id);
  json answer = job_json(job);
  answer["directory"] = job.spec.directory;
  answer["requeue"] = job.spec.requeue;
  answer["held"] = job.held;
  json after = json::array();
  for (const auto& one : job.spec.after) {
    after.push_back({{"job", one.job}, {"any", one.any}});
  }
  answer["after"] = std::move(after);
  const auto only = task_number(request->body);
  if (only && !batch_->queue().has({*id, *only})) {
    request->error("unknown_job", fmt::format("job {} has no task {}", *id, *only));
    return;
  }
  json tasks = json::array();
  for (const uint32_t task : job.tasks) {
    if ((!only || *only == task) && tasks.size() < kMaxTasksShown) {
      tasks.push_back(task_json(job, task));
    }
  }
  answer["task_list"] = std::move(tasks);
  request->ok(std::move(answer));
}

void ControlApi::op_batch_cancel(const RequestPtr& request) {
  const auto id =
      batch_ready(request) ? batch_job(request, request->body.value("job", json())) : std::nullopt;
  if (!id) {
    return;
  }
  const auto task = task_number(request->body);
  if (task && !batch_->queue().has({*id, *task})) {
    request->error("unknown_job", fmt::format("job {} has no task {}", *id, *task));
    return;
  }
  if (batch_->queue().find(*id)->over()) {
    request->error("refused", fmt::format("job {} is over", *id));
    return;
  }
  batch_->cancel(*id, task, [request, id](const Result<>& done) {
    done ? request->ok({{"job", *id}}) : request->error(done.error());
  });
}

void ControlApi::hold_job(const RequestPtr& request, bool on) {
  const auto id =
      batch_ready(request) ? batch_job(request, request->body.value("job", json())) : std::nullopt;
  if (!id) {
    return;
  }
  if (batch_->queue().find(*id)->over()) {
    request->error("refused", fmt::format("job {} is over", *id));
    return;
  }
  batch_->hold(*id, on, [request, id, on](const Result<>& done) {
    done ? request->ok({{"job", *id}, {"held", on}}) : request->error(done.error());
  });
}

void ControlApi::op_batch_hold(const RequestPtr& request) {
  hold_job(request, true);
}

void ControlApi::op_batch_release(const RequestPtr& request) {
  hold_job(request, false);
}

void ControlApi::op_batch_wait(const RequestPtr& request) {
  const auto given = request->body.find("jobs");
  if (!batch_ready(request)) {
    return;
  }
  if (given == request->body.end() || !given->is_array() || given->empty()) {
    request->error("bad_request", "jobs is a list of jobs' numbers");
    return;
  }
  std::vector<uint64_t> ids;
  for (const json& number : *given) {
    const auto id = batch_job(request, number);
    if (!id) {
      return;
    }
    ids.push_back(*id);
  }
  batch_->when_over(
      ids, [request] { return request->reply->alive(); },
      [this, request, ids] {
        json jobs = json::array();
        for (const uint64_t id : ids) {
          if (const batch::Job* job = batch_->queue().find(id)) {
            jobs.push_back(job_json(*job));
          }
        }
        request->ok({{"jobs", std::move(jobs)}});
      });
}

}  // namespace tess::node
