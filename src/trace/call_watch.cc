// The ends of a running process's calls, as long as somebody wants to see them.
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include "trace/tracer.h"

namespace tess::trace {

// Most stops are: the kernel repeats what they end, or we do.
bool Tracer::stops_unnoticed(pid_t pid, pid_t tid) const {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/syscall");
  Registers registers{};
  if (!(file >> registers.orig_rax >> std::hex >> registers.rdi >> registers.rsi >> registers.rdx >>
        registers.r10 >> registers.r8 >> registers.r9)) {
    return true;  // it runs
  }
  registers.rax = static_cast<uint64_t>(-EINTR);
  return !listener_.ended_by_stop(registers) || listener_.waits_without_limit(pid, registers);
}

void Tracer::watch_calls(pid_t pid, CallEnd look) {
  constexpr size_t kThreadsMax = 64;
  Process* const process = find(pid);
  if (process == nullptr || process->hold || process->leaving || process->until ||
      process->threads.size() > kThreadsMax) {
    return;
  }
  process->look = std::move(look);
  stop_unnoticed(pid, *process);
}

void Tracer::stop_unnoticed(pid_t pid, const Process& process) {
  for (const auto& [tid, state] : process.threads) {
    if (state == State::kRunning && stops_unnoticed(pid, tid)) {
      ignore_gone("interrupt", Tracee::attached(tid).interrupt());
    }
  }
}

void Tracer::begin_watch(pid_t pid) {
  const Process* const process = find(pid);
  if (process != nullptr && !process->hold && !process->leaving && !process->until) {
    stop_unnoticed(pid, *process);
  }
}

// The process may be held meanwhile, and let go: not this thread.
bool Tracer::keeps(pid_t pid, Process& process, pid_t tid) {
  if (process.leaving || process.until || !listener_.watches(pid)) {
    return false;
  }
  const auto registers = Tracee::attached(tid).registers();
  if (!registers || static_cast<int64_t>(registers->orig_rax) < 0 ||
      !listener_.keeps_at_call_end(pid, *registers)) {
    return false;
  }
  process.threads[tid] = State::kHeld;
  process.kept.insert(tid);
  return true;
}

void Tracer::let_kept_go(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return;
  }
  for (const pid_t tid : std::exchange(process->kept, {})) {
    const auto thread = process->threads.find(tid);
    if (!process->hold && thread != process->threads.end() && thread->second == State::kHeld) {
      go_on(pid, *process, tid, 0);
    }
  }
}

// The thread stands at the end of a call, or somewhere else: the registers tell.
void Tracer::show_call_end(Process& process, pid_t tid) {
  if (!process.look) {
    return;
  }
  const auto registers = Tracee::attached(tid).registers();
  if (registers && static_cast<int64_t>(registers->orig_rax) >= 0 && process.look(*registers)) {
    process.look = nullptr;
  }
}

}  // namespace tess::trace
