// Processes that are not of this job, and share memory with those that are: only at home can that
// work, where the kernel does it.
#include <fmt/format.h>
#include <unistd.h>

#include "base/log.h"
#include "home/home_agent.h"
#include "sys/proc_status.h"

namespace tess::home {
namespace {

// 0: nobody traces it, or it is gone.
pid_t tracer_of(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  return status ? status->pid_field("TracerPid") : 0;
}

}  // namespace

SharedSegments::Whose HomeAgent::whose(pid_t pid) {
  using Whose = SharedSegments::Whose;
  const Managed* const process = find(pid);
  if (process == nullptr) {
    // A child that has just been made is traced before it can be seen.
    return tracer_of(pid) == ::getpid() ? Whose::kMoving : Whose::kStranger;
  }
  if (process->busy) {
    return Whose::kMoving;
  }
  return process->state == Managed::State::kDeputy ? Whose::kAway : Whose::kHome;
}

// If it is another job's, that one's agent has it come home. `done` when it is there, or was, or is
// nobody's.
void HomeAgent::fetch_stranger(pid_t pid, uint32_t attempts, Done done) {
  constexpr uint32_t kAttempts = 60;  // a tessd that is being replaced comes back
  constexpr std::chrono::milliseconds kPause(250);
  tessd_->fetch_home(pid, [this, pid, attempts, done = std::move(done)](const Result<>& result) {
    if (result || result.error().kind() != ErrorKind::kRetry) {
      done(result);
    } else if (tracer_of(pid) == 0) {
      done({});  // who is not traced has no body elsewhere
    } else if (attempts >= kAttempts) {
      done(result);
    } else {
      const auto timer = std::make_shared<net::Timer>(loop_);
      timer->start(kPause,
                   [this, timer, pid, attempts, done] { fetch_stranger(pid, attempts + 1, done); });
    }
  });
}

// Seen at one of the looks for it. If it cannot come now, the next one sees the same.
void HomeAgent::call_home(pid_t pid, pid_t other, const std::string& command) {
  const Managed* const process = find(pid);
  if (process == nullptr || process->busy || process->state != Managed::State::kDeputy) {
    return;
  }
  log::info("home",
            "event=called_home pid={} reason=\"process {} ({}) at home maps what it shares\"", pid,
            other, command);
  tessd_->log(pid,
              fmt::format("process {} comes home: process {} ({}) there has mapped memory that "
                          "it shares",
                          pid, other, command));
  migrate(pid, "", [](const Result<>&) {});
}

// What another job asks for.
void HomeAgent::fetched(pid_t pid, Done done) {
  Managed* const process = find(pid);
  if (process == nullptr) {
    done({});  // it has ended, or been let go
    maybe_finish();
    return;
  }
  if (process->busy && !process->moving_to.empty()) {
    process->waiting.emplace_back([this, pid, done = std::move(done)](const Result<>&) {
      loop_.post([this, pid, done] { fetched(pid, done); });
    });
    return;
  }
  if (!process->busy && process->state == Managed::State::kNative) {
    done({});
    maybe_finish();
    return;
  }
  log::info("home", "event=fetched_home pid={} reason=\"another job maps what it shares\"", pid);
  migrate(pid, "", std::move(done));
}

}  // namespace tess::home
