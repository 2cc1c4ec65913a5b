#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"

namespace tess::cli {

void add_migrate(CLI::App& app, int& exit_code) {
  struct Arguments {
    int pid = 0;
    std::string node;
    bool quiet = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("migrate", "Move a running process to a node, or home");
  command->add_option("pid", arguments->pid, "The process, as its home node numbers it")
      ->required()
      ->check(check_pid);
  command->add_option("node", arguments->node, "A node's name, or 'home'")->required();
  command->add_flag("-q,--quiet", arguments->quiet, "Say nothing when it worked");
  command->footer(
      "Waits until the process runs there. A failed migration leaves it running where it was.\n\n"
      "Examples:\n"
      "  tess migrate 4711 n2       process 4711 goes on at node n2\n"
      "  tess migrate 4711 home     and comes back\n"
      "  tess why 4711              what forbids it, if anything does");
  command->callback([arguments, &exit_code] {
    ExitCode code = kOk;
    const auto answer =
        ask({{"op", "migrate"}, {"pid", arguments->pid}, {"node", arguments->node}}, code);
    if (code == kOk && !arguments->quiet) {
      const std::string message = answer.value("message", "");
      std::printf(
          "process %d: %s\n", arguments->pid,
          message.empty() ? ("now on " + answer.value("node", "")).c_str() : message.c_str());
    }
    exit_code = code;
  });
}

void add_bring_home(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("bring-home", "Bring all your processes that are away back home");
  command->footer(
      "As root: those of all users. Waits until they are here.\n\n"
      "Example:\n"
      "  tess bring-home && systemctl poweroff");
  command->callback([&exit_code] {
    ExitCode code = kOk;
    const auto answer = ask({{"op", "bring_home"}}, code);
    if (code == kOk) {
      for (const auto& failed : answer.value("failed", nlohmann::json::array())) {
        print_error("job " + failed.value("job", "") + " stays away: " + failed.value("error", ""));
        code = kFailed;
      }
      const int home = answer.value("jobs", 0) -
                       static_cast<int>(answer.value("failed", nlohmann::json::array()).size());
      std::printf("%d %s brought home\n", home, home == 1 ? "job" : "jobs");
    }
    exit_code = code;
  });
}

}  // namespace tess::cli
