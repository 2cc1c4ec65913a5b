#include "node/batch_service.h"

#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "sys/files.h"

namespace tess::node {

using batch::TaskId;
using batch::TaskState;
using batch::Time;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds kRound{1000};
constexpr milliseconds kSoon{20};  // gathers what ends together
constexpr Time kKeep = std::chrono::hours(7 * 24);
constexpr Time kForgetEvery = std::chrono::hours(1);

}  // namespace

Time BatchService::now() {
  return std::chrono::duration_cast<Time>(std::chrono::system_clock::now().time_since_epoch());
}

BatchService::BatchService(net::Loop& loop, Options options, Cluster cluster, batch::Store store)
    : loop_(loop), options_(std::move(options)), cluster_(std::move(cluster)), timer_(loop) {
  registry_ = std::make_unique<batch::Registry>(
      std::move(store), [this](std::function<void()> task) { loop_.post(std::move(task)); });
}

BatchService::~BatchService() {
  *alive_ = false;
}

Result<std::unique_ptr<BatchService>> BatchService::start(net::Loop& loop, Options options,
                                                          Cluster cluster) {
  const std::string dir = options.state_dir + "/batch";
  TESS_TRY(sys::make_directories(dir + "/tasks", 0700));
  TESS_TRY(sys::make_directories(options.run_dir + "/batch", 0755));
  TESS_TRY_ASSIGN(auto store, batch::Store::open(dir + "/registry.db"));
  TESS_TRY_ASSIGN(const auto jobs, store.jobs());
  TESS_TRY_ASSIGN(const auto tasks, store.tasks());
  std::unique_ptr<BatchService> service(
      new BatchService(loop, std::move(options), std::move(cluster), std::move(store)));
  service->restore(jobs, tasks);
  service->tick();
  return service;
}

void BatchService::restore(const std::vector<batch::JobRow>& jobs,
                           const std::vector<batch::TaskRow>& tasks) {
  for (const batch::JobRow& row : jobs) {
    auto spec = batch::decode(row.spec);
    if (!spec) {
      log::error("node", "event=batch_job_unreadable job={} reason=\"{}\"", row.id,
                 spec.error().message());
      continue;
    }
    queue_.add(row.id, std::move(*spec), row.submitted, row.held);
  }
  for (const batch::TaskRow& row : tasks) {
    if (queue_.has(row.id)) {
      queue_.restore(row.id, row.info);
    }
  }
  for (const batch::JobRow& row : jobs) {
    if (!row.cancelled.empty() && queue_.find(row.id) != nullptr) {
      (void)queue_.cancel(row.id, std::nullopt, now(), row.cancelled);
    }
  }
  // An earlier tessd's: their records tell what became of them.
  for (const TaskId& id : queue_.active()) {
    kept_.emplace(id, Kept());
    settle(id);
    const auto& info = queue_.find(id.job)->info.at(id.task);
    if (kept_.contains(id) && info.cancelling) {
      end_task(id);
    }
  }
  log::info("node", "event=batch_restored jobs={} active={}", queue_.jobs().size(),
            queue_.active().size());
}

// The work's answer is dropped once this is gone.
void BatchService::write(batch::Registry::Work work, Done done) {
  registry_->write(std::move(work),
                   [alive = alive_, done = std::move(done)](const Result<>& result) {
                     if (*alive && done) {
                       done(result);
                     }
                   });
}

void BatchService::persist(const TaskId& id, Done done) {
  const batch::TaskRow row{id, queue_.find(id.job)->info.at(id.task)};
  write([row](batch::Store& store) { return store.put_task(row); },
        [id, done = std::move(done)](const Result<>& result) {
          if (!result) {
            log::error("node", "event=batch_not_written task={}.{} reason=\"{}\"", id.job, id.task,
                       result.error().message());
          }
          if (done) {
            done(result);
          }
        });
}

void BatchService::submit(batch::JobSpec spec, std::function<void(const Result<uint64_t>&)> done) {
  for (const batch::After& after : spec.after) {
    const batch::Job* other = queue_.find(after.job);
    if (other == nullptr) {
      done(fail(ErrorKind::kBadInput, "there is no job {} on node {} to come after", after.job,
                options_.node_name));
      return;
    }
  }
  const auto id = std::make_shared<uint64_t>(0);
  const Time submitted = now();
  const auto text = batch::encode(spec);
  write(
      [id, text, submitted, held = spec.held](batch::Store& store) -> Result<> {
        TESS_TRY_ASSIGN(*id, store.add_job(text, submitted, held));
        return {};
      },
      [this, id, submitted, spec = std::move(spec), done](const Result<>& written) mutable {
        if (!written) {
          done(tl::unexpected(written.error()));
          return;
        }
        const bool held = spec.held;
        queue_.add(*id, std::move(spec), submitted, held);
        log::info("node", "event=batch_submitted job={} tasks={} uid={}", *id,
                  queue_.find(*id)->tasks.size(), queue_.find(*id)->spec.uid);
        plan();
        done(*id);
      });
}

