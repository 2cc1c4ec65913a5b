#include "sys/process.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "sys/files.h"
#include "sys/priority.h"

namespace tess::sys {
namespace {

Result<Fd> pidfd_open(pid_t pid) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));  // CLOEXEC by definition
  if (!fd.valid()) {
    return fail_errno("open a handle on process {}", pid);
  }
  return fd;
}

ExitStatus to_status(const siginfo_t& info) {
  switch (info.si_code) {
    case CLD_EXITED:
      return {ExitStatus::kExited, info.si_status};
    case CLD_STOPPED:
    case CLD_TRAPPED:
      return {ExitStatus::kStopped, info.si_status};
    case CLD_CONTINUED:
      return {ExitStatus::kContinued, info.si_status};
    default:
      return {ExitStatus::kSignaled, info.si_status};
  }
}

// In a fresh child: asks for the signal, then makes sure that the parent did not end just before it
// could count.
bool set_parent_death_signal(int number, int parent_pidfd) {
  if (number == 0) {
    return true;
  }
  ::prctl(PR_SET_PDEATHSIG, number);
  pollfd parent{parent_pidfd, POLLIN, 0};
  return ::poll(&parent, 1, 0) == 0;
}

// The program that execvp would take; resolved before the fork because the search allocates.
Result<std::string> resolve_program(const std::string& name) {
  if (name.empty()) {
    return fail(ErrorKind::kBadInput, "no program to start");
  }
  if (name.find('/') != std::string::npos) {
    return name;
  }
  const char* path_variable = ::getenv("PATH");
  const std::string path =
      path_variable != nullptr ? path_variable : "/usr/sbin:/usr/bin:/sbin:/bin";
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const std::string directory = path.substr(begin, end - begin);
    const std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
    struct stat status {};
    if (::stat(candidate.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
        ::access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
    begin = end + 1;
  }
  errno = ENOENT;
  return fail_errno("find program {} in PATH", name);
}

std::vector<char*> to_pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) {
    pointers.push_back(const_cast<char*>(string.c_str()));
  }
  pointers.push_back(nullptr);
  return pointers;
}

// Everything the child of spawn() needs, made before the fork.
struct Plan {
  std::string program;
  std::vector<char*> argv;
  std::vector<char*> env;
  const SpawnOptions* options;
  std::vector<int> scratch;  // fds duplicated out of the way of all targets
  int parent_pidfd;
  int report;  // errno goes here if exec fails
};

bool place_fds(Plan& plan) {
  int highest = 2;
  for (const auto& [ours, theirs] : plan.options->fds) {
    highest = std::max(highest, theirs);
  }
  // Out of the way first: a target number may be the source of a later pair, or the report pipe.
  for (size_t i = 0; i < plan.options->fds.size(); ++i) {
    plan.scratch[i] = ::fcntl(plan.options->fds[i].first, F_DUPFD_CLOEXEC, highest + 1);
    if (plan.scratch[i] < 0) {
      return false;
    }
  }
  plan.report = ::fcntl(plan.report, F_DUPFD_CLOEXEC, highest + 1);
  if (plan.report < 0) {
    return false;
  }
  for (size_t i = 0; i < plan.options->fds.size(); ++i) {
    if (::dup2(plan.scratch[i], plan.options->fds[i].second) < 0) {
      return false;
    }
  }
  return true;
}

// Child side of spawn(): async-signal-safe calls only. Returns only on failure, with errno set.
void become_program(Plan& plan) {
  const SpawnOptions& options = *plan.options;
  if (!set_parent_death_signal(options.parent_death_signal, plan.parent_pidfd)) {
    ::_exit(127);
  }
  for (int number = 1; number < NSIG; ++number) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    ::sigaction(number, &action, nullptr);  // SIGKILL, SIGSTOP and libc's own refuse, rightly
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const auto& [ns, kind] : options.enter) {
    if (::setns(ns->get(), namespace_clone_flag(kind)) != 0) {
      return;
    }
  }
  // After the namespaces: a target may have the number of a namespace's descriptor.
  if (!place_fds(plan)) {
    return;
  }
  if (options.new_session && ::setsid() < 0) {
    return;
  }
  if (options.new_process_group && ::setpgid(0, 0) != 0) {
    return;
  }
  if (options.priority) {
    (void)try_priority();  // it can do without
  }
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) {
    return;
  }
  ::execve(plan.program.c_str(), plan.argv.data(), plan.env.data());
}

