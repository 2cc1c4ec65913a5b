#include "trace/tracer.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "base/log.h"
#include "sys/proc_status.h"
#include "sys/process.h"

namespace tess::trace {
namespace {

constexpr int kOptions = PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE;
constexpr int kFollowOptions = kOptions | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;

}  // namespace

std::vector<pid_t> list_threads(pid_t pid) {
  std::vector<pid_t> tids;
  std::error_code error;
  std::filesystem::directory_iterator it("/proc/" + std::to_string(pid) + "/task", error);
  while (!error && it != std::filesystem::directory_iterator()) {
    tids.push_back(static_cast<pid_t>(std::stol(it->path().filename().string())));
    it.increment(error);
  }
  std::sort(tids.begin(), tids.end(),
            [pid](pid_t a, pid_t b) { return std::pair(a != pid, a) < std::pair(b != pid, b); });
  return tids;
}

pid_t thread_group(pid_t tid) {
  const auto status = sys::ProcStatus::read(tid);
  return status ? status->pid_field("Tgid") : 0;
}

std::optional<uint64_t> voluntary_switches(pid_t pid, pid_t tid) {
  const auto status = sys::ProcStatus::read_thread(pid, tid);
  return status ? std::optional(status->number("voluntary_ctxt_switches")) : std::nullopt;
}

// The end of a process is its leader's; other threads end without a stop, as soon as they can: one
// that has been joined is not to be seen any more.
int Tracer::options_for(const Process& process, pid_t pid, pid_t tid) {
  return (process.follow ? kFollowOptions : kOptions) | (tid == pid ? PTRACE_O_TRACEEXIT : 0);
}

void Tracer::set_options(const Process& process, pid_t pid, pid_t tid) {
  ignore_gone("set options", Tracee::attached(tid).set_options(options_for(process, pid, tid)));
}

Tracer::Process* Tracer::find(pid_t pid) {
  const auto it = processes_.find(pid);
  return it == processes_.end() ? nullptr : &it->second;
}

pid_t Tracer::pid_of(pid_t tid) const {
  if (processes_.contains(tid)) {
    return tid;
  }
  for (const auto& [pid, process] : processes_) {
    if (process.threads.contains(tid)) {
      return pid;
    }
  }
  return 0;
}

Tracer::Process* Tracer::process_of(pid_t tid) {
  return find(pid_of(tid));
}

bool Tracer::held(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && it->second.hold;
}

bool Tracer::has_thread(pid_t pid, pid_t tid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && it->second.threads.contains(tid);
}

std::vector<pid_t> Tracer::processes() const {
  std::vector<pid_t> pids;
  for (const auto& [pid, process] : processes_) {
    pids.push_back(pid);
  }
  return pids;
}

std::vector<pid_t> Tracer::threads(pid_t pid) const {
  std::vector<pid_t> tids;
  if (const auto it = processes_.find(pid); it != processes_.end()) {
    for (const auto& [tid, state] : it->second.threads) {
      tids.push_back(tid);
    }
    std::stable_sort(tids.begin(), tids.end(),
                     [pid](pid_t a, pid_t b) { return (a != pid) < (b != pid); });
  }
  return tids;
}

// The leader last, if it can be: one that is ours stops at its end, also if another thread's execve
// ends it, and a seizure of that other one waits in the kernel for its execve to be over.
Result<> Tracer::seize_threads(pid_t pid, Process& process, bool& changed) {
  changed = false;
  std::vector<pid_t> tids = list_threads(pid);
  std::reverse(tids.begin(), tids.end());
  for (const pid_t tid : tids) {
    if (process.threads.contains(tid) || (tid == pid && hub_.ending(pid))) {
      continue;
    }
    const Result<Tracee> tracee = Tracee::seize(tid, options_for(process, pid, tid));
    if (!tracee && tracee.error().kind() == ErrorKind::kDisconnected) {
      continue;  // ended meanwhile
    }
    if (!tracee && tracee.error().sys_errno() == EPERM && !process.threads.empty()) {
      // Either attached by the kernel, as the child of a thread that is ours already (its first
      // stop will tell), or a dying one.
      continue;
    }
    if (!tracee && tracee.error().sys_errno() == EPERM && sys::has_ended(pid, tid)) {
      continue;  // a zombie cannot be seized; the kernel says EPERM as for one that it forbids
    }
    if (!tracee) {
      return fail(ErrorKind::kNotPossible,
                  "process {} cannot be taken hold of: the kernel refuses ptrace ({})", pid,
                  tracee.error().message());
    }
    process.threads[tid] = State::kRunning;
    changed = true;
    if (process.hold) {
      ignore_gone("interrupt", tracee->interrupt());
    }
  }
  return {};
}

Result<> Tracer::seize(pid_t pid, bool follow) {
  if (traced(pid)) {
    return {};
  }
  Process& process = processes_[pid];
  process.follow = follow;
  bool changed = true;
  while (changed) {
    if (Result<> result = seize_threads(pid, process, changed); !result) {
      (void)detach(pid);
      return result;
    }
  }
  if (process.threads.empty()) {
    processes_.erase(pid);
    return fail(ErrorKind::kDisconnected, "there is no process {}", pid);
  }
  if (!process.threads.contains(pid)) {
    // The leader has ended before the others, and tells of nothing, its status neither.
    if (Result<> watched = hub_.watch_end(pid, 0); !watched) {
      (void)detach(pid);
      return watched;
    }
  }
  return {};
}

Result<> Tracer::hold(pid_t pid, std::chrono::milliseconds timeout) {
  Process* process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  process->hold = true;
  process->look = nullptr;
  process->until = nullptr;
  process->leaving = false;
  process->entered.clear();
  for (const auto& [tid, state] : process->threads) {
    if (state != State::kHeld) {
      ignore_gone("interrupt", Tracee::attached(tid).interrupt());
    }
  }
  const Deadline deadline = after(timeout);
  bool changed = true;
  while (changed) {
    Result<> result = wait_all_held(pid, deadline);
    if (result) {
      result = seize_threads(pid, *process, changed);
    }
    process = find(pid);
    if (process == nullptr) {
      return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
    }
    if (result && process->group_stop) {
      result = fail(ErrorKind::kNotPossible,
                    "process {} is stopped (signal {}): continue it first (kill -CONT {})", pid,
                    process->stop_signal, pid);
    }
    if (!result) {
      (void)release(pid);
      return result;
    }
  }
  return {};
}

Result<> Tracer::wait_all_held(pid_t pid, Deadline deadline) {
  while (true) {
    Process* const process = find(pid);
    if (process == nullptr) {
      return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
    }
    if (all_held(pid)) {
      return {};
    }
    // Events of unknown threads are taken too: they may be new threads of this process. And those
    // of children for which one of these threads may wait in vfork: it stops only when its child
    // has gone on.
    const auto event = hub_.wait_for_any(
        [&](pid_t tid) {
          const pid_t of = pid_of(tid);
          return of == pid || newborn_.contains(tid) || vforked_.contains(of) || of == 0;
        },
        deadline);
    if (!event) {
      return fail_with(event.error(), "stop all threads of process {}", pid);
    }
    handle(*event);
  }
}

Result<> Tracer::follow_children(pid_t pid) {
  return set_follow(pid, true);
}

Result<> Tracer::leave_children(pid_t pid) {
  return set_follow(pid, false);
}

Result<> Tracer::set_follow(pid_t pid, bool follow) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  const bool before = std::exchange(process->follow, follow);
  for (const auto& [tid, state] : process->threads) {
    if (auto set = Tracee::attached(tid).set_options(options_for(*process, pid, tid)); !set) {
      process->follow = before;
      return set;
    }
  }
  return {};
}

