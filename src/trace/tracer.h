// All traced processes of one agent and what happens to them while nobody looks: signals go on at
// once, group-stops are honoured, new threads and children are taken in and resumed. A process can
// be held: all its threads stand in an interrupt stop until released. Tracing thread only; every
// method is called from it, the listener too. A process that died is kDisconnected.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "trace/remote_calls.h"
#include "trace/tracee.h"
#include "trace/wait_hub.h"

namespace tess::trace {

// What the owner of a Tracer hears. Pids are in the agent's pid namespace.
class TraceListener {
 public:
  virtual ~TraceListener() = default;
  // `thread` of the parent made the child.
  virtual void forked(pid_t parent, pid_t thread, pid_t child) = 0;
  // The process has just executed a new program; true: hold it there (one thread, before its first
  // instruction).
  virtual bool executed(pid_t pid) = 0;
  virtual void group_stopped(pid_t pid, int signal) = 0;
  virtual void group_continued(pid_t pid) = 0;
  virtual void exited(pid_t pid, int wait_status) = 0;
  // Sooner: it ends, and its parent cannot have waited for it yet. Comes in the middle of whatever
  // waits for threads: of the tracer only watch_calls may be called.
  virtual void ending(pid_t /*pid*/, int /*wait_status*/) {}
  // Of a thread that stands in our stop: whether that has ended its call, which the kernel does not
  // repeat by itself. Such a thread makes its call again when it goes on or is let go.
  virtual bool ended_by_stop(const Registers& /*registers*/) { return false; }
  // Such a call would wait as long as it takes, so making it again loses no time limit.
  virtual bool waits_without_limit(pid_t /*pid*/, const Registers& /*registers*/) { return false; }
  // A stop would cut short what it transfers.
  virtual bool cut_by_stop(const Registers& /*registers*/) { return false; }
  // Whether the end of each call of the process is to be told; asked whenever a thread is let go
  // on. When it becomes true for one that runs, begin_watch().
  virtual bool watches(pid_t /*pid*/) { return false; }
  // One of its calls begins, or has just ended (or the thread stands somewhere else: the registers
  // tell). True: the thread stands before it, or at its end,
  // until let_kept_go(); a call that has been put off is told again when it is made. Both may come
  // in the middle of whatever waits for threads.
  virtual bool postpones(pid_t /*pid*/, pid_t /*tid*/, const Registers& /*registers*/) {
    return false;
  }
  virtual bool keeps_at_call_end(pid_t /*pid*/, pid_t /*tid*/, const Registers& /*registers*/) {
    return false;
  }
};

class Tracer {
 public:
  Tracer(WaitHub& hub, TraceListener& listener) : hub_(hub), listener_(listener) {
    hub_.on_end([this](pid_t pid, int status) { listener_.ending(pid, status); });
  }
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  // Takes hold of a running process, all threads; it goes on running. kNotPossible when the kernel
  // forbids it.
  // Its children are taken in too if `follow`; else only once follow_children has been called.
  Result<> seize(pid_t pid, bool follow);
  // Children that the process makes from now on are ours. The process is held.
  Result<> follow_children(pid_t pid);
  // From now on they are not. The process is held.
  Result<> leave_children(pid_t pid);
  // Stops all threads, new ones too, each between two instructions or at an interrupted call that
  // the kernel would restart. kNotPossible if the process is stopped by a signal, kRetry if a
  // thread does not stop in time (all run again).
  Result<> hold(pid_t pid, std::chrono::milliseconds timeout);
  // Lets all threads run again.
  Result<> release(pid_t pid);
  // The process is held. Lets each thread run until it stands, at the end of a system call, where
  // `there` says, and holds it there. Returns at once; all_held() tells when they have arrived.
  Result<> release_until(pid_t pid, std::function<bool(const Registers&)> there);
  bool all_held(pid_t pid) const;
  // The process is held. Lets each thread that stands before a system call run into it, if `into`
  // says so of its registers, and holds it there: what comes now interrupts the call. A signal that
  // comes before that is told to `before`, which may change the thread's registers; its handler
  // begins, and the thread is held behind that. kRetry if it takes longer than `timeout`.
  struct Entry {
    std::function<bool(const Registers&)> into;
    std::function<void(const Tracee&, int signal)> before;
  };
  Result<> enter_calls(pid_t pid, const Entry& entry, std::chrono::milliseconds timeout);
  // The process is held. Stops tracing as detach() does, but for threads that enter_calls has let
  // into a call which that would end (__ptrace_unlink wakes a stopped thread as a signal does; the
  // kernel repeats most calls by itself then, `ends` names those that it does not): each of them is
  // traced until its call is over. The end of this process ends no call.
  Result<> detach_after_calls(pid_t pid, const std::function<bool(const Registers&)>& ends);
  // While a process is being moved its threads must run even when it is stopped (signal(7)): from
  // now on a stop takes effect only as far as its parent can see, and all threads run on. A process
  // that is stopped already may be held. resume_stops() lets a stop that is still in force take
  // hold of the threads again, before any of them gets to another instruction of its own, and says
  // whether there is one; detach() does it too.
  void override_stops(pid_t pid);
  bool resume_stops(pid_t pid);
  bool stopped(pid_t pid) const;
  // override_stops is in force, and so is a stop.
  bool stop_overridden(pid_t pid) const;
  // From now on the end of each call of the running process is told to `look`, which may change the
  // process's memory, until it says that it has seen enough, or the process is held. A thread that
  // waits where our stop would be noticed (a time limit that would begin anew) is not disturbed:
  // its calls are told once it has stopped for something else. Nothing happens to a process of very
  // many threads.
  using CallEnd = std::function<bool(const Registers&)>;
  void watch_calls(pid_t pid, CallEnd look);
  // The listener watches() the running process from now on: each call that ends after this has
  // returned is told, but of threads whose calls a stop would spoil: those go on undisturbed until
  // they have left them, or stop for something else. look_at_undisturbed() sees to the former;
  // gives the processes that had such threads.
  void begin_watch(pid_t pid);
  std::vector<pid_t> look_at_undisturbed();
  void let_kept_go(pid_t pid, pid_t tid);
  // The threads are no longer held as far as the tracer goes: the caller has resumed them itself.
  void mark_running(pid_t pid);
  // Stops tracing (from held or running). The process goes on.
  Result<> detach(pid_t pid);

