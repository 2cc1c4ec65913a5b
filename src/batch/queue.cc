#include "batch/queue.h"

#include <algorithm>
#include <array>

#include "base/check.h"

namespace tess::batch {
namespace {

constexpr std::array<const char*, 7> kStates = {"queued", "starting",  "running", "done",
                                                "failed", "cancelled", "lost"};

}  // namespace

const char* to_text(TaskState state) {
  return kStates[static_cast<size_t>(state)];
}

std::optional<TaskState> state_of(const std::string& text) {
  const auto found = std::find(kStates.begin(), kStates.end(), text);
  if (found == kStates.end()) {
    return std::nullopt;
  }
  return static_cast<TaskState>(found - kStates.begin());
}

void Queue::add(uint64_t id, JobSpec spec, Time submitted, bool held) {
  Job job;
  job.id = id;
  auto array = spec.array.empty() ? ArraySpec() : parse_array(spec.array).value_or(ArraySpec());
  job.tasks = array.tasks.empty() ? std::vector<uint32_t>{1} : std::move(array.tasks);
  job.at_most = array.at_most;
  job.spec = std::move(spec);
  job.submitted = submitted;
  job.held = held;
  job.counts.queued = job.tasks.size();
  const bool fresh = jobs_.emplace(id, std::move(job)).second;
  TESS_CHECK(fresh, "job {} is there already", id);
}

void Queue::count(Job& job, TaskState state, int by) {
  size_t* const counters[] = {&job.counts.queued, &job.counts.running, &job.counts.running,
                              &job.counts.done,   &job.counts.failed,  &job.counts.cancelled,
                              &job.counts.lost};
  *counters[static_cast<size_t>(state)] += static_cast<size_t>(by);
}

void Queue::change(Job& job, uint32_t task, TaskInfo& info, TaskState state, Time now) {
  count(job, info.state, -1);
  count(job, state, 1);
  info.state = state;
  const bool busy = state == TaskState::kStarting || state == TaskState::kRunning;
  busy ? void(active_[{job.id, task}] = true) : void(active_.erase({job.id, task}));
  if (is_final(state)) {
    info.ended = now;
    if (job.over()) {
      job.ended = now;
      job.waits_for.clear();
    }
  }
}

// Takes a task that waits out of its place in the line.
void Queue::take(Job& job, uint32_t task) {
  const auto again = std::find(job.again.begin(), job.again.end(), task);
  if (again != job.again.end()) {
    job.again.erase(again);
    job.not_before.erase(task);
  }
  const auto skip = [&] {
    while (job.next < job.tasks.size() && job.info.contains(job.tasks[job.next])) {
      ++job.next;
    }
  };
  (void)job.info[task];
  skip();
}

TaskInfo& Queue::info_of(Job& job, uint32_t task) {
  TESS_CHECK(std::binary_search(job.tasks.begin(), job.tasks.end(), task), "job {} has no task {}",
             job.id, task);
  return job.info[task];
}

void Queue::restore(const TaskId& id, TaskInfo info) {
  Job& job = jobs_.at(id.job);
  take(job, id.task);
  TaskInfo& kept = info_of(job, id.task);
  const TaskState state = info.state;
  const Time ended = info.ended;
  info.state = kept.state;
  kept = std::move(info);
  change(job, id.task, kept, state, ended);
  if (state == TaskState::kQueued) {
    job.again.push_back(id.task);
  }
}

void Queue::starting(const TaskId& id, Time now) {
  Job& job = jobs_.at(id.job);
  take(job, id.task);
  TaskInfo& info = info_of(job, id.task);
  TESS_CHECK(info.state == TaskState::kQueued, "task {}.{} is {}", id.job, id.task,
             to_text(info.state));
  ++info.attempt;
  info.started = now;
  info.pid = 0;
  info.node.clear();
  change(job, id.task, info, TaskState::kStarting, now);
}

void Queue::running(const TaskId& id, int64_t pid) {
  Job& job = jobs_.at(id.job);
  TaskInfo& info = info_of(job, id.task);
  if (info.state == TaskState::kStarting) {
    info.pid = pid;
    change(job, id.task, info, TaskState::kRunning, info.started);
  }
}

void Queue::not_started(const TaskId& id, Time again, const std::string& why) {
  Job& job = jobs_.at(id.job);
  TaskInfo& info = info_of(job, id.task);
  if (is_final(info.state) || info.state == TaskState::kQueued) {
    return;
  }
  info.outcome = why;
  change(job, id.task, info, TaskState::kQueued, again);
  job.again.push_back(id.task);
  job.not_before[id.task] = again;
}

bool Queue::ended(const TaskId& id, TaskState state, int exit_code, const std::string& outcome,
                  Time now) {
  TESS_CHECK(is_final(state), "{} is no end", to_text(state));
  Job& job = jobs_.at(id.job);
  TaskInfo& info = info_of(job, id.task);
  if (is_final(info.state)) {
    return false;
  }
  if (info.state == TaskState::kQueued) {
    take(job, id.task);
  }
  if (info.cancelling && state != TaskState::kDone) {
    state = TaskState::kCancelled;
  }
  info.exit_code = exit_code;
  info.outcome = outcome;
  if (state == TaskState::kLost && job.spec.requeue) {
    change(job, id.task, info, TaskState::kQueued, now);
    job.again.push_back(id.task);
    return true;
  }
  change(job, id.task, info, state, now);
  return false;
}

void Queue::set_pid(const TaskId& id, int64_t pid) {
  info_of(jobs_.at(id.job), id.task).pid = pid;
}

void Queue::set_place(const TaskId& id, const std::string& node) {
  info_of(jobs_.at(id.job), id.task).node = node;
}

void Queue::hold(uint64_t job, bool on) {
  jobs_.at(job).held = on;
}

std::vector<TaskId> Queue::cancel(uint64_t id, std::optional<uint32_t> only, Time now,
                                  const std::string& why) {
  Job& job = jobs_.at(id);
  std::vector<TaskId> begun;
  for (const uint32_t task : job.tasks) {
    if (only && task != *only) {
      continue;
    }
    const TaskState current = state({id, task});
    if (current == TaskState::kQueued) {
      take(job, task);
      TaskInfo& info = info_of(job, task);
      info.outcome = why;
      change(job, task, info, TaskState::kCancelled, now);
    } else if (!is_final(current)) {
      TaskInfo& info = info_of(job, task);
      info.cancelling = true;
      begun.push_back({id, task});
    }
  }
  return begun;
}

void Queue::forget(uint64_t job) {
  const auto found = jobs_.find(job);
  TESS_CHECK(found != jobs_.end() && found->second.over(), "job {} is not over", job);
  jobs_.erase(found);
}

const Job* Queue::find(uint64_t job) const {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : &found->second;
}

bool Queue::has(const TaskId& id) const {
  const Job* job = find(id.job);
  return job != nullptr && std::binary_search(job->tasks.begin(), job->tasks.end(), id.task);
}

TaskState Queue::state(const TaskId& id) const {
  const auto& info = jobs_.at(id.job).info;
  const auto found = info.find(id.task);
  return found == info.end() ? TaskState::kQueued : found->second.state;
}

std::vector<TaskId> Queue::active() const {
  std::vector<TaskId> list;
  list.reserve(active_.size());
  for (const auto& [id, busy] : active_) {
    list.push_back(id);
  }
  return list;
}

}  // namespace tess::batch
