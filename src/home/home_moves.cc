// From the wish to move a process to the end of its move, and what follows from it.
#include <fmt/format.h>

#include <iterator>

#include "base/log.h"
#include "home/group_migration.h"
#include "home/home_agent.h"
#include "memory/transfer_note.h"
#include "sys/priority.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

constexpr int kLinkIdleTicksMax = 10;

}  // namespace

void HomeAgent::migrate(pid_t pid, const std::string& node, Done done) {
  if (find(pid) == nullptr && pid != config_.pid) {
    done(fail(ErrorKind::kBadInput, "process {} does not belong to job {}", pid, config_.job));
    return;
  }
  std::shared_ptr<Managed> process = make_process(pid);
  const bool home = node.empty() || node == tessd_->node();
  if (process->busy && process->moving_to == (home ? "" : node)) {
    process->waiting.push_back(std::move(done));
    return;
  }
  if (process->busy) {
    done(fail(ErrorKind::kRetry, "process {} is moving already; try again when it has arrived",
              pid));
    return;
  }
  if (home && process->state == Managed::State::kNative) {
    process->placed_on.clear();
    done({});
    maybe_finish();
    return;
  }
  if (!home && process->where() == node) {
    done({});
    return;
  }
  start_migration(std::move(process), home ? "" : node, std::move(done));
}

void HomeAgent::start_migration(std::shared_ptr<Managed> process, const std::string& node,
                                Done done) {
  stir();
  process->busy = true;
  process->moving_to = node;
  std::vector<std::shared_ptr<Managed>> group{process};
  auto companions = find_companions(group, node);
  if (!companions && try_again(group, node, done)) {
    return;
  }
  if (!companions) {
    migration_ended(group, node, tl::unexpected(std::move(companions.error())), "", done);
    return;
  }
  group.insert(group.end(), companions->begin(), companions->end());
  // Looking for them heard what has happened meanwhile: it is no longer where the move began.
  if (process->executed_meanwhile) {
    migration_ended(group, node, fail(ErrorKind::kRetry, "process {} executes", process->pid), "",
                    done);
    return;
  }
  ++running_workers_;
  tessd_->send_status();
  // Made here, where they are seen to execute: it goes by where each of them is now.
  auto migration = std::make_shared<GroupMigration>(*this, std::move(group), node);
  workers_.push_back(
      sys::priority_thread([this, migration = std::move(migration), node, done = std::move(done)] {
        Result<> result = migration->run();
        loop_.post([this, all = migration->processes(), node, result = std::move(result),
                    warning = migration->warning(), unsettled = migration->unsettled(), done] {
          --running_workers_;
          if (!result && unsettled && try_again(all, node, done)) {
            return;
          }
          migration_ended(all, node, result, warning, done);
        });
      }));
}

// Somebody with whom it shares was on the way. False: that has lasted too long.
bool HomeAgent::try_again(const std::vector<std::shared_ptr<Managed>>& group,
                          const std::string& node, const Done& done) {
  constexpr uint32_t kAttempts = 100;
  constexpr std::chrono::milliseconds kPause(20);
  const std::shared_ptr<Managed> first = group.front();
  if (finishing_ || find(first->pid) != first.get() || first->executed_meanwhile ||
      ++first->attempts > kAttempts) {
    first->attempts = 0;
    return false;
  }
  for (size_t i = 1; i < group.size(); ++i) {
    std::move(group[i]->waiting.begin(), group[i]->waiting.end(),
              std::back_inserter(first->waiting));
    group[i]->waiting.clear();
    group[i]->busy = false;
    tracer_.resume_stops(group[i]->pid);
    if (std::exchange(group[i]->executed_meanwhile, false)) {
      go_on_after_exec(group[i], group[i]->placed_on);
    }
  }
  tracer_.resume_stops(first->pid);
  // It stays busy: nobody else is to move it until then.
  auto timer = std::make_shared<net::Timer>(loop_);
  timer->start(kPause, [this, timer, first, node, done] { start_migration(first, node, done); });
  return true;
}

void HomeAgent::migration_ended(const std::vector<std::shared_ptr<Managed>>& group,
                                const std::string& node, const Result<>& ended,
                                const std::string& warning, const Done& done) {
  stir();
  const std::shared_ptr<Managed>& first = group.front();
  const bool executed_at_home = node.empty() && first->executed_meanwhile;
  Result<> result = executed_at_home ? Result<>() : ended;  // that is where it was to go
  if (!result && !first->executed_meanwhile && is_gone(*first)) {
    result = fail_with(ended.error(), "process {} has ended", first->pid);
  }
  if (!result && first->executed_meanwhile && !finishing_) {
    // It is another program by now, one that can be moved more easily.
    for (size_t i = 1; i < group.size(); ++i) {
      settle(group[i], node, result);
    }
    first->executed_meanwhile = false;
    if (find(first->pid) == first.get()) {
      start_migration(first, node, done);
      return;
    }
  }
  std::vector<Done> told{done};
  for (const auto& process : group) {
    settle(process, node, result);
    std::move(process->waiting.begin(), process->waiting.end(), std::back_inserter(told));
    process->waiting.clear();
  }
  if (!warning.empty()) {
    log::warn("home", "event=moved_with_trouble pid={} reason=\"{}\"", group.front()->pid, warning);
  }
  after_events();
  home_watch_.settle();
  tessd_->send_status();  // before the answer: who asks next is told the new place
  for (const Done& one : told) {
    one(result);
  }
  maybe_finish();
}