  // Stops one thread wherever it is, runs `work` on it and lets it go on. Used to kick deputies.
  template <typename Work>
  Result<> with_stopped(pid_t tid, std::chrono::milliseconds timeout, Work work) {
    TESS_TRY_ASSIGN(const Tracee tracee, stop_thread(tid, timeout));
    Result<> done = work(tracee);
    Result<> resumed = resume_thread(tid);
    return done ? std::move(resumed) : std::move(done);
  }

  bool traced(pid_t pid) const { return processes_.contains(pid); }
  bool held(pid_t pid) const;
  std::vector<pid_t> processes() const;
  bool has_thread(pid_t pid, pid_t tid) const;
  // Leader first.
  std::vector<pid_t> threads(pid_t pid) const;

  // Handles what has happened. Call when hub().fd() is readable. True: there was very much of it,
  // and the rest is for another call.
  bool handle_events();
  WaitHub& hub() { return hub_; }

 private:
  enum class State { kRunning, kHeld, kListening };
  // Threads of a process that the listener watches.
  struct Watch {
    std::set<pid_t> kept;                   // by the listener
    std::map<pid_t, uint64_t> undisturbed;  // how often each has waited when the watch began
    std::set<pid_t> disturbed;  // stopped for a watch, as far as the stop has not been seen
    std::set<pid_t> postponed;  // on their way out of a call that is to be made later
    void forget(pid_t tid) {
      kept.erase(tid);
      undisturbed.erase(tid);
      disturbed.erase(tid);
      postponed.erase(tid);
    }
  };
  struct Process {
    std::map<pid_t, State> threads;  // without those that are at their end
    bool hold = false;
    bool follow = true;
    bool group_stop = false;
    int stop_signal = 0;
    std::function<bool(const Registers&)> until;  // release_until
    bool override_stops = false;
    bool stop_overridden = false;  // there is one in force
    bool stop_due = false;         // resume_stops has sent it, and it has not taken effect yet
    std::set<pid_t> entered;       // held in a call (enter_calls)
    bool leaving = false;          // its threads are let go one by one (detach_after_calls)
    CallEnd look;                  // watch_calls
    Watch watch;
  };

