// The ends of a running process's calls, as long as somebody wants to see them.
#include <cerrno>
#include <fstream>
#include <string>

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
  for (const auto& [tid, state] : process->threads) {
    if (state == State::kRunning && stops_unnoticed(pid, tid)) {
      ignore_gone("interrupt", Tracee::attached(tid).interrupt());
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