void HomeAgent::settle(const std::shared_ptr<Managed>& process, const std::string& node,
                       const Result<>& result) {
  process->busy = false;
  tracer_.resume_stops(process->pid);
  const std::string place = node.empty() ? "home" : node;
  if (std::exchange(process->executed_meanwhile, false)) {
    go_on_after_exec(process, result ? node : process->placed_on);
    return;
  }
  if (find(process->pid) != process.get()) {
    hear_last_words(*process);  // ended on the way
    return;
  }
  process->attempts = 0;
  if (process->pid == config_.pid) {
    begun();
  }
  if (result) {
    ++process->moves;
    process->placed_on = node;
    tessd_->log(process->pid, fmt::format("process {} moved to {}", process->pid, place));
    log::info("home", "event=moved pid={} to={}", process->pid, place);
    return;
  }
  tessd_->log(process->pid, fmt::format("process {} did not move to {}: {}", process->pid, place,
                                        result.error().message()));
  log::warn("home", "event=stayed pid={} to={} reason=\"{}\"", process->pid, place,
            result.error().message());
  // Held at its exec, and refused before anything was done to it.
  if (process->state == Managed::State::kNative && tracer_.held(process->pid)) {
    (void)(process->stays_seized ? tracer_.release(process->pid) : tracer_.detach(process->pid));
  }
}

// It left its group by executing another program, which waits for where to run. It follows the
// others.
void HomeAgent::go_on_after_exec(const std::shared_ptr<Managed>& process, const std::string& node) {
  if (find(process->pid) != process.get()) {
    return;
  }
  if (!process->placed_on.empty() && !node.empty() && !finishing_) {
    process->placed_on = node;
    start_migration(process, node, [](const Result<>&) {});
    return;
  }
  go_on_at_home(*process);
}

// A program that has waited at its beginning for where to run.
void HomeAgent::go_on_at_home(Managed& process) {
  process.placed_on.clear();
  if (process.pid == config_.pid) {
    begun();
  }
  if (leave_alone(process)) {
    return;
  }
  if (!process.stays_seized && tracer_.traced(process.pid)) {
    (void)tracer_.detach(process.pid);
  } else if (tracer_.held(process.pid)) {
    (void)tracer_.release(process.pid);
  }
}

// Before what the worker says of its end.
void HomeAgent::note_transfer(const Managed& process, const std::string& node, bool sent,
                              const memory::Flow& flow) {
  loop_.post([this, note = memory::transfer_note(process.inner_pid, node, sent, flow)] {
    tessd_->send(note);
  });
}

void HomeAgent::bring_home(Done done) {
  struct Progress {
    int left = 1;
    std::string failures;
  };
  if (starting_) {
    begun();
    tessd_->send_status();
  }
  const auto progress = std::make_shared<Progress>();
  const auto one_done = [progress, done](const Result<>& result) {
    if (!result) {
      progress->failures += (progress->failures.empty() ? "" : "; ") + result.error().message();
    }
    if (--progress->left == 0) {
      done(progress->failures.empty() ? Result<>()
                                      : fail(ErrorKind::kFailed, "{}", progress->failures));
    }
  };
  std::vector<std::shared_ptr<Managed>> away;
  for (const auto& [pid, process] : processes_) {
    process->placed_on.clear();
    if (process->state == Managed::State::kDeputy) {
      away.push_back(process);
    }
  }
  for (const auto& process : away) {
    ++progress->left;
    migrate(process->pid, "", one_done);
  }
  one_done({});
}

// Once a tick. A link stays for a while after its last process has left: the next one may be on its
// way (programs that are executed one after the other, say), and a host agent that has been told
// goodbye cannot be asked again.
void HomeAgent::drop_unused_links() {
  if (running_workers_ != 0) {
    return;  // one may be about to use it
  }
  std::vector<std::shared_ptr<HostLink>> unused;
  {
    const std::lock_guard lock(links_mutex_);
    std::erase_if(links_, [&](const auto& entry) {
      int& idle = link_idle_ticks_[entry.first];
      ++idle;
      for (const auto& [pid, process] : processes_) {
        if (process->host == entry.second) {
          idle = 0;
        }
      }
      if (idle <= kLinkIdleTicksMax && entry.second->alive()) {
        return false;
      }
      unused.push_back(entry.second);
      return true;
    });
  }
  for (const auto& link : unused) {
    link_idle_ticks_.erase(link->host().node);
    wire::LinkMessage goodbye;
    goodbye.mutable_shutdown();
    (void)link->send(goodbye);
    link->close();
  }
}

}  // namespace tess::home