  // A failure that only says "the thread died" is no failure: its exit event comes by itself.
  static void ignore_gone(const char* what, const Result<>& result);
  // What the kernel is to tell of a thread.
  static int options_for(const Process& process, pid_t pid, pid_t tid);
  static void set_options(const Process& process, pid_t pid, pid_t tid);
  Process* find(pid_t pid);
  Process* process_of(pid_t tid);
  pid_t pid_of(pid_t tid) const;
  void adopt_unknown(const WaitEvent& event);
  void handle(const WaitEvent& event);
  void handle_exit(const WaitEvent& event);
  void handle_syscall(pid_t pid, Process& process, pid_t tid);
  static void forget_dead(Process& process, pid_t tid);
  void forget_thread(pid_t pid, pid_t tid);
  void end_overridden_stop(pid_t pid, Process& process);
  void end_stop_due(pid_t pid, Process& process, const WaitEvent& event);
  void handle_event_stop(pid_t pid, Process& process, const WaitEvent& event);
  void handle_exec(pid_t pid, const WaitEvent& event);
  void handle_new_task(pid_t pid, const WaitEvent& event);
  void go_on(pid_t pid, Process& process, pid_t tid, int signal);
  Result<> resume(pid_t pid, const Tracee& tracee, int signal = 0);
  enum class Disturbance { kNone, kTimeLimit, kTransfer };
  Disturbance disturbance(pid_t pid, pid_t tid) const;
  static void disturb(Process& process, pid_t tid);
  void show_call_end(Process& process, pid_t tid);
  bool keeps(pid_t pid, Process& process, pid_t tid);
  bool postpone(pid_t pid, Process& process, pid_t tid);
  void repeat_call(const Tracee& tracee) const;
  static void read_again(const Tracee& tracee, Registers registers);
  void keep_waiting(pid_t pid, const Tracee& tracee, int signal) const;
  Result<> seize_threads(pid_t pid, Process& process, bool& changed);
  Result<> set_follow(pid_t pid, bool follow);
  Result<> wait_all_held(pid_t pid, Deadline deadline);
  Result<> enter_call(pid_t pid, pid_t tid, const Entry& entry, Deadline deadline);
  Result<> wait_held(pid_t tid, Deadline deadline);
  Result<Tracee> stop_thread(pid_t tid, std::chrono::milliseconds timeout);
  Result<> resume_thread(pid_t tid);

  WaitHub& hub_;
  TraceListener& listener_;
  std::map<pid_t, Process> processes_;
  std::set<pid_t> unannounced_;  // children seen before their parent's event
  std::set<pid_t> dead_early_;   // and dead before it
  std::set<pid_t> newborn_;      // children that have not come to their first stop yet
  std::set<pid_t> vforked_;      // children for which their parents wait in vfork
};

// Thread ids in /proc/PID/task, leader first; empty if the process is gone.
std::vector<pid_t> list_threads(pid_t pid);
// Thread group of a thread; 0 if it is gone.
pid_t thread_group(pid_t tid);
// How often a thread has left its processor to wait; none if it is gone.
std::optional<uint64_t> voluntary_switches(pid_t pid, pid_t tid);

}  // namespace tess::trace