// Like fork(2), with the pidfd made by the same call and without libc's handlers, which a child
// that only execs must not run. All signals are blocked meanwhile, so that no handler of ours runs
// in the child.
pid_t clone_with_pidfd(int& pidfd, sigset_t& old_mask) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, &old_mask);
  clone_args args{};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  return static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof(args)));
}

int milliseconds_left(const std::optional<Deadline>& deadline) {
  if (!deadline) {
    return -1;
  }
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
  return static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30));
}

}  // namespace

std::string ExitStatus::text() const {
  switch (kind) {
    case kExited:
      return fmt::format("exited with status {}", value);
    case kSignaled:
      return fmt::format("killed by signal {} ({})", value, ::strsignal(value));
    case kStopped:
      return fmt::format("stopped by signal {} ({})", value, ::strsignal(value));
    case kContinued:
      return "continued";
  }
  return "unknown";
}

Result<Process> Process::spawn(const SpawnOptions& options) {
  if (options.argv.empty()) {
    return fail(ErrorKind::kBadInput, "no program to start");
  }
  Plan plan;
  TESS_TRY_ASSIGN(plan.program, resolve_program(options.argv[0]));
  plan.argv = to_pointers(options.argv);
  plan.options = &options;
  plan.scratch.resize(options.fds.size());
  if (options.env) {
    plan.env = to_pointers(*options.env);
  } else {
    for (char** variable = environ; *variable != nullptr; ++variable) {
      plan.env.push_back(*variable);
    }
    plan.env.push_back(nullptr);
  }
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) {
    return fail_errno("make a pipe for starting {}", options.argv[0]);
  }
  Fd read_end(report[0]);
  Fd write_end(report[1]);
  TESS_TRY_ASSIGN(Fd parent, pidfd_open(::getpid()));
  plan.report = write_end.get();
  plan.parent_pidfd = parent.get();

  int pidfd = -1;
  sigset_t old_mask;
  const pid_t pid = clone_with_pidfd(pidfd, old_mask);
  if (pid == 0) {
    become_program(plan);
    const int reason = errno;
    [[maybe_unused]] const ssize_t n = ::write(plan.report, &reason, sizeof(reason));
    ::_exit(127);
  }
  const int clone_errno = errno;
  ::sigprocmask(SIG_SETMASK, &old_mask, nullptr);
  if (pid < 0) {
    errno = clone_errno;
    return fail_errno("fork for {}", options.argv[0]);
  }
  Process child(pid, Fd(pidfd));
  write_end.reset();
  int reason = 0;
  if (read_all(read_end, std::as_writable_bytes(std::span(&reason, 1)))) {
    (void)child.wait();
    errno = reason;
    return fail_errno("start {}", options.argv[0]);
  }
  return child;
}

Result<Process> Process::fork(const ForkOptions& options, const std::function<int()>& child) {
  Fd own_pid_namespace;
  if (options.new_pid_namespace || options.enter_pid_namespace != nullptr) {
    TESS_TRY_ASSIGN(own_pid_namespace, open_namespace(0, Namespace::kPid));
  }
  TESS_TRY_ASSIGN(Fd parent, pidfd_open(::getpid()));
  // unshare and setns only concern children to come; the way back is setns to our own. (A plain
  // fork(2) and not clone3 with CLONE_NEWPID: the child goes on with libc, which must know of the
  // fork.)
  if (options.new_pid_namespace) {
    TESS_TRY(unshare_namespaces(CLONE_NEWPID));
  } else if (options.enter_pid_namespace != nullptr) {
    TESS_TRY(enter_namespace(*options.enter_pid_namespace, Namespace::kPid));
  }
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!set_parent_death_signal(options.parent_death_signal, parent.get())) {
      ::_exit(127);
    }
    parent.reset();
    own_pid_namespace.reset();
    ::_exit(child());
  }
  const int fork_errno = errno;
  if (own_pid_namespace.valid()) {
    TESS_TRY(enter_namespace(own_pid_namespace, Namespace::kPid));
  }
  if (pid < 0) {
    errno = fork_errno;
    return fail_errno("fork");
  }
  return open(pid);  // not reaped yet, so the pid is still that child's
}

Result<Process> Process::open(pid_t pid) {
  TESS_TRY_ASSIGN(Fd fd, pidfd_open(pid));
  return Process(pid, std::move(fd));
}

Result<Process> Process::self() {
  return open(::getpid());
}

