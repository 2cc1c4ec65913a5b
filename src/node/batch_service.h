// BatchService: `tess batch` in tessd. Keeps the queue (batch/queue) and its registry on the disk
// (batch/registry) in step, starts keepers (batch/keeper) for the tasks that fit, and learns from
// their records what became of them, also of those that an earlier tessd started.
//
// The order that makes a task run at most once: its state is on the disk, then its record exists
// and is locked, then its keeper starts; the keeper writes that the command runs, then it does.
// After a crash anywhere the record tells how far that came. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batch/queue.h"
#include "batch/registry.h"
#include "batch/task_record.h"
#include "net/loop.h"
#include "sys/process.h"

namespace tess::node {

class BatchService {
 public:
  struct Options {
    std::string node_name;
    std::string state_dir;
    std::string run_dir;
    std::string agent_binary;
  };
  struct Cluster {
    std::function<std::vector<batch::NodeRoom>()> rooms;
    // The node where a process whose home is here runs; empty: not known.
    std::function<std::string(pid_t)> place_of;
  };
  using Done = std::function<void(const Result<>&)>;

  static Result<std::unique_ptr<BatchService>> start(net::Loop& loop, Options options,
                                                     Cluster cluster);
  ~BatchService();

  // `spec` is complete: who submits it has been filled in.
  void submit(batch::JobSpec spec, std::function<void(const Result<uint64_t>&)> done);
  // The job exists. Answered when it is on the disk.
  void hold(uint64_t job, bool on, Done done);
  void cancel(uint64_t job, std::optional<uint32_t> task, Done done);
  // Calls `done` once when all these are over, unless `alive` says that nobody waits any more.
  void when_over(std::vector<uint64_t> jobs, std::function<bool()> alive,
                 std::function<void()> done);

  const batch::Queue& queue() const { return queue_; }
  static batch::Time now();
  // Nothing is started any more.
  void stop() { stopping_ = true; }

 private:
  struct Kept {
    sys::Process keeper;  // not valid: an earlier tessd started it
    std::unique_ptr<net::FdWatch> exit;
  };
  struct Waiter {
    std::vector<uint64_t> jobs;
    std::function<bool()> alive;
    std::function<void()> done;
  };

  BatchService(net::Loop& loop, Options options, Cluster cluster, batch::Store store);
  void restore(const std::vector<batch::JobRow>& jobs, const std::vector<batch::TaskRow>& tasks);
  void tick();
  void look();
  void plan_soon();
  void plan();
  void forget_old();
  void check_waiters();
  void write(batch::Registry::Work work, Done done);
  void persist(const batch::TaskId& id, Done done = nullptr);

  // batch_tasks.cc
  void start_task(const batch::TaskId& id);
  void spawn(const batch::TaskId& id);
  Result<> spawn_keeper(const batch::TaskId& id);
  Result<std::vector<std::string>> command_of(const batch::Job& job, uint32_t task) const;
  Result<batch::JobSpec> final_spec(const batch::TaskId& id) const;
  void on_keeper_exit(const batch::TaskId& id);
  void settle(const batch::TaskId& id);
  void settle_gone(const batch::TaskId& id, const batch::TaskRecord& record);
  void close(const batch::TaskId& id, batch::TaskState state, int exit_code,
             const std::string& outcome);
  void try_again(const batch::TaskId& id, batch::Time pause, const std::string& why);
  void end_task(const batch::TaskId& id);
  std::string record_path(const batch::TaskId& id) const;
  std::string script_path(uint64_t job) const;

  net::Loop& loop_;
  Options options_;
  Cluster cluster_;
  batch::Queue queue_;
  std::map<batch::TaskId, Kept> kept_;
  std::vector<Waiter> waiters_;
  net::Timer timer_;
  std::unique_ptr<net::Timer> soon_;
  batch::Time forgotten_at_{0};
  bool stopping_ = false;
  // Last: it ends its thread before the rest goes.
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::unique_ptr<batch::Registry> registry_;
};

// The environment and the files of a task, for whoever shows or runs it.
std::vector<std::string> task_environment(const batch::Job& job, uint32_t task,
                                          const std::string& node);
batch::PatternValues pattern_values(const batch::Job& job, uint32_t task);

}  // namespace tess::node
