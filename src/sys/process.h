// Process: owns a pidfd, so that a signal or a wait never hits a recycled pid. spawn() and fork()
// make children; open() is a handle on any process, which can be signalled and waited for but not
// reaped.
//
// Dropping a handle neither kills nor reaps: a child whose status nobody takes stays a zombie until
// this process ends. spawn() may be called with other threads running (only async-signal-safe calls
// between fork and exec); fork() only from a single-threaded process, because its child goes on
// with ordinary code.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"
#include "sys/namespaces.h"

namespace tess::sys {

using Deadline = std::chrono::steady_clock::time_point;
inline Deadline after(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}

// How a process ended, or (wait_change only) that it stopped or went on.
struct ExitStatus {
  enum Kind { kExited, kSignaled, kStopped, kContinued } kind = kExited;
  int value = 0;  // exit code or signal number

  bool success() const { return kind == kExited && value == 0; }
  // As a shell would put it in $?.
  int shell_code() const { return kind == kExited ? value : 128 + value; }
  // "exited with status 3", "killed by signal 9 (Killed)".
  std::string text() const;
};

struct SpawnOptions {
  std::vector<std::string> argv;  // argv[0]: a path, or a name looked up in this process's PATH
  std::optional<std::vector<std::string>> env;  // "NAME=value"; nullopt: this process's
  std::vector<std::pair<int, int>>
      fds;                // (ours, theirs); all others close at exec as they are CLOEXEC
  std::string directory;  // empty: stay
  bool new_session = false;
  bool new_process_group = false;
  bool priority = false;        // try_priority() before it begins
  int parent_death_signal = 0;  // sent to the child when the spawning thread ends
  std::vector<std::pair<const Fd*, Namespace>>
      enter;  // namespaces to join first (not kPid: that needs a fork)
};

struct ForkOptions {
  bool new_pid_namespace = false;  // the child is pid 1 of a new one
  const Fd* enter_pid_namespace = nullptr;
  int parent_death_signal = 0;
};

class Process {
 public:
  Process() = default;

  // Starts a program with the default signal dispositions and an empty signal mask. A failing exec
  // is reported here, with its errno.
  static Result<Process> spawn(const SpawnOptions& options);
  // Runs `child` in a copy of this process, which ends with its return value (by _exit: no
  // destructors, no atexit). Signal mask and dispositions are inherited.
  static Result<Process> fork(const ForkOptions& options, const std::function<int()>& child);
  static Result<Process> open(pid_t pid);
  static Result<Process> self();

  bool valid() const { return pidfd_.valid(); }
  pid_t pid() const { return pid_; }  // for people, files and /proc paths
  const Fd& pidfd() const { return pidfd_; }

  Result<> signal(int number) const;
  bool running() const;  // false once it has ended, reaped or not
  // Waits for the end and reaps. kRetry when the deadline passes first.
  Result<ExitStatus> wait(std::optional<Deadline> deadline = std::nullopt);
  // The same, also returning when the child stops or goes on. No deadline: for job control.
  Result<ExitStatus> wait_change();
  // The same without waiting: nullopt if nothing has changed since.
  Result<std::optional<ExitStatus>> poll_change();
  // Waits for the end of any process, without reaping.
  Result<> wait_gone(std::optional<Deadline> deadline) const;

 private:
  Process(pid_t pid, Fd pidfd) : pid_(pid), pidfd_(std::move(pidfd)) {}

  pid_t pid_ = -1;
  Fd pidfd_;
};

// Reaps one ended child of this process, whichever: (pid, status), nullopt if none has ended now.
// For an init, which inherits orphans that it has no handle of. kDisconnected when there are no
// children at all.
Result<std::optional<std::pair<pid_t, ExitStatus>>> reap_any(bool block);

// Clock ticks since boot at which the process started; with the pid it names a process for good.
Result<uint64_t> process_start_time(pid_t pid);
// /proc/PID/comm: what the program, or whoever has renamed it since, is called; "" if it is gone.
std::string process_name(pid_t pid);
// A copy of one of its descriptors (pidfd_getfd(2)).
Result<Fd> copy_descriptor(pid_t pid, int number);
// A thread that is gone, or a zombie.
bool has_ended(pid_t pid, pid_t tid);
// A handle only if that very process still runs.
std::optional<Process> open_if_same(pid_t pid, uint64_t start_time);

// For a child of Process::fork that wants to inherit nothing else: closes every descriptor from 3
// up but these.
void close_all_but(std::vector<int> keep);

// Runs a program to its end with `input` on its standard input; standard output and error are
// collected together. A status other than success is an Error that quotes the output.
Result<std::string> run_tool(SpawnOptions options, const std::string& input = {});

}  // namespace tess::sys
