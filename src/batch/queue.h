// Queue: which tasks of which jobs are to be started now. Pure: no clock, no files, no processes.
// The caller tells it what happens (each method is one event) and asks plan() with what the cluster
// has free; it starts what the plan says, after telling starting(). A task is in exactly one state;
// one that has begun is begun again only if not_started() says that nothing ran, or if it is lost
// and its owner wanted that (`requeue`).
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "batch/job_spec.h"

namespace tess::batch {

using Time = std::chrono::milliseconds;  // since the epoch: it is kept over restarts

struct TaskId {
  uint64_t job = 0;
  uint32_t task = 0;
  auto operator<=>(const TaskId&) const = default;
};

enum class TaskState : uint8_t {
  kQueued,
  kStarting,  // told to start; whether its command runs is not known yet
  kRunning,
  kDone,    // ended with status 0
  kFailed,  // ended otherwise, or could not be started
  kCancelled,
  kLost,  // it ran, and nobody knows how it ended
};
const char* to_text(TaskState state);
std::optional<TaskState> state_of(const std::string& text);
inline bool is_final(TaskState state) {
  return state >= TaskState::kDone;
}

// Of a task that has begun at least once or has ended.
struct TaskInfo {
  TaskState state = TaskState::kQueued;
  uint32_t attempt = 0;  // how often it was started
  bool cancelling = false;
  Time started{0};
  Time ended{0};
  int64_t pid = 0;      // of its command, once that is known
  std::string node;     // where its command is, as far as known
  int exit_code = -1;   // as a shell would say it; -1: none
  std::string outcome;  // how it ended, in words
};

struct Counts {
  size_t queued = 0, running = 0, done = 0, failed = 0, cancelled = 0, lost = 0;
  size_t open() const { return queued + running; }
  size_t all() const { return queued + running + done + failed + cancelled + lost; }
};

struct Job {
  uint64_t id = 0;
  JobSpec spec;
  std::vector<uint32_t> tasks;  // ascending
  uint32_t at_most = 0;
  Time submitted{0};
  bool held = false;

  size_t next = 0;             // of `tasks`: those before have begun or ended
  std::deque<uint32_t> again;  // to be started again
  std::map<uint32_t, Time> not_before;
  std::map<uint32_t, TaskInfo> info;
  Counts counts;
  std::string waits_for;  // why nothing of it starts now; of the last plan
  Time ended{0};

  bool over() const { return counts.open() == 0; }
};

// A node as the queue sees it.
struct NodeRoom {
  std::string name;
  std::string id;     // stays when its name does not
  bool home = false;  // where the queue is
  bool usable = true;
  double cpus = 1;
  double runnable = 0;  // threads that run there or want to
  uint64_t memory_bytes = 0;
  uint64_t memory_free_bytes = 0;
};

struct Plan {
  std::vector<TaskId> start;                              // in this order
  std::vector<std::pair<uint64_t, std::string>> give_up;  // jobs that can never start, and why
};

struct QueuePolicy {
  Time settle{4000};     // a task shows in the load picture after this time
  Time patience{60000};  // who has waited so long is kept a node for
  double slack = 0.5;    // of a CPU: what the load picture may say of an idle node
  double memory_reserve = 0.05;
  size_t starting_at_once = 16;
};

class Queue {
 public:
  explicit Queue(QueuePolicy policy = {}) : policy_(policy) {}

  // `spec` has been checked. Its tasks are queued, but for those that restore() tells of later.
  void add(uint64_t id, JobSpec spec, Time submitted, bool held);
  // kQueued: it is to be started again.
  void restore(const TaskId& id, TaskInfo info);

  void starting(const TaskId& id, Time now);
  void running(const TaskId& id, int64_t pid);
  // Nothing of it has run; it waits until `again`.
  void not_started(const TaskId& id, Time again, const std::string& why);
  // A final state, but that a lost one may be queued again (then true).
  bool ended(const TaskId& id, TaskState state, int exit_code, const std::string& outcome,
             Time now);
  void set_pid(const TaskId& id, int64_t pid);
  void set_place(const TaskId& id, const std::string& node);
  void hold(uint64_t job, bool on);
  // Those of them that have begun: they are to be ended. The others are cancelled.
  std::vector<TaskId> cancel(uint64_t job, std::optional<uint32_t> task, Time now,
                             const std::string& why);
  void forget(uint64_t job);

  Plan plan(Time now, std::span<const NodeRoom> nodes);

  const std::map<uint64_t, Job>& jobs() const { return jobs_; }
  const Job* find(uint64_t job) const;
  TaskState state(const TaskId& id) const;
  bool has(const TaskId& id) const;
  std::vector<TaskId> active() const;  // starting and running

 private:
  struct Bin;
  struct Candidate;
  TaskInfo& info_of(Job& job, uint32_t task);
  void count(Job& job, TaskState state, int by);
  void change(Job& job, uint32_t task, TaskInfo& info, TaskState state, Time now);
  static std::optional<uint32_t> next_task(Job& job, const std::set<uint32_t>& taken, Time now);
  std::map<uid_t, std::set<Candidate>> candidates(Time now, Plan& plan);
  void take(Job& job, uint32_t task);
  std::optional<std::string> blocked(const Job& job, Time now, bool& never) const;
  std::vector<Bin> bins(Time now, std::span<const NodeRoom> nodes) const;
  static bool may_use(const JobSpec& spec, const Bin& bin);
  Bin* fitting(const JobSpec& spec, std::vector<Bin>& bins) const;
  Bin* possible(const JobSpec& spec, std::vector<Bin>& bins, bool memory_now) const;
  static std::string lack(const JobSpec& spec, const std::vector<Bin>& bins);

  QueuePolicy policy_;
  std::map<uint64_t, Job> jobs_;
  std::map<TaskId, bool> active_;
};

}  // namespace tess::batch
