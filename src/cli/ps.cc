#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/users.h"

namespace tess::cli {
namespace {

using nlohmann::json;

struct Options {
  bool all = false;
  bool as_json = false;
  bool follow = false;
};

void print_table(const json& processes) {
  using Align = Table::Align;
  Table table({{"JOB"},
               {"PID", Align::kRight},
               {"COMMAND", Align::kLeft, 28},
               {"HOME"},
               {"WHERE"},
               {"CPU-HOME", Align::kRight},
               {"CPU-AWAY", Align::kRight},
               {"MEM", Align::kRight},
               {"MOVES", Align::kRight},
               {"STATE"}});
  for (const auto& process : processes) {
    const std::string job = process.value("job", "");
    table.add({job.size() > 8 ? job.substr(job.size() - 8) : job,
               std::to_string(process.value("pid", 0)), process.value("command", ""),
               process.value("home", ""), process.value("node", ""),
               seconds_text(process.value("cpu_home_s", 0.0)),
               seconds_text(process.value("cpu_away_s", 0.0)),
               bytes_text(process.value("memory_bytes", uint64_t{0})),
               std::to_string(process.value("moves", 0)), process.value("state", "")});
  }
  std::fputs(table.text().c_str(), stdout);
}

void show(json& answer, const Options& options) {
  json& processes = answer["processes"];
  add_users(processes);
  if (options.as_json) {
    print_json({{"processes", processes}});
  } else {
    if (options.follow && ::isatty(STDOUT_FILENO) == 1) {
      std::fputs("\x1b[H\x1b[2J", stdout);
    }
    print_table(processes);
    if (options.follow && ::isatty(STDOUT_FILENO) == 0) {
      std::fputs("\n", stdout);
    }
  }
  std::fflush(stdout);
}

ExitCode run(const Options& options) {
  auto client = Client::connect();
  if (!client) {
    print_error(client.error().message());
    return kNoDaemon;
  }
  auto sent = client->send({{"op", "ps"}, {"all", options.all}, {"follow", options.follow}});
  while (sent) {
    auto answer = client->receive();
    if (!answer) {
      sent = tl::unexpected(std::move(answer.error()));
      break;
    }
    const ExitCode code = exit_code_for(*answer);
    if (code != kOk) {
      print_error(answer->value("error", "tessd gives no reason"));
      return code;
    }
    show(*answer, options);
    if (!options.follow) {
      return kOk;
    }
    if (std::ferror(stdout) != 0) {
      return kFailed;
    }
  }
  print_error(sent.error().message());
  return kNoDaemon;
}

}  // namespace

void add_ps(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("ps", "List the processes that Tessera manages, and where they run");
  command->add_flag("-a,--all", options->all, "Those of all nodes, not only this one's");
  command->add_flag("--json", options->as_json, "Print JSON; with --follow one object a line");
  command->add_flag("-f,--follow", options->follow, "Again each second, until interrupted");
  command->footer(
      "States: native (at home, untouched), deputy (its body runs elsewhere), moving, guest (from\n"
      "another home). CPU-AWAY is what hosts have computed for it.\n\n"
      "Examples:\n"
      "  tess ps              this node's processes and guests\n"
      "  tess ps -a -f        the whole cluster, live");
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace tess::cli
