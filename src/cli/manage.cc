// tess manage: which processes that nobody started under Tessera the cluster may move.
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

constexpr size_t kCommandWidth = 60;

struct Arguments {
  std::string pattern;
  bool remove = false;
  bool as_json = false;
};

void change(const std::string& kind, const Arguments& arguments, int& exit_code) {
  json request = {{"op", "manage"},
                  {"action", arguments.remove ? "remove" : "add"},
                  {"kind", kind},
                  {"pattern", arguments.pattern}};
  if (kind == "user") {
    const auto user = user_number(arguments.pattern);
    if (!user) {
      print_error(fmt::format("there is no user '{}'", arguments.pattern));
      exit_code = kUsage;
      return;
    }
    request["user"] = *user;
  }
  ExitCode code = kOk;
  ask(request, code);
  exit_code = code;
}

std::string owner_text(const json& rule) {
  return user_name(rule.value("owner", 0U));
}

void print_list(const json& answer) {
  const json& rules = answer["rules"];
  if (rules.empty()) {
    std::puts("only jobs of `tess run` and `tess batch` are moved: there is no rule");
    return;
  }
  Table table({{"RULE"}, {"NAME"}, {"MADE BY"}});
  for (const auto& rule : rules) {
    table.add({rule.value("kind", ""), printable(rule.value("pattern", "")), owner_text(rule)});
  }
  std::fputs(table.text().c_str(), stdout);
  const json& processes = answer["processes"];
  if (processes.empty()) {
    return;
  }
  std::puts("");
  using Align = Table::Align;
  Table busy({{"PID", Align::kRight}, {"USER"}, {"NODE"}, {"COMMAND"}, {"LEFT ALONE BECAUSE"}});
  for (const auto& one : processes) {
    busy.add({std::to_string(one.value("pid", 0)), one.value("user", ""), one.value("node", ""),
              cut(printable(one.value("command", "")), kCommandWidth),
              printable(one.value("excluded", ""))});
  }
  std::fputs(busy.text().c_str(), stdout);
}

void list(bool as_json, int& exit_code) {
  ExitCode code = kOk;
  json answer = ask({{"op", "manage"}, {"action", "list"}}, code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  add_users(answer["processes"]);
  if (as_json) {
    print_json({{"rules", answer["rules"]}, {"processes", answer["processes"]}});
  } else {
    print_list(answer);
  }
}

void add_kind(CLI::App& manage, const std::string& kind, const char* what, const char* help,
              int& exit_code) {
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = manage.add_subcommand(kind, help);
  if (what != nullptr) {
    command->add_option("name", arguments->pattern, what)->required();
  }
  command->add_flag("--remove", arguments->remove, "No more: those that are away come home");
  command->callback([kind, arguments, &exit_code] { change(kind, *arguments, exit_code); });
}

}  // namespace

void add_manage(CLI::App& app, int& exit_code) {
  CLI::App* manage = app.add_subcommand(
      "manage", "Let the cluster move processes that nobody started under Tessera");
  manage->require_subcommand(1);
  add_kind(*manage, "user", "The user, by name or number", "The processes of a user", exit_code);
  add_kind(*manage, "cgroup", "Its path, as in /proc/PID/cgroup",
           "The processes of a control group and of those below it", exit_code);
  add_kind(*manage, "command",
           "Of the program's name; with a slash of its path, with a blank of the command line",
           "The processes whose command matches a pattern with * and ?", exit_code);
  add_kind(*manage, "all", nullptr, "All processes", exit_code);
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* listing =
      manage->add_subcommand("list", "The rules, and what has used much CPU lately and is covered");
  listing->add_flag("--json", *as_json, "Print JSON");
  listing->callback([as_json, &exit_code] { list(*as_json, exit_code); });
  manage->footer(
      "A rule holds on this node until it is removed, also after tessd was started anew. Root "
      "makes "
      "rules for\neverybody; others for their own processes. Never moved are services of the "
      "system that no rule names,\nsessions, shells, what is traced or confined, set-uid programs, "
      "containers, and what uses little CPU:\n`tess why PID` tells.\n\n"
      "Examples:\n"
      "  tess manage user alice\n"
      "  tess manage command 'blender*'\n"
      "  tess manage cgroup /user.slice/user-1000.slice --remove");
}

}  // namespace tess::cli
