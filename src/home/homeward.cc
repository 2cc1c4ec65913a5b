// Processes that return home for a call that they can only make there, and those whom they trace.
#include <sys/syscall.h>

#include "base/log.h"
#include "home/home_agent.h"

namespace tess::home {

// The body waits at a call that it can only make at home. A move in progress comes first: wherever
// the process is afterwards, it asks again. Programs that it executes later go where they would
// have gone.
void HomeAgent::bring_home_for(Managed& process, uint32_t number, int64_t target) {
  if (process.busy || process.state != Managed::State::kDeputy) {
    return;
  }
  const bool seized = process.stays_seized;
  // Who traces or is traced cannot be traced by us: let go before its first instruction at home.
  process.stays_seized = seized && number != SYS_ptrace;
  for (const auto& [pid, other] : processes_) {
    if (target != 0 && other->inner_pid == target && pid != process.pid && tracer_.traced(pid)) {
      if (other->busy) {
        process.stays_seized = seized;
        return;  // it is on its way: the body asks again
      }
      // The two may share memory: then both are at home afterwards.
      let_go(*other, [this, caller = process.pid, number, seized] {
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
    if (result) {
      returned->placed_on = placed_on;
    } else {
      returned->stays_seized = seized;
    }
  });
}

// A process that another of the job is about to trace: home, and not traced by us.
void HomeAgent::let_go(Managed& target, std::function<void()> then) {
  if (target.state != Managed::State::kDeputy) {
    (void)tracer_.detach(target.pid);
    target.stays_seized = false;
    then();
    return;
  }
  const bool seized = std::exchange(target.stays_seized, false);
  migrate(target.pid, "", [this, pid = target.pid, seized, then](const Result<>& result) {
    if (Managed* const stayed = find(pid); stayed != nullptr && !result) {
      stayed->stays_seized = seized;
    }
    then();
  });
}

}  // namespace tess::home
