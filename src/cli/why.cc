#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace tess::cli {
namespace {

void print_lines(const char* title, const nlohmann::json& lines) {
  if (!lines.is_array() || lines.empty()) {
    return;
  }
  std::printf("%s\n", title);
  for (const auto& line : lines) {
    std::printf("  - %s\n", printable(line.get<std::string>()).c_str());
  }
}

}  // namespace

void add_why(CLI::App& app, int& exit_code) {
  struct Arguments {
    int pid = 0;
    std::string node;
    bool as_json = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "why", "Tell why a process is where it is, and what forbids it to move, if anything");
  command->add_option("pid", arguments->pid, "The process")->required()->check(check_pid);
  command->add_option("node", arguments->node, "Where it would go");
  command->add_flag("--json", arguments->as_json, "Print JSON");
  command->footer(
      "Nothing is done to the process. Exit status 0: it can move; 6: it cannot.\n\n"
      "Examples:\n"
      "  tess why 4711        can it move at all?\n"
      "  tess why 4711 n2     can it move to n2?");
  command->callback([arguments, &exit_code] {
    ExitCode code = kOk;
    auto answer = ask({{"op", "why"}, {"pid", arguments->pid}, {"node", arguments->node}}, code);
    exit_code = code;
    if (code != kOk) {
      return;
    }
    const bool can_move = answer.value("can_move", false);
    exit_code = can_move ? kOk : kRefused;
    if (arguments->as_json) {
      answer.erase("ok");
      print_json(answer);
      return;
    }
    if (can_move) {
      std::printf("process %d can move%s%s\n", arguments->pid,
                  arguments->node.empty() ? "" : " to ", arguments->node.c_str());
    } else {
      print_lines(fmt::format("process {} cannot move:", arguments->pid).c_str(),
                  answer["reasons"]);
    }
    print_lines("why it is where it is:", answer["why_here"]);
    print_lines("what would move it:", answer["would_move"]);
    print_lines("its last moves:", answer["last_moves"]);
  });
}

}  // namespace tess::cli
