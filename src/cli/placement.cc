// tess log, best, node and set: what was moved and why, where things run best, and how this node
// takes part.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace tess::cli {
namespace {

using nlohmann::json;

// Asks; prints the part `key` as JSON, or hands it to `print`.
template <typename Print>
void show(const json& request, const char* key, bool as_json, int& exit_code, Print print) {
  ExitCode code = kOk;
  auto answer = ask(request, code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  if (as_json) {
    print_json({{key, answer[key]}});
  } else {
    print(answer[key]);
  }
}

void print_log(const json& moves) {
  for (const auto& move : moves) {
    const std::string because = move.value("because", "");
    std::printf("%8.0f s ago  %s (%lld): %s%s\n", move.value("ago_s", 0.0),
                printable(move.value("command", "")).c_str(),
                static_cast<long long>(move.value("pid", int64_t{0})),
                printable(move.value("text", "")).c_str(),
                because.empty() ? "" : (" [failed: " + printable(because) + "]").c_str());
  }
}

void print_best(const json& nodes) {
  using Align = Table::Align;
  Table table(
      {{"NODE"}, {"SPEED", Align::kRight}, {"RUNNABLE", Align::kRight}, {"FREE", Align::kRight}});
  for (const auto& node : nodes) {
    table.add({node.value("name", ""), fmt::format("{:.2f}", node.value("speed", 0.0)),
               fmt::format("{:.1f}", node.value("runnable", 0.0)),
               bytes_text(node.value("memory_free_bytes", uint64_t{0}))});
  }
  std::fputs(table.text().c_str(), stdout);
}

void print_values(const json& values) {
  for (const auto& [key, value] : values.items()) {
    const std::string text =
        value.is_string() ? value.get<std::string>() : fmt::format("{:g}", value.get<double>());
    std::printf("%s = %s\n", key.c_str(), text.c_str());
  }
}

void add_drain(CLI::App& node, const char* name, bool on, const char* help, int& exit_code) {
  const auto which = std::make_shared<std::string>();
  CLI::App* command = node.add_subcommand(name, help);
  command->add_option("node", *which, "The node; without: this one");
  command->callback([which, on, &exit_code] {
    ExitCode code = kOk;
    ask({{"op", "drain"}, {"node", *which}, {"on", on}}, code);
    exit_code = code;
  });
}

}  // namespace

void add_log(CLI::App& app, int& exit_code) {
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("log", "List the moves of this node's processes, with the reasons");
  command->add_flag("--json", *as_json, "Print JSON");
  command->callback([as_json, &exit_code] {
    show({{"op", "log"}}, "moves", *as_json, exit_code, print_log);
  });
}

void add_best(CLI::App& app, int& exit_code) {
  struct Arguments {
    bool as_json = false;
    bool first = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("best", "List the nodes where one more program would get on, best first");
  command->add_flag("--json", arguments->as_json, "Print JSON");
  command->add_flag("-1,--first", arguments->first, "Print only the name of the best one");
  command->footer("SPEED is what it would get of a core of the reference machine.");
  command->callback([arguments, &exit_code] {
    show({{"op", "best"}}, "nodes", arguments->as_json, exit_code, [&](const json& nodes) {
      if (!arguments->first) {
        print_best(nodes);
      } else if (nodes.empty()) {
        print_error("no node takes guests now");
        exit_code = kUnavailable;
      } else {
        std::puts(nodes[0].value("name", "").c_str());
      }
    });
  });
}

void add_node(CLI::App& app, int& exit_code) {
  CLI::App* node =
      app.add_subcommand("node", "Take a node out of use, and back; who belongs to the cluster");
  node->require_subcommand(1);
  add_drain(*node, "drain", true, "It takes no guests, and those it has move away", exit_code);
  add_drain(*node, "undrain", false, "It takes guests again", exit_code);
  add_node_admission(*node, exit_code);
  add_node_rename(*node, exit_code);
  add_node_expel(*node, exit_code);
}

void add_set(CLI::App& app, int& exit_code) {
  struct Arguments {
    std::string key;
    std::string value;
    bool as_json = false;
  };
  const auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("set", "Change how this node places processes");
  CLI::Option* key = command->add_option("key", arguments->key, "Which value; without: list all");
  command->add_option("value", arguments->value, "Its new value, or 'default'")->needs(key);
  command->add_flag("--json", arguments->as_json, "Print JSON");
  command->footer(
      "What is set holds until it is set to 'default', also after tessd was started anew, and goes "
      "before the\nconfiguration.\n\n"
      "Examples:\n"
      "  tess set                  all values\n"
      "  tess set balance off      nothing moves by itself (a drain still does)\n"
      "  tess set residency 5      a process stays 5 s at least where it came to");
  command->callback([arguments, &exit_code] {
    if (arguments->key.empty()) {
      show({{"op", "set"}}, "values", arguments->as_json, exit_code, print_values);
      return;
    }
    ExitCode code = kOk;
    ask({{"op", "set"}, {"key", arguments->key}, {"value", arguments->value}}, code);
    exit_code = code;
  });
}

}  // namespace tess::cli
