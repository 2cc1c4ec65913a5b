// Processes that return home for a call that they can only make there, and those whom they trace.
#include <errno.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "home/home_agent.h"
#include "home/tracing_program.h"

namespace tess::home {

namespace {

constexpr uint32_t kProcessMadvise = 440;

// Who traces or is traced cannot be traced by us: let go before its first instruction at home. Nor
// who filters calls or looks into others, by a call or a file of /proc: tracing is what such
// programs do next, and those whom they look at are to be in no other state than they would be by
// themselves.
bool is_a_tracers(uint32_t number) {
  switch (number) {
    case SYS_ptrace:
    case SYS_seccomp:
    case SYS_prctl:
    case SYS_process_vm_readv:
    case SYS_process_vm_writev:
    case kProcessMadvise:
    case SYS_read:
    case SYS_readv:
    case SYS_pread64:
    case SYS_preadv:
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
    case SYS_pwritev:
      return true;
    default:
      return false;
  }
}

}  // namespace

// One that cannot come would ask for ever: now and then it is told so, and the call fails.
void HomeAgent::asked_to_go_home(Managed& process, uint32_t number, int64_t target) {
  constexpr uint32_t kTries = 4;
  const bool may_come = process.failed_returns < kTries;
  stub::ChannelAnswer answer{};
  answer.result = may_come ? 0 : -EPERM;
  (void)process.session->answer_channel(answer, {});
  if (may_come) {
    bring_home_for(process, number, target);
  } else {
    process.failed_returns = 0;
    log::warn("home", "event=cannot_come_home pid={} call={}", process.pid, number);
  }
}

// The body waits at a call that it can only make at home. A move in progress comes first: wherever
// the process is afterwards, it asks again. Programs that it executes later go where they would
// have gone.
void HomeAgent::bring_home_for(Managed& process, uint32_t number, int64_t target) {
  if (process.busy || process.state != Managed::State::kDeputy) {
    return;
  }
  const bool seized = process.stays_seized;
  process.stays_seized = seized && !is_a_tracers(number);
  process.let_go = is_a_tracers(number);
  for (const auto& [pid, other] : processes_) {
    if (target != 0 && other->inner_pid == target && pid != process.pid && tracer_.traced(pid)) {
      if (other->busy) {
        process.stays_seized = seized;
        return;  // it is on its way: the body asks again
      }
      // The two may share memory: then both are at home afterwards.
      fetch(*other, is_a_tracers(number), [this, caller = process.pid, number, seized] {
        Managed* const waiting = find(caller);
        if (waiting != nullptr && waiting->state == Managed::State::kDeputy) {
          waiting->stays_seized = seized;
          bring_home_for(*waiting, number, 0);
        }
      });
      return;
    }
  }
  log::info("home", "event=called_home pid={} call={}", process.pid, number);
  const std::string placed_on = process.placed_on;
  migrate(process.pid, "", [this, pid = process.pid, placed_on, seized](const Result<>& result) {
    Managed* const returned = find(pid);
    if (returned == nullptr) {
      return;
    }
    returned->let_go = false;
    if (result) {
      returned->placed_on = placed_on;
      returned->failed_returns = 0;
    } else {
      returned->stays_seized = seized;
      ++returned->failed_returns;
    }
  });
}

// A person wants a process at home that is there already: it is to be nobody's but home's. From
// then on it is not traced, so that others can trace it.
bool HomeAgent::let_go_of(Managed& process) {
  if (process.busy || process.state == Managed::State::kDeputy ||
      home_watch_.keeps_any(process.pid)) {
    return false;
  }
  process.stays_seized = false;
  process.placed_on.clear();
  if (tracer_.traced(process.pid)) {
    if (const Result<> gone = tracer_.detach(process.pid); !gone) {
      log::warn("home", "event=not_let_go pid={} reason=\"{}\"", process.pid,
                gone.error().message());
      return false;
    }
  }
  return true;
}

// At its exec: a program that traces others, which must not be ours then, is let go before its
// first instruction. So are those that it starts, since they are not followed.
bool HomeAgent::leave_alone(Managed& process) {
  if (!process.stays_seized || !traces_others(process.pid)) {
    return false;
  }
  process.stays_seized = false;
  loop_.post([this, pid = process.pid] {
    constexpr std::chrono::seconds kExec(10);
    if (tracer_.held(pid)) {
      (void)tracer_.hold(pid, kExec);  // it may not have come to its stop
    }
    (void)tracer_.detach(pid);
    maybe_finish();
  });
  return true;
}

// A process that another of the job acts on: home, and not traced by us if it is about to be
// traced.
void HomeAgent::fetch(Managed& target, bool let_go, std::function<void()> then) {
  const bool seized = target.stays_seized;
  target.stays_seized = seized && !let_go;
  target.let_go = let_go;
  if (target.state != Managed::State::kDeputy) {
    if (let_go) {
      (void)tracer_.detach(target.pid);
    }
    then();
    return;
  }
  migrate(target.pid, "", [this, pid = target.pid, seized, then](const Result<>& result) {
    if (Managed* const there = find(pid); there != nullptr) {
      there->let_go = false;
      there->stays_seized = result ? there->stays_seized : seized;
    }
    then();
  });
}

void HomeAgent::tell_whether_away(const Managed& process, int64_t target) {
  stub::ChannelAnswer answer{};
  for (const auto& [pid, other] : processes_) {
    if (other->inner_pid == target && (other->state == Managed::State::kDeputy || other->busy)) {
      answer.result = 1;
    }
  }
  (void)process.session->answer_channel(answer, {});
}

}  // namespace tess::home
