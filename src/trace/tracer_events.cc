// What the kernel tells of traced threads, and what is done about it.
#include <signal.h>
#include <sys/wait.h>

#include <cerrno>

#include "base/log.h"
#include "trace/endless_read.h"
#include "trace/tracer.h"

namespace tess::trace {

void Tracer::ignore_gone(const char* what, const Result<>& result) {
  if (!result && result.error().kind() != ErrorKind::kDisconnected) {
    log::warn("trace", "event=failed what={} reason=\"{}\"", what, result.error().message());
  }
}

// Threads that are shown at each call make events faster than they can be handled.
bool Tracer::handle_events() {
  constexpr int kAtOnce = 500;
  for (int i = 0; i < kAtOnce; ++i) {
    const auto event = hub_.next();
    if (!event) {
      return false;
    }
    handle(*event);
  }
  return true;
}

// Lets a thread go on after a stop that is not one to be held at; asks again for the stop if the
// process is being held, because any ptrace stop takes a pending PTRACE_INTERRUPT off.
void Tracer::go_on(pid_t pid, Process& process, pid_t tid, int signal) {
  const Tracee tracee = Tracee::attached(tid);
  if (process.hold) {
    ignore_gone("interrupt", tracee.interrupt());
  }
  process.watch.undisturbed.erase(tid);
  const bool to_syscall = process.until || process.leaving || process.look;
  ignore_gone("resume",
              to_syscall ? tracee.resume_to_syscall(signal) : resume(pid, tracee, signal));
  process.threads[tid] = State::kRunning;
}

Result<> Tracer::resume(pid_t pid, const Tracee& tracee, int signal) {
  return listener_.watches(pid) ? tracee.resume_to_syscall(signal) : tracee.resume(signal);
}

// A call that a signal has ended as well stays so: the signal is still to be taken.
void Tracer::repeat_call(const Tracee& tracee) const {
  constexpr uint64_t kSyscallLength = 2;
  auto registers = tracee.registers();
  if (!registers || static_cast<int64_t>(registers->rax) != -EINTR ||
      !listener_.ended_by_stop(*registers)) {
    return;
  }
  if (const SignalMasks masks = signal_masks(tracee.tid()); (masks.pending & ~masks.blocked) != 0) {
    return;
  }
  registers->rax = registers->orig_rax;
  registers->rip -= kSyscallLength;
  registers->orig_rax = ~uint64_t{0};
  ignore_gone("repeat a call", tracee.set_registers(*registers));
}

// The thread is within the kernel's handling of signals, which then sees a call that is to be made
// again, after a handler too.
void Tracer::read_again(const Tracee& tracee, Registers registers) {
  constexpr int64_t kRestartNoIntr = -513;  // ERESTARTNOINTR
  registers.rax = static_cast<uint64_t>(kRestartNoIntr);
  ignore_gone("repeat a read", tracee.set_registers(registers));
}

// A signal that is ignored wakes a traced thread all the same (sig_ignored in kernel/signal.c): the
// wait that it has ended goes on. Not at SIGCONT: the stop before it ends such a wait natively too.
void Tracer::keep_waiting(pid_t pid, const Tracee& tracee, int signal) const {
  const auto registers = tracee.registers();
  if (!registers) {
    return;
  }
  const bool waits = static_cast<int64_t>(registers->rax) == -EINTR &&
                     listener_.waits_without_limit(pid, *registers);
  if (!waits && !is_cut_read(tracee.tid(), *registers)) {
    return;
  }
  const SignalMasks masks = signal_masks(tracee.tid());
  const auto is_in = [signal](uint64_t mask) { return (mask >> (signal - 1) & 1) != 0; };
  const bool by_default = signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH;
  if (!is_in(masks.ignored) && !(by_default && !is_in(masks.caught))) {
    return;
  }
  if (waits) {
    repeat_call(tracee);
  } else {
    read_again(tracee, *registers);
  }
}

void Tracer::forget_dead(Process& process, pid_t tid) {
  process.threads.erase(tid);
  process.watch.forget(tid);
}

// A process that is being let go.
void Tracer::forget_thread(pid_t pid, pid_t tid) {
  Process& process = processes_[pid];
  process.threads.erase(tid);
  if (process.threads.empty()) {
    processes_.erase(pid);
  }
}

void Tracer::handle_syscall(pid_t pid, Process& process, pid_t tid) {
  const bool put_off = process.watch.postponed.erase(tid) != 0;
  if (!put_off && !process.leaving && !process.until && listener_.watches(pid) &&
      Tracee::attached(tid).begins_call()) {
    if (!postpone(pid, process, tid)) {
      go_on(pid, process, tid, 0);
    }
    return;
  }
  if (process.leaving) {
    if (process.hold) {
      repeat_call(Tracee::attached(tid));  // our stop has ended it (detach)
    }
    ignore_gone("detach", Tracee::attached(tid).detach());
    forget_thread(pid, tid);
    return;
  }
  if (process.until) {
    const auto registers = Tracee::attached(tid).registers();
    if (registers && process.until(*registers)) {
      process.threads[tid] = State::kHeld;
      return;
    }
  }
  show_call_end(process, tid);
  if (!process.hold && (process.watch.kept.contains(tid) || keeps(pid, process, tid))) {
    process.threads[tid] = State::kHeld;
    return;
  }
  if (!process.hold && process.watch.disturbed.erase(tid) != 0) {
    repeat_call(Tracee::attached(tid));
  }
  go_on(pid, process, tid, 0);  // if the process is being held, it stands at the stop that follows
}

void Tracer::adopt_unknown(const WaitEvent& event) {
  if (event.is_end()) {
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
  newborn_.erase(event.tid());
  switch (event.kind()) {
    case WaitEvent::Kind::kEnding:
      forget_dead(*process, event.tid());
      break;
    case WaitEvent::Kind::kExited:
      handle_exit(event);
      break;
    case WaitEvent::Kind::kSignal:
      if (event.signal() == SIGCONT) {
        end_overridden_stop(pid, *process);
      } else {
        keep_waiting(pid, Tracee::attached(event.tid()), event.signal());
      }
      go_on(pid, *process, event.tid(), event.signal());
      break;
    case WaitEvent::Kind::kSyscall:
      handle_syscall(pid, *process, event.tid());
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
        go_on(pid, *process, event.tid(), 0);
      }
      break;
  }
}

void Tracer::handle_exit(const WaitEvent& event) {
  const pid_t pid = pid_of(event.tid());
  Process* const process = find(pid);
  if (process->leaving && event.tid() != pid) {
    forget_thread(pid, event.tid());
    return;
  }
  forget_dead(*process, event.tid());
  // The leader's status is the process's; it is reported last, when no other thread is left.
  if (event.tid() == pid) {
    processes_.erase(pid);
    vforked_.erase(pid);
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

// SIGCONT takes off a SIGSTOP that is still to be taken: there is no stop then whose end could be
// told. The kernel traps every thread at a SIGCONT, even at one that is blocked.
void Tracer::end_stop_due(pid_t pid, Process& process, const WaitEvent& event) {
  if (!process.stop_due) {
    return;
  }
  const bool came = event.kind() == WaitEvent::Kind::kGroupStop;
  const uint64_t pending = came ? 0 : signal_masks(event.tid()).pending;
  if ((pending >> (SIGSTOP - 1) & 1) != 0) {
    return;
  }
  process.stop_due = false;
  if (!came) {
    listener_.group_continued(pid);
  }
}

void Tracer::handle_event_stop(pid_t pid, Process& process, const WaitEvent& event) {
  const bool stopping = event.kind() == WaitEvent::Kind::kGroupStop && !process.override_stops;
  if (event.kind() == WaitEvent::Kind::kGroupStop && process.override_stops) {
    process.stop_overridden = true;
  }
  end_stop_due(pid, process, event);
  // It may have just been born, with the options of whoever made it.
  set_options(process, pid, event.tid());
  if (event.kind() == WaitEvent::Kind::kInterrupt) {
    const Tracee tracee = Tracee::attached(event.tid());
    if (const auto registers = tracee.registers();
        registers && is_cut_read(tracee.tid(), *registers)) {
      read_again(tracee, *registers);
    }
  }
  const bool was_stopped = process.group_stop;
  process.group_stop = stopping;
  process.stop_signal = stopping ? event.signal() : 0;
  const bool ours = process.watch.disturbed.erase(event.tid()) != 0;
  const bool kept = !stopping && keeps(pid, process, event.tid());
  if (kept || process.hold) {
    process.threads[event.tid()] = State::kHeld;
  } else if (stopping) {
    ignore_gone("listen", Tracee::attached(event.tid()).listen());
    process.threads[event.tid()] = State::kListening;
  } else {
    show_call_end(process, event.tid());
    if (ours) {
      repeat_call(Tracee::attached(event.tid()));
    }
    go_on(pid, process, event.tid(), 0);
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
  process.watch = {};
  vforked_.erase(pid);
  process.threads[event.tid()] = State::kRunning;
  set_options(process, pid, event.tid());
  if (!listener_.executed(pid)) {
    go_on(pid, process, event.tid(), 0);
    return;
  }
  // Still inside execve here: one more stop at its very end, where registers can be changed like at
  // any other.
  process.hold = true;
  go_on(pid, process, event.tid(), 0);
}

void Tracer::handle_new_task(pid_t pid, const WaitEvent& event) {
  const Tracee tracee = Tracee::attached(event.tid());
  const auto message = tracee.event_message();
  if (message) {
    const auto child = static_cast<pid_t>(*message);
    // Parent's event and child's first stop come in any order; the child may even be dead by now.
    const pid_t group = dead_early_.erase(child) != 0 ? 0 : thread_group(child);
    const bool stopped_already = unannounced_.erase(group) != 0;
    if (group != pid && group != 0 && !stopped_already) {
      newborn_.insert(group);
    }
    if (group != pid && group != 0 && event.event() == PTRACE_EVENT_VFORK) {
      vforked_.insert(group);
    }
    if (group == pid) {
      processes_[pid].threads.try_emplace(child, State::kRunning);
    } else if (group != 0) {
      processes_[group].threads.try_emplace(child, State::kRunning);
      listener_.forked(pid, event.tid(), group);
    }
  }
  if (Process* const process = find(pid); process != nullptr) {
    go_on(pid, *process, event.tid(), 0);
  }
}

}  // namespace tess::trace