Result<> Process::signal(int number) const {
  if (::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0) != 0) {
    if (errno == ESRCH) {
      return fail(ErrorKind::kDisconnected, "process {} is gone", pid_);
    }
    return fail_errno("send signal {} to process {}", number, pid_);
  }
  return {};
}

bool Process::running() const {
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) == 0;
}

Result<> Process::wait_gone(std::optional<Deadline> deadline) const {
  TESS_TRY_ASSIGN(const bool gone, wait_readable(pidfd_, milliseconds_left(deadline)));
  if (!gone) {
    return fail(ErrorKind::kRetry, "process {} still runs", pid_);
  }
  return {};
}

Result<ExitStatus> Process::wait(std::optional<Deadline> deadline) {
  TESS_TRY(wait_gone(deadline));
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
                  WEXITED) != 0) {
    if (errno != EINTR) {
      return fail_errno("wait for process {}", pid_);
    }
  }
  return to_status(info);
}

Result<ExitStatus> Process::wait_change() {
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
                  WEXITED | WSTOPPED | WCONTINUED) != 0) {
    if (errno != EINTR) {
      return fail_errno("wait for process {}", pid_);
    }
  }
  return to_status(info);
}

Result<std::optional<ExitStatus>> Process::poll_change() {
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
                  WEXITED | WSTOPPED | WCONTINUED | WNOHANG) != 0) {
    if (errno != EINTR) {
      return fail_errno("wait for process {}", pid_);
    }
  }
  if (info.si_pid == 0) {
    return std::nullopt;
  }
  return to_status(info);
}

Result<std::optional<std::pair<pid_t, ExitStatus>>> reap_any(bool block) {
  siginfo_t info{};
  while (::waitid(P_ALL, 0, &info, WEXITED | (block ? 0 : WNOHANG)) != 0) {
    if (errno == ECHILD) {
      return fail(ErrorKind::kDisconnected, "no children");
    }
    if (errno != EINTR) {
      return fail_errno("wait for any child");
    }
  }
  if (info.si_pid == 0) {
    return std::nullopt;
  }
  return std::pair{info.si_pid, to_status(info)};
}

Result<uint64_t> process_start_time(pid_t pid) {
  TESS_TRY_ASSIGN(const std::string stat, read_file(fmt::format("/proc/{}/stat", pid)));
  // Field 22; the command (field 2) is in parentheses and may hold anything, so count from the last
  // one.
  size_t position = stat.rfind(')');
  for (int field = 2; field < 22 && position != std::string::npos; ++field) {
    position = stat.find(' ', position + 1);
  }
  if (position == std::string::npos) {
    return fail(ErrorKind::kFailed, "cannot read the start time of process {}", pid);
  }
  return std::strtoull(stat.c_str() + position, nullptr, 10);
}

std::string process_name(pid_t pid) {
  auto text = read_file(fmt::format("/proc/{}/comm", pid)).value_or("");
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

Result<Fd> copy_descriptor(pid_t pid, int number) {
  TESS_TRY_ASSIGN(const Fd pidfd, pidfd_open(pid));
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
  if (!fd.valid()) {
    return fail_errno("fetch descriptor {} of process {}", number, pid);
  }
  return fd;
}

bool has_ended(pid_t pid, pid_t tid) {
  const auto stat = read_file(fmt::format("/proc/{}/task/{}/stat", pid, tid));
  const size_t name_end = stat ? stat->rfind(')') : std::string::npos;
  return name_end == std::string::npos || name_end + 2 >= stat->size() ||
         (*stat)[name_end + 2] == 'Z' || (*stat)[name_end + 2] == 'X';
}

void close_all_but(std::vector<int> keep) {
  std::sort(keep.begin(), keep.end());
  unsigned first = 3;
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (fd >= 0 && kept >= first) {
      if (kept > first) {
        ::close_range(first, kept - 1, 0);
      }
      first = kept + 1;
    }
  }
  ::close_range(first, ~0U, 0);
}

std::optional<Process> open_if_same(pid_t pid, uint64_t start_time) {
  // Handle first, then the question: if the answer is right, the handle was on the right one.
  Result<Process> process = Process::open(pid);
  if (!process || !process->running()) {
    return std::nullopt;
  }
  Result<uint64_t> started = process_start_time(pid);
  if (!started || *started != start_time) {
    return std::nullopt;
  }
  return std::move(*process);
}

}  // namespace tess::sys
