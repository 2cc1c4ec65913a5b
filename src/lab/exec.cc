#include "lab/exec.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>

#include "lab/foreground.h"
#include "sys/cgroup.h"
#include "sys/namespaces.h"
#include "sys/process.h"

namespace tess::lab {
namespace {

constexpr int kCannotExecute = 126;
constexpr int kNotFound = 127;

// A process can be in the pid namespace only from birth, in the others by entering them.
struct NodeNamespaces {
  sys::Fd pid;
  std::vector<std::pair<sys::Fd, sys::Namespace>> others;
};

Result<NodeNamespaces> open_namespaces(const NodeState& node, bool host_files) {
  NodeNamespaces result;
  TESS_TRY_ASSIGN(result.pid, sys::open_namespace(node.init.pid, sys::Namespace::kPid));
  std::vector<sys::Namespace> kinds{sys::Namespace::kNet, sys::Namespace::kUts,
                                    sys::Namespace::kIpc, sys::Namespace::kCgroup};
  if (!host_files) {
    kinds.push_back(sys::Namespace::kMount);
  }
  for (const sys::Namespace kind : kinds) {
    TESS_TRY_ASSIGN(sys::Fd fd, sys::open_namespace(node.init.pid, kind));
    result.others.emplace_back(std::move(fd), kind);
  }
  return result;
}

Result<> enter_node(const NodeState& node, const NodeNamespaces& namespaces) {
  char directory[PATH_MAX];
  const bool has_directory = ::getcwd(directory, sizeof(directory)) != nullptr;
  TESS_TRY(sys::Cgroup(node.cgroups).join());
  for (const auto& [fd, kind] : namespaces.others) {
    TESS_TRY(sys::enter_namespace(fd, kind));
  }
  // The same directory where the node has it (the server has them all), else the root.
  if ((!has_directory || ::chdir(directory) != 0) && ::chdir("/") != 0) {
    return fail_errno("change to the root of {}", node.name);
  }
  return {};
}

// In the child. Returns only if the command could not be started.
int become_command(const NodeState& node, const NodeNamespaces& namespaces,
                   const ExecOptions& options, const Foreground& foreground) {
  if (const auto entered = enter_node(node, namespaces); !entered) {
    std::fprintf(stderr, "tess lab exec: enter node %s: %s\n", node.name.c_str(),
                 entered.error().message().c_str());
    return kCannotExecute;
  }
  std::vector<char*> argv;
  for (const std::string& word : options.command) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  foreground.enter_child();
  ::execvp(argv[0], argv.data());
  const int reason = errno;
  std::fprintf(stderr, "tess lab exec: start %s in node %s: %s\n", argv[0], node.name.c_str(),
               ::strerror(reason));
  return reason == ENOENT ? kNotFound : kCannotExecute;
}

// Ends this process as the command ended, without a second core file.
[[noreturn]] void die_of(int signal) {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  ::sigaction(signal, &action, nullptr);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  ::raise(signal);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::_exit(128 + signal);
}

}  // namespace

Result<int> exec_in_node(const NodeState& node, const ExecOptions& options) {
  if (!node.init.open()) {
    return fail(ErrorKind::kNotPossible, "node {} is not running", node.name);
  }
  TESS_TRY_ASSIGN(const NodeNamespaces namespaces, open_namespaces(node, options.host_files));
  TESS_TRY_ASSIGN(Foreground foreground, Foreground::prepare());
  TESS_TRY_ASSIGN(
      sys::Process child,
      sys::Process::fork({.enter_pid_namespace = &namespaces.pid, .parent_death_signal = SIGKILL},
                         [&] { return become_command(node, namespaces, options, foreground); }));
  TESS_TRY_ASSIGN(const sys::ExitStatus status, foreground.attend(std::move(child)));
  if (status.kind == sys::ExitStatus::kSignaled) {
    die_of(status.value);
  }
  return status.value;
}

}  // namespace tess::lab
