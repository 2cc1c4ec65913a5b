// The beginnings and ends of a running process's calls, as long as somebody wants to see them.
#include <cerrno>
#include <fstream>
#include <string>
#include <utility>

#include "trace/tracer.h"

namespace tess::trace {

// What a stop would do to the call that the thread is in. Most are repeated without a trace, by the
// kernel or by us.
Tracer::Disturbance Tracer::disturbance(pid_t pid, pid_t tid) const {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/syscall");
  Registers registers{};
  if (!(file >> registers.orig_rax >> std::hex >> registers.rdi >> registers.rsi >> registers.rdx >>
        registers.r10 >> registers.r8 >> registers.r9)) {
    return Disturbance::kNone;  // it runs
  }
  if (listener_.cut_by_stop(registers)) {
    return Disturbance::kTransfer;
  }
  registers.rax = static_cast<uint64_t>(-EINTR);
  return listener_.ended_by_stop(registers) && !listener_.waits_without_limit(pid, registers)
             ? Disturbance::kTimeLimit
             : Disturbance::kNone;
}

// What that ends is made again, at whichever stop comes next: any of them takes the interrupt off.
void Tracer::disturb(Process& process, pid_t tid) {
  process.watch.disturbed.insert(tid);
  ignore_gone("interrupt", Tracee::attached(tid).interrupt());
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
    if (state == State::kRunning && disturbance(pid, tid) == Disturbance::kNone) {
      disturb(*process, tid);
    }
  }
}

void Tracer::begin_watch(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr || process->hold || process->leaving || process->until) {
    return;
  }
  for (const auto& [tid, state] : process->threads) {
    if (state != State::kRunning) {
      continue;
    }
    const uint64_t waits = voluntary_switches(pid, tid).value_or(0);
    if (disturbance(pid, tid) == Disturbance::kNone) {
      disturb(*process, tid);
    } else {
      process->watch.undisturbed[tid] = waits;
    }
  }
}

// One that has come out of a wait with a limit, and is in the next one, has only just begun that.
std::vector<pid_t> Tracer::look_at_undisturbed() {
  std::vector<pid_t> had;
  for (auto& [pid, process] : processes_) {
    if (process.watch.undisturbed.empty()) {
      continue;
    }
    if (process.hold || process.leaving || process.until || !listener_.watches(pid)) {
      process.watch.undisturbed.clear();
      continue;
    }
    had.push_back(pid);
    std::erase_if(process.watch.undisturbed, [&, pid = pid, &process = process](const auto& entry) {
      const pid_t tid = entry.first;
      const Disturbance now = disturbance(pid, tid);
      const bool stays =
          now == Disturbance::kTransfer ||
          (now == Disturbance::kTimeLimit && voluntary_switches(pid, tid) == entry.second);
      if (!stays) {
        disturb(process, tid);
      }
      return !stays;
    });
  }
  return had;
}

// The process may be held meanwhile, and let go: not this thread.
bool Tracer::keeps(pid_t pid, Process& process, pid_t tid) {
  if (process.leaving || process.until || !listener_.watches(pid)) {
    return false;
  }
  const auto registers = Tracee::attached(tid).registers();
  if (!registers || !listener_.keeps_at_call_end(pid, tid, *registers)) {
    return false;
  }
  process.watch.kept.insert(tid);
  return true;
}

void Tracer::let_kept_go(pid_t pid, pid_t tid) {
  Process* const process = find(pid);
  if (process == nullptr || process->watch.kept.erase(tid) == 0 || process->hold) {
    return;
  }
  const auto thread = process->threads.find(tid);
  if (thread != process->threads.end() && thread->second == State::kHeld) {
    go_on(pid, *process, tid, 0);
  }
}

// At the beginning of a call. To stand there would be no place to be moved from: the call is passed
// over, and at its end the thread is before it again. Whoever takes the thread from us meanwhile,
// by our death even, finds it so: the kernel leaves the registers alone if there is no call to
// make.
bool Tracer::postpone(pid_t pid, Process& process, pid_t tid) {
  constexpr uint64_t kSyscallLength = 2;
  const Tracee tracee = Tracee::attached(tid);
  auto registers = tracee.registers();
  if (!registers || !listener_.postpones(pid, tid, *registers)) {
    return false;
  }
  registers->rax = std::exchange(registers->orig_rax, ~uint64_t{0});
  registers->rip -= kSyscallLength;
  process.watch.kept.insert(tid);
  process.watch.postponed.insert(tid);
  ignore_gone("put off a call", tracee.set_registers(*registers));
  if (process.hold) {
    ignore_gone("interrupt", tracee.interrupt());
  }
  ignore_gone("resume", tracee.resume_to_syscall());
  return true;
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
