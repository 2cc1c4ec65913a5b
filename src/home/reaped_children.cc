#include "home/reaped_children.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>

namespace tess::home {
namespace {

constexpr unsigned kCallsMax = 10'000;

// Whom a call has waited for, and where it has put the usage (0: nowhere).
struct Waited {
  int32_t pid = 0;
  uint64_t usage = 0;
  bool reaped = true;
};

bool has_waited(const trace::Registers& r) {
  const auto result = static_cast<int64_t>(r.rax);
  return (r.orig_rax == SYS_wait4 && result > 0) || (r.orig_rax == SYS_waitid && result == 0);
}

Waited waited_for(const trace::Registers& r, const stub::RemoteMemory& memory) {
  if (r.orig_rax == SYS_wait4) {
    return Waited{static_cast<int32_t>(r.rax), r.r10, true};
  }
  Waited waited{0, r.r8, (r.r10 & WNOWAIT) == 0};
  if (r.rdx != 0) {
    const auto pid = memory.get<int32_t>(r.rdx + offsetof(siginfo_t, si_pid));
    waited.pid = pid ? *pid : 0;
  } else if (r.rdi == P_PID) {
    waited.pid = static_cast<int32_t>(r.rsi);
  }
  return waited;
}

void add(timeval& time, int64_t ns) {
  constexpr int64_t kSecondUs = 1'000'000;
  const int64_t sum_us = std::max<int64_t>(time.tv_sec * kSecondUs + time.tv_usec + ns / 1000, 0);
  time = {sum_us / kSecondUs, sum_us % kSecondUs};
}

}  // namespace

void ReapedChildren::expect(const Child& child) {
  expected_[child.pid] = child;
  calls_ = 0;
}

bool ReapedChildren::call_ended(pid_t parent, const trace::Registers& registers) {
  if (has_waited(registers)) {
    if (const auto memory = stub::RemoteMemory::open(parent); memory) {
      correct(registers, *memory);
    } else {
      expected_.clear();  // it is gone
    }
  }
  if (++calls_ > kCallsMax) {
    expected_.clear();
  }
  return expected_.empty();
}

void ReapedChildren::correct(const trace::Registers& registers, const stub::RemoteMemory& memory) {
  const Waited waited = waited_for(registers, memory);
  const auto found = expected_.find(waited.pid);
  if (found == expected_.end()) {
    return;
  }
  if (auto usage = memory.get<rusage>(waited.usage); waited.usage != 0 && usage) {
    add(usage->ru_utime, found->second.user_ns);
    add(usage->ru_stime, found->second.system_ns);
    usage->ru_maxrss = std::max<long>(usage->ru_maxrss, found->second.maxrss_kb);
    (void)memory.put(waited.usage, *usage);
  }
  if (waited.reaped) {
    expected_.erase(found);
  }
}

}  // namespace tess::home