void BatchService::hold(uint64_t job, bool on, Done done) {
  write([job, on](batch::Store& store) { return store.hold_job(job, on); },
        [this, job, on, done](const Result<>& written) {
          if (written && queue_.find(job) != nullptr) {
            queue_.hold(job, on);
            plan_soon();
          }
          done(written);
        });
}

void BatchService::cancel(uint64_t job, std::optional<uint32_t> task, Done done) {
  // Written down before anybody is killed: or it would look as if the task had failed.
  const auto begun = queue_.cancel(job, task, now(), "cancelled");
  std::vector<batch::TaskRow> rows;
  const batch::Job& known = *queue_.find(job);
  for (const auto& [number, info] : known.info) {
    if ((!task && info.cancelling) || (task && number == *task)) {
      rows.push_back({{job, number}, info});
    }
  }
  write(
      [job, rows, all = !task](batch::Store& store) -> Result<> {
        for (const batch::TaskRow& row : rows) {
          TESS_TRY(store.put_task(row));
        }
        return all ? store.cancel_job(job, "cancelled") : Result<>();
      },
      [this, begun, done](const Result<>& written) {
        for (const TaskId& id : begun) {
          end_task(id);
        }
        check_waiters();
        plan_soon();
        done(written);
      });
}

void BatchService::when_over(std::vector<uint64_t> jobs, std::function<bool()> alive,
                             std::function<void()> done) {
  waiters_.push_back({std::move(jobs), std::move(alive), std::move(done)});
  check_waiters();
}

void BatchService::check_waiters() {
  std::vector<std::function<void()>> ready;
  std::erase_if(waiters_, [&](Waiter& waiter) {
    if (!waiter.alive()) {
      return true;
    }
    const bool over = std::all_of(waiter.jobs.begin(), waiter.jobs.end(), [this](uint64_t id) {
      const batch::Job* job = queue_.find(id);
      return job == nullptr || job->over();
    });
    if (over) {
      ready.push_back(std::move(waiter.done));
    }
    return over;
  });
  for (const auto& done : ready) {
    done();
  }
}

void BatchService::tick() {
  timer_.start(kRound, [this] { tick(); });
  look();
  forget_old();
  check_waiters();
  plan();
}

// What nobody is told of: where a command is, that one has begun, the ends of adopted tasks.
void BatchService::look() {
  for (const TaskId& id : queue_.active()) {
    const auto kept = kept_.find(id);
    if (kept == kept_.end()) {
      continue;
    }
    const batch::TaskInfo& info = queue_.find(id.job)->info.at(id.task);
    if (!kept->second.keeper.valid() || info.state == TaskState::kStarting) {
      settle(id);
    }
    if (info.cancelling && kept_.contains(id)) {
      end_task(id);
    }
    if (queue_.state(id) == TaskState::kRunning) {
      queue_.set_place(id, cluster_.place_of(static_cast<pid_t>(info.pid)));
    }
  }
}

void BatchService::plan_soon() {
  if (soon_ == nullptr) {
    soon_ = std::make_unique<net::Timer>(loop_);
    soon_->start(kSoon, [this] {
      const auto timer = std::move(soon_);
      plan();
    });
  }
}

void BatchService::plan() {
  if (stopping_) {
    return;
  }
  const auto rooms = cluster_.rooms();
  const batch::Plan plan = queue_.plan(now(), rooms);
  for (const auto& [job, why] : plan.give_up) {
    (void)queue_.cancel(job, std::nullopt, now(), why);
    write([job = job, why = why](batch::Store& store) { return store.cancel_job(job, why); },
          nullptr);
    log::info("node", "event=batch_given_up job={} reason=\"{}\"", job, why);
  }
  for (const TaskId& id : plan.start) {
    start_task(id);
  }
  if (!plan.give_up.empty()) {
    check_waiters();
    plan_soon();  // others may have come after those
  }
}

void BatchService::forget_old() {
  if (now() - forgotten_at_ < kForgetEvery) {
    return;
  }
  forgotten_at_ = now();
  std::vector<uint64_t> old;
  for (const auto& [id, job] : queue_.jobs()) {
    if (job.over() && now() - job.ended > kKeep) {
      old.push_back(id);
    }
  }
  for (const uint64_t id : old) {
    queue_.forget(id);
    write([id](batch::Store& store) { return store.forget_job(id); }, nullptr);
  }
}

}  // namespace tess::node
