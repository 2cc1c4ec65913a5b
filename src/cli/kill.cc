#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/group.h"
#include "cli/users.h"

namespace tess::cli {
namespace {

using nlohmann::json;

struct Arguments {
  std::vector<int> pids;
  std::string signal = "TERM";
  std::string job;
  std::string at;
};

ExitCode kill(const Arguments& arguments) {
  const int number = signal_number(arguments.signal);
  if (number < 0) {
    print_error("kill: there is no signal '" + arguments.signal + "'");
    return kUsage;
  }
  if (arguments.pids.empty() == arguments.job.empty()) {
    print_error("kill: either processes or a job; see `tess kill --help`");
    return kUsage;
  }
  std::vector<json> processes;
  for (const int pid : arguments.pids) {
    processes.push_back({{"pid", pid}, {"home", arguments.at}});
  }
  if (!arguments.job.empty()) {
    ExitCode code = kOk;
    const json all = all_processes(code);
    if (code != kOk) {
      return code;
    }
    auto found = processes_of_job(all, arguments.job);
    if (!found) {
      print_error("kill: " + found.error().message());
      return kUnknown;
    }
    processes = std::move(*found);
  }
  size_t done = 0;
  return ask_for_each(processes, {{"op", "kill"}, {"signal", number}}, done);
}

}  // namespace

void add_kill(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("kill", "Send a signal to processes, wherever they run, or to a job");
  command->add_option("pid", arguments->pids, "The processes, as their home numbers them")
      ->check(check_pid);
  command->add_option("-s,--signal", arguments->signal, "Its name or number")
      ->capture_default_str();
  command->add_option("-j,--job", arguments->job, "All processes of a job");
  command->add_option("--at", arguments->at, "The processes' home, if it is not this node");
  command->footer(
      "A process that is at home here can be sent signals by kill(1) as well, wherever it runs. "
      "Only root\nmay send signals to processes of other homes.\n\n"
      "Examples:\n"
      "  tess kill 4711\n"
      "  tess kill -s STOP --job 5e21a0c4     a whole job, by the id that tess ps shows\n"
      "  tess kill -s KILL --at n2 812        of node n2");
  command->callback([arguments, &exit_code] { exit_code = kill(*arguments); });
}

}  // namespace tess::cli
