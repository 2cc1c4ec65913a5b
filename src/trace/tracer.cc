#include "trace/tracer.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "base/log.h"

namespace tess::trace {
namespace {

constexpr int kOptions = PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE;
constexpr int kFollowOptions = kOptions | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;

// A failure that only says "the thread died" is no failure: its exit event comes by itself.
void ignore_gone(const char* what, const Result<>& result) {
  if (!result && result.error().kind() != ErrorKind::kDisconnected) {
    log::warn("trace", "event=failed what={} reason=\"{}\"", what, result.error().message());
  }
}

// A zombie cannot be seized; the kernel says EPERM as for one that it forbids.
bool has_ended(pid_t pid, pid_t tid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/stat");
  std::string text;
  std::getline(file, text);
  const size_t name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() ||
         text[name_end + 2] == 'Z' || text[name_end + 2] == 'X';
}

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
  std::ifstream status("/proc/" + std::to_string(tid) + "/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("Tgid:")) {
      return static_cast<pid_t>(std::stol(line.substr(5)));
    }
  }
  return 0;
}

Tracer::Process* Tracer::find(pid_t pid) {
  const auto it = processes_.find(pid);
  return it == processes_.end() ? nullptr : &it->second;
}

pid_t Tracer::pid_of(pid_t tid) const {
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

Result<> Tracer::seize_threads(pid_t pid, Process& process, bool& changed) {
  changed = false;
  for (const pid_t tid : list_threads(pid)) {
    if (process.threads.contains(tid)) {
      continue;
    }
    const Result<Tracee> tracee = Tracee::seize(tid, process.follow ? kFollowOptions : kOptions);
    if (!tracee && tracee.error().kind() == ErrorKind::kDisconnected) {
      continue;  // ended meanwhile
    }
    if (!tracee && tracee.error().sys_errno() == EPERM && !process.threads.empty()) {
      // Either attached by the kernel, as the child of a thread that is ours already (its first
      // stop will tell), or a dying one.
      continue;
    }
    if (!tracee && tracee.error().sys_errno() == EPERM && has_ended(pid, tid)) {
      continue;
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
  return {};
}

Result<> Tracer::hold(pid_t pid, std::chrono::milliseconds timeout) {
  Process* process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  process->hold = true;
  process->until = nullptr;
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
    const bool all = std::all_of(process->threads.begin(), process->threads.end(),
                                 [](const auto& entry) { return entry.second == State::kHeld; });
    if (all) {
      return {};
    }
    // Events of unknown threads are taken too: they may be new threads of this process.
    const auto event = hub_.wait_for_any(
        [&](pid_t tid) { return process->threads.contains(tid) || pid_of(tid) == 0; }, deadline);
    if (!event) {
      return fail_with(event.error(), "stop all threads of process {}", pid);
    }
    handle(*event);
  }
}

Result<> Tracer::follow_children(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  for (const auto& [tid, state] : process->threads) {
    TESS_TRY(Tracee::attached(tid).set_options(kFollowOptions));
  }
  process->follow = true;
  return {};
}

Result<> Tracer::release(pid_t pid) {
  Process* const process = find(pid);
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "process {} is gone", pid);
  }
  process->hold = false;
  for (auto& [tid, state] : process->threads) {
    if (state != State::kHeld) {
      continue;
    }
    const Tracee tracee = Tracee::attached(tid);
    if (process->group_stop) {
      ignore_gone("listen", tracee.listen());
      state = State::kListening;
    } else {
      ignore_gone("resume", tracee.resume());
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
  for (const auto& [tid, state] : process->threads) {
    go_on(*process, tid, 0);
  }
  return {};
}

bool Tracer::all_held(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() &&
         std::all_of(it->second.threads.begin(), it->second.threads.end(),
                     [](const auto& entry) { return entry.second == State::kHeld; });
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
  return true;
}

bool Tracer::stopped(pid_t pid) const {
  const auto it = processes_.find(pid);
  return it != processes_.end() && it->second.group_stop;
}

void Tracer::mark_running(pid_t pid) {
  if (Process* const process = find(pid); process != nullptr) {
    process->hold = false;
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
      if (find(pid) != nullptr) {
        (void)release(pid);
      }
      return result;
    }
  }
  if (Process* const process = find(pid); process != nullptr) {
    (void)resume_stops(pid);
    for (const auto& [tid, state] : process->threads) {
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
  if (process == nullptr) {
    return fail(ErrorKind::kDisconnected, "thread {} is gone", tid);
  }
  process->threads[tid] = State::kRunning;
  return Tracee::attached(tid).resume();
}

void Tracer::handle_events() {
  while (const auto event = hub_.next()) {
    handle(*event);
  }
}

// Lets a thread go on after a stop that is not one to be held at; asks again for the stop if the
// process is being held, because any ptrace stop takes a pending PTRACE_INTERRUPT off.
void Tracer::go_on(Process& process, pid_t tid, int signal) {
  const Tracee tracee = Tracee::attached(tid);
  if (process.hold) {
    ignore_gone("interrupt", tracee.interrupt());
  }
  ignore_gone("resume", process.until ? tracee.resume_to_syscall(signal) : tracee.resume(signal));
  process.threads[tid] = State::kRunning;
}

void Tracer::handle_syscall(Process& process, pid_t tid) {
  if (process.until) {
    const auto registers = Tracee::attached(tid).registers();
    if (registers && process.until(*registers)) {
      process.threads[tid] = State::kHeld;
      return;
    }
  }
  go_on(process, tid, 0);
}

void Tracer::adopt_unknown(const WaitEvent& event) {
  if (event.kind() == WaitEvent::Kind::kExited) {
    return;
  }
  const pid_t pid = thread_group(event.tid());
  if (pid == 0) {
    return;  // killed: the exit event follows
  }
  if (!traced(pid)) {
    unannounced_.insert(pid);
  }
  Process& process = processes_[pid];
  process.threads[event.tid()] = State::kRunning;
  if (event.kind() == WaitEvent::Kind::kGroupStop) {
    process.group_stop = true;
  }
}

void Tracer::handle(const WaitEvent& event) {
  if (process_of(event.tid()) == nullptr) {
    adopt_unknown(event);
  }
  const pid_t pid = pid_of(event.tid());
  Process* const process = find(pid);
  if (process == nullptr) {
    return;
  }
  switch (event.kind()) {
    case WaitEvent::Kind::kExited:
      handle_exit(event);
      break;
    case WaitEvent::Kind::kSignal:
      if (event.signal() == SIGCONT) {
        end_overridden_stop(pid, *process);
      }
      go_on(*process, event.tid(), event.signal());
      break;
    case WaitEvent::Kind::kSyscall:
      handle_syscall(*process, event.tid());
      break;
    case WaitEvent::Kind::kInterrupt:
    case WaitEvent::Kind::kGroupStop:
      handle_event_stop(pid, *process, event);
      break;
    case WaitEvent::Kind::kEvent:
      if (event.event() == PTRACE_EVENT_EXEC) {
        handle_exec(pid, event);
      } else if (event.event() == PTRACE_EVENT_FORK || event.event() == PTRACE_EVENT_VFORK ||
                 event.event() == PTRACE_EVENT_CLONE) {
        handle_new_task(pid, event);
      } else {
        go_on(*process, event.tid(), 0);
      }
      break;
  }
}

void Tracer::handle_exit(const WaitEvent& event) {
  const pid_t pid = pid_of(event.tid());
  Process* const process = find(pid);
  process->threads.erase(event.tid());
  // The leader's status is the process's; it is reported last, when no other thread is left.
  if (event.tid() == pid) {
    processes_.erase(pid);
    if (unannounced_.erase(pid) != 0) {
      dead_early_.insert(pid);
    }
    listener_.exited(pid, event.status());
  }
}

void Tracer::end_overridden_stop(pid_t pid, Process& process) {
  if (std::exchange(process.stop_overridden, false)) {
    listener_.group_continued(pid);
  }
}

void Tracer::handle_event_stop(pid_t pid, Process& process, const WaitEvent& event) {
  const bool stopping = event.kind() == WaitEvent::Kind::kGroupStop && !process.override_stops;
  if (event.kind() == WaitEvent::Kind::kGroupStop && process.override_stops) {
    process.stop_overridden = true;
  }
  const bool was_stopped = process.group_stop;
  process.group_stop = stopping;
  process.stop_signal = stopping ? event.signal() : 0;
  if (process.hold) {
    process.threads[event.tid()] = State::kHeld;
  } else if (stopping) {
    ignore_gone("listen", Tracee::attached(event.tid()).listen());
    process.threads[event.tid()] = State::kListening;
  } else {
    go_on(process, event.tid(), 0);
  }
  if (stopping && !was_stopped) {
    listener_.group_stopped(pid, event.signal());
  } else if (!stopping && was_stopped) {
    listener_.group_continued(pid);
  }
}

void Tracer::handle_exec(pid_t pid, const WaitEvent& event) {
  // The caller has become the leader, whichever thread it was; all others are gone without a word.
  Process& process = processes_[pid];
  process.threads.clear();
  process.threads[event.tid()] = State::kRunning;
  if (!listener_.executed(pid)) {
    go_on(process, event.tid(), 0);
    return;
  }
  // Still inside execve here: one more stop at its very end, where registers can be changed like at
  // any other.
  process.hold = true;
  go_on(process, event.tid(), 0);
}

void Tracer::handle_new_task(pid_t pid, const WaitEvent& event) {
  const Tracee tracee = Tracee::attached(event.tid());
  const auto message = tracee.event_message();
  if (message) {
    const auto child = static_cast<pid_t>(*message);
    // Parent's event and child's first stop come in any order; the child may even be dead by now.
    const pid_t group = dead_early_.erase(child) != 0 ? 0 : thread_group(child);
    unannounced_.erase(group);
    if (group == pid) {
      processes_[pid].threads.try_emplace(child, State::kRunning);
    } else if (group != 0) {
      processes_[group].threads.try_emplace(child, State::kRunning);
      listener_.forked(pid, event.tid(), group);
    }
  }
  if (Process* const process = find(pid); process != nullptr) {
    go_on(*process, event.tid(), 0);
  }
}

}  // namespace tess::trace