Result<> Tracer::release(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  process->hold = false;
  for (auto& [tid, state] : process->threads) {
    if (state != State::kHeld || process->watch.kept.contains(tid)) {
      continue;
    }
    const Tracee tracee = Tracee::attached(tid);
    if (process->group_stop) {
      ignore_gone("listen", tracee.listen());
      state = State::kListening;
    } else {
      repeat_call(tracee);
      ignore_gone("resume", resume(pid, tracee));
      state = State::kRunning;
    }
  }
  return {};
}

Result<> Tracer::release_until(pid_t pid, std::function<bool(const Registers&)> there) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  process->hold = false;
  process->until = std::move(there);
  process->watch.kept.clear();
  for (const auto& [tid, state] : process->threads) {
    go_on(pid, *process, tid, 0);
  }
  return {};
}

bool Tracer::all_held(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && !it->second.threads.empty() &&
         std::all_of(it->second.threads.begin(), it->second.threads.end(),
                     [](const auto& entry) { return entry.second == State::kHeld; });
}

Result<> Tracer::enter_calls(pid_t pid, const Entry& entry, std::chrono::milliseconds timeout) {
  const Deadline deadline = after(timeout);
  for (const pid_t tid : threads(pid)) {
    const Result<> entered = enter_call(pid, tid, entry, deadline);
    if (!entered) {
      return fail_with(entered.error(), "let thread {} begin its call", tid);
    }
  }
  return {};
}

Result<> Tracer::enter_call(pid_t pid, pid_t tid, const Entry& entry, Deadline deadline) {
  const Tracee tracee = Tracee::attached(tid);
  while (true) {
    TESS_TRY_ASSIGN(const Registers registers, tracee.registers());
    if (!entry.into(registers)) {
      return {};
    }
    TESS_TRY(tracee.resume_to_syscall());
    processes_[pid].threads[tid] = State::kRunning;
    TESS_TRY_ASSIGN(const WaitEvent event, hub_.wait_for(tid, deadline));
    if (event.kind() == WaitEvent::Kind::kSyscall) {
      processes_[pid].threads[tid] = State::kHeld;
      processes_[pid].entered.insert(tid);
      return {};
    }
    if (event.kind() == WaitEvent::Kind::kSignal) {
      entry.before(tracee, event.signal());
    }
    handle(event);
    TESS_TRY(wait_held(tid, deadline));
    if (stopped(pid)) {
      return {};
    }
  }
}

