// Processes of the job at home, while others of it write elsewhere to what they could map: whoever
// does stands at the end of its call until that memory is home.
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/log.h"
#include "home/home_agent.h"
#include "sys/process.h"

namespace tess::home {
namespace {

// A host that does not answer is lost by then, or keeps the bodies: no process stands for ever.
constexpr std::chrono::seconds kLongestStand{60};

struct Range {
  uint64_t start;
  uint64_t end;
};

// What the call that ends has made writable.
std::optional<Range> made_writable(const trace::Registers& r) {
  constexpr uint64_t kErrorsFrom = static_cast<uint64_t>(-4095);
  if (r.rax >= kErrorsFrom) {
    return std::nullopt;
  }
  switch (r.orig_rax) {
    case SYS_mmap:
      if ((r.r10 & MAP_SHARED) != 0 && (r.rdx & PROT_WRITE) != 0) {
        return Range{r.rax, r.rax + 1};
      }
      return std::nullopt;
    case SYS_shmat:
      if ((r.rdx & SHM_RDONLY) == 0) {
        return Range{r.rax, r.rax + 1};
      }
      return std::nullopt;
    case SYS_mprotect:
    case SYS_pkey_mprotect:
      if ((r.rdx & PROT_WRITE) != 0) {
        return Range{r.rdi, r.rdi + r.rsi};
      }
      return std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

// Also one that has just been made and is not known yet.
bool HomeAgent::watches(pid_t pid) {
  if (!watching_home_) {
    return false;
  }
  const Managed* const process = find(pid);
  return process == nullptr || (process->stays_seized && process->state == Managed::State::kNative);
}

void HomeAgent::watch_home() {
  if (std::exchange(watching_home_, true)) {
    return;
  }
  for (const pid_t pid : tracer_.processes()) {
    if (watches(pid)) {
      tracer_.begin_watch(pid);
    }
  }
}

bool HomeAgent::keeps_at_call_end(pid_t pid, const trace::Registers& registers) {
  const auto range = made_writable(registers);
  if (!range) {
    return false;
  }
  for (const SharedMapping& mapping : shared_mappings(pid)) {
    if (mapping.written && mapping.start < range->end && mapping.end > range->start &&
        shared_.is_elsewhere(mapping.key)) {
      log::debug("home", "event=kept pid={} path={}", pid, mapping.path);
      kept_[pid][mapping.key] = std::chrono::steady_clock::now() + kLongestStand;
      loop_.post([this] { let_kept_go(); });
      return true;
    }
  }
  return false;
}

void HomeAgent::let_kept_go() {
  std::vector<pid_t> free;
  for (auto& [pid, objects] : kept_) {
    const Managed* const process = find(pid);
    const bool away = process != nullptr && process->state == Managed::State::kDeputy;
    std::erase_if(objects, [&, pid = pid](const auto& object) {
      return away || !tracer_.traced(pid) || !shared_.is_elsewhere(object.first) ||
             has_stood_long(pid, object.second);
    });
    for (const auto& [key, until] : objects) {
      shared_.fetch_home(key, pid, sys::process_name(pid));
    }
    if (objects.empty()) {
      free.push_back(pid);
    }
  }
  for (const pid_t pid : free) {
    kept_.erase(pid);
    tracer_.let_kept_go(pid);
  }
}

bool HomeAgent::has_stood_long(pid_t pid, std::chrono::steady_clock::time_point until) {
  if (std::chrono::steady_clock::now() < until) {
    return false;
  }
  log::warn("home", "event=shared_apart pid={} reason=\"what it maps does not come home\"", pid);
  tessd_->log(pid, fmt::format("process {} has mapped memory that others of its job write to on "
                               "another node, and it does not come home",
                               pid));
  return true;
}

}  // namespace tess::home
