// tess-agent home|host: the process that controls one job on its home node, or lends a node to one
// job. Started by tessd (wire/agent_process.h); both speak to it on agents.sock.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/log.h"
#include "batch/keeper.h"
#include "home/home_config.h"
#include "host/fault_points.h"
#include "host/host_agent.h"
#include "migrate/coordinator.h"
#include "wire/agent_process.h"

namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("tess-agent: started by tessd, one for each job and side");
  app.require_subcommand(1);

  tess::home::HomeConfig home;
  CLI::App* const home_command = app.add_subcommand("home", "control a job on its home node");
  home_command->add_option("--job", home.job, "number of the job")->required();
  home_command->add_option("--pid", home.pid, "its first process")->required();
  home_command->add_flag("--run", home.run, "seize it now; place what it executes");
  home_command->add_flag("--place", home.place, "ask tessd where the programs of the job run");
  home_command->add_option("--node", home.node, "where to");
  std::string note;
  home_command->add_option("--note", note, "for tessd to have back, hexadecimal");

  tess::host::HostConfig host;
  int listen_fd = -1;
  CLI::App* const host_command = app.add_subcommand("host", "lend this node to a job");
  host_command->add_option("--job", host.job, "number of the job")->required();
  host_command->add_option("--home-node", host.home_node, "the job's home")->required();
  host_command->add_option("--listen-fd", listen_fd, "listening socket")->required();
  CLI::App* const task_command = app.add_subcommand("task", "keep a task of a batch job");
  CLI::App* const points_command =
      app.add_subcommand("fault-points", "for tests: name the points where a failure can be armed");
  CLI11_PARSE(app, argc, argv);

  if (points_command->parsed()) {
    for (const std::string& point : tess::migrate::fault_points()) {
      std::puts(point.c_str());
    }
    for (const char* point : tess::host::kFaultPoints) {
      std::puts(point);
    }
    return 0;
  }
  if (task_command->parsed()) {
    return tess::batch::keep_task();
  }
  ::signal(SIGPIPE, SIG_IGN);
  if (home_command->parsed()) {
    tess::log::start("tess-agent-home");
    home.note = tess::wire::from_hex(note);
    home.state_dir = tess::wire::state_dir();
    home.run_dir = tess::wire::run_dir();
    return tess::home::run(home);
  }
  tess::log::start("tess-agent-host");
  host.listen_fd = tess::sys::Fd(listen_fd);
  host.token = tess::wire::from_hex(environment(tess::wire::kTokenVariable));
  host.state_dir = tess::wire::state_dir();
  host.run_dir = tess::wire::run_dir();
  return tess::host::run(std::move(host));
}