Result<> Tracer::detach_after_calls(pid_t pid, const std::function<bool(const Registers&)>& ends) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  (void)resume_stops(pid);
  process->hold = false;
  process->leaving = true;
  for (const pid_t tid : threads(pid)) {
    const Tracee tracee = Tracee::attached(tid);
    const auto registers = tracee.registers();
    if (process->entered.contains(tid) && registers && ends(*registers)) {
      ignore_gone("resume", tracee.resume_to_syscall());
      process->threads[tid] = State::kRunning;
    } else {
      ignore_gone("detach", tracee.detach());
      process->threads.erase(tid);
    }
  }
  process->entered.clear();
  if (process->threads.empty()) {
    processes_.erase(pid);
  }
  return {};
}

// Its process is being held.
Result<> Tracer::wait_held(pid_t tid, Deadline deadline) {
  while (true) {
    const Process* const process = process_of(tid);
    if (process == nullptr || !process->threads.contains(tid)) {
      return fail(ErrorKind::kDisconnected, "thread {} is gone", tid);
    }
    if (process->threads.at(tid) == State::kHeld) {
      return {};
    }
    TESS_TRY_ASSIGN(const WaitEvent event, hub_.wait_for(tid, deadline));
    handle(event);
  }
}

void Tracer::override_stops(pid_t pid) {
  if (Process* const process = find(pid); process != nullptr) {
    process->override_stops = true;
    process->stop_overridden = std::exchange(process->group_stop, false);
  }
}

bool Tracer::resume_stops(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr || !std::exchange(process->override_stops, false) ||
      !std::exchange(process->stop_overridden, false)) {
    return false;
  }
  if (continue_pending(pid)) {
    listener_.group_continued(pid);
    return false;
  }
  // The kernel counts the process as stopped all the time: its parent hears nothing of this one.
  // Each thread by itself, since one that only follows the others may run for a moment.
  for (const auto& [tid, state] : process->threads) {
    ::syscall(SYS_tgkill, pid, tid, SIGSTOP);
  }
  process->stop_due = true;
  return true;
}

bool Tracer::stopped(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && it->second.group_stop;
}

bool Tracer::stop_overridden(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && it->second.stop_overridden;
}

void Tracer::mark_running(pid_t pid) {
  if (Process* const process = find(pid); process != nullptr) {
    process->hold = false;
    process->watch = {};
    for (auto& [tid, state] : process->threads) {
      state = State::kRunning;
    }
  }
}

Result<> Tracer::detach(pid_t pid) {
  if (find(pid) == nullptr) {
    return {};
  }
  // PTRACE_DETACH needs a stopped thread. One in a group-stop is detached there and stays stopped.
  if (Process* const process = find(pid); !process->hold) {
    process->hold = true;
    for (const auto& [tid, state] : process->threads) {
      ignore_gone("interrupt", Tracee::attached(tid).interrupt());
    }
    if (const Result<> result = wait_all_held(pid, after(std::chrono::seconds(10))); !result) {
      if (find(pid) == nullptr) {
        return {};  // it has ended, or was on its way out (detach_after_calls)
      }
      (void)release(pid);
      return result;
    }
  }
  if (Process* const process = find(pid); process != nullptr) {
    (void)resume_stops(pid);
    for (const auto& [tid, state] : process->threads) {
      if (!process->group_stop) {
        repeat_call(Tracee::attached(tid));
      }
      ignore_gone("detach", Tracee::attached(tid).detach());
    }
    processes_.erase(pid);
  }
  return {};
}

Result<Tracee> Tracer::stop_thread(pid_t tid, std::chrono::milliseconds timeout) {
  const Deadline deadline = after(timeout);
  const pid_t pid = pid_of(tid);
  Process* process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "thread {} is gone", tid);
  }
  const Tracee tracee = Tracee::attached(tid);
  process->hold = true;  // makes handle() keep the stop
  if (Result<> asked = tracee.interrupt(); !asked) {
    process->hold = false;  // else whatever stops next, of any thread, would be kept for ever
    return tl::unexpected(std::move(asked.error()));
  }
  while (true) {
    process = find(pid);
    if (process == nullptr || !process->threads.contains(tid)) {
      if (process != nullptr) {
        process->hold = false;
      }
      return fail(ErrorKind::kDisconnected, "thread {} is gone", tid);
    }
    if (process->threads[tid] == State::kHeld) {
      process->hold = false;
      return tracee;
    }
    const auto event = hub_.wait_for(tid, deadline);
    if (!event) {
      process->hold = false;
      return fail_with(event.error(), "stop thread {}", tid);
    }
    handle(*event);
  }
}

Result<> Tracer::resume_thread(pid_t tid) {
  Process* const process = process_of(tid);
  if (process == nullptr || !process->threads.contains(tid)) {
    return fail(ErrorKind::kDisconnected, "thread {} is gone", tid);
  }
  process->threads[tid] = State::kRunning;
  return resume(pid_of(tid), Tracee::attached(tid));
}

}  // namespace tess::trace
