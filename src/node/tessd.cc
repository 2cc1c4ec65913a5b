// tessd: the daemon of a node. See docs/man/tessd.8.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "base/log.h"
#include "node/daemon.h"
#include "node/version.h"
#include "sys/priority.h"
#include "wire/agent_process.h"

namespace {

// $TESS_AGENT_BINARY, or tess-agent beside this program, or the one in PATH.
std::string find_agent() {
  if (const char* given = std::getenv("TESS_AGENT_BINARY")) {
    return given;
  }
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  const auto beside = self.parent_path() / "tess-agent";
  return !error && ::access(beside.c_str(), X_OK) == 0 ? beside.string() : "tess-agent";
}

// The guests of a node take all the CPU there is; whoever hears too late what others say calls them
// dead, or is called so. What this process starts does not inherit it (sched(7),
// SCHED_RESET_ON_FORK). A node works without it, so failing is only noted.
void take_priority() {
  if (auto taken = tess::sys::take_priority(); !taken) {
    tess::log::warn("node", "event=no_priority reason=\"{}\"", taken.error().message());
  }
}

// As the same process, so that whoever supervises it sees nothing.
void start_again(char** argv) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv("/proc/self/exe", argv);
  std::perror("tessd: cannot start itself again");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"tessd: the daemon of a Tessera node"};
  tess::node::DaemonPaths paths{tess::wire::state_dir(), tess::wire::run_dir(),
                                tess::wire::config_path(), find_agent()};
  app.add_option("--config", paths.config, "configuration file")->capture_default_str();
  app.set_version_flag("--version", std::string("tessd ") + tess::node::kVersion);
  CLI11_PARSE(app, argc, argv);
  tess::log::start("tessd");
  if (::geteuid() != 0) {
    std::fprintf(stderr, "tessd: must run as root: it starts agents that trace processes\n");
    return 1;
  }
  ::signal(SIGPIPE, SIG_IGN);  // agents are started with default dispositions
  take_priority();
  tess::net::Loop loop;
  auto daemon = tess::node::Daemon::start(loop, paths);
  if (!daemon) {
    std::fprintf(stderr, "tessd: %s\n", daemon.error().message().c_str());
    return 1;
  }
  const tess::net::SignalWatch signals(loop, {SIGTERM, SIGINT, SIGHUP}, [&](int signal) {
    signal == SIGHUP ? (*daemon)->reload() : (*daemon)->stop();
  });
  loop.run();
  if ((*daemon)->restarts()) {
    daemon->reset();  // its sockets and locks
    start_again(argv);
  }
  return 0;
}
