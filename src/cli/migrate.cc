#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/group.h"

namespace tess::cli {

namespace {

struct Arguments {
  std::vector<std::string> words;  // PID NODE
  std::string job;
  std::string from;
  bool quiet = false;
};

ExitCode usage(const std::string& text) {
  print_error("migrate: " + text + "; see `tess migrate --help`");
  return kUsage;
}

ExitCode migrate_one(const Arguments& arguments) {
  if (arguments.words.size() != 2) {
    return usage(arguments.words.size() == 1 ? "the node is required"
                                             : "a process and a node are required");
  }
  if (const std::string wrong = check_pid(arguments.words[0]); !wrong.empty()) {
    return usage(wrong);
  }
  const int pid = std::stoi(arguments.words[0]);
  ExitCode code = kOk;
  const auto answer = ask({{"op", "migrate"}, {"pid", pid}, {"node", arguments.words[1]}}, code);
  if (code == kOk && !arguments.quiet) {
    const std::string message = answer.value("message", "");
    std::printf("process %d: %s\n", pid,
                message.empty() ? ("now on " + answer.value("node", "")).c_str() : message.c_str());
  }
  return code;
}

// Those of a job, or those that run on a node.
ExitCode migrate_many(const Arguments& arguments) {
  const bool of_job = !arguments.job.empty();
  if (arguments.words.size() > 1 ||
      (of_job && (arguments.words.empty() || !arguments.from.empty()))) {
    return usage(of_job ? "with --job only a node is wanted" : "with --all-from at most a node");
  }
  const std::string node = arguments.words.empty() ? "home" : arguments.words[0];
  ExitCode code = kOk;
  const auto processes = all_processes(code);
  if (code != kOk) {
    return code;
  }
  std::vector<nlohmann::json> chosen;
  if (of_job) {
    auto found = processes_of_job(processes, arguments.job);
    if (!found) {
      print_error("migrate: " + found.error().message());
      return kUnknown;
    }
    chosen = std::move(*found);
  } else {
    chosen = processes_on(processes, arguments.from);
    // Those at home there stay if home is where they are to go.
    std::erase_if(chosen, [&](const auto& process) {
      return node == "home" && process.value("home", "") == arguments.from;
    });
  }
  size_t done = 0;
  code = ask_for_each(chosen, {{"op", "migrate"}, {"node", node}}, done);
  if (!arguments.quiet) {
    std::printf("%zu of %zu processes now %s%s\n", done, chosen.size(),
                node == "home" ? "at home" : "on ", node == "home" ? "" : node.c_str());
  }
  return code;
}

}  // namespace

void add_migrate(CLI::App& app, int& exit_code) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("migrate", "Move a running process to a node, or home");
  command
      ->add_option("pid_and_node", arguments->words,
                   "The process, as its home node numbers it, and a node's name, or 'home'")
      ->type_name("PID NODE");
  command->add_option("-j,--job", arguments->job, "All processes of a job, in place of PID");
  command->add_option("--all-from", arguments->from,
                      "All processes that run on this node; without NODE: to their homes");
  command->add_flag("-q,--quiet", arguments->quiet, "Say nothing when it worked");
  command->footer(
      "Waits until the process runs there. A failed migration leaves it running where it was. What "
      "a person\nmoves stays there; only root may move processes of other homes.\n\n"
      "Examples:\n"
      "  tess migrate 4711 n2              process 4711 goes on at node n2\n"
      "  tess migrate 4711 home            and comes back\n"
      "  tess migrate --job 5e21a0c4 n3    a whole job, by the id that tess ps shows\n"
      "  tess migrate --all-from n2        n2's guests go home\n"
      "  tess why 4711                     what forbids it, if anything does");
  command->callback([arguments, &exit_code] {
    const bool many = !arguments->job.empty() || !arguments->from.empty();
    exit_code = many ? migrate_many(*arguments) : migrate_one(*arguments);
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
