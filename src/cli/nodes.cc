#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/top_model.h"

namespace tess::cli {
namespace {

std::string age_text(const nlohmann::json& node) {
  return node.contains("age_s") ? fmt::format("{:.1f} s", node.value("age_s", 0.0)) : "-";
}

std::string rate_text(const nlohmann::json& node) {
  const double rate = node.value("bandwidth_bytes_per_s", 0.0);
  return rate > 0 ? bytes_text(static_cast<uint64_t>(rate)) + "/s" : "-";
}

void print_table(const nlohmann::json& nodes) {
  using Align = Table::Align;
  Table table({{"NODE"},
               {"ADDRESS"},
               {"STATE"},
               {"CORES", Align::kRight},
               {"SPEED", Align::kRight},
               {"LOAD", Align::kRight},
               {"MEM", Align::kRight},
               {"FREE", Align::kRight},
               {"GUESTS", Align::kRight},
               {"LINK", Align::kRight},
               {"AGE", Align::kRight},
               {"KERNEL", Align::kLeft, 24},
               {"VERSION"}});
  for (const auto& node : nodes) {
    const std::string name = node.value("name", "");
    const std::string address = node.value("address", "");
    if (!node.value("up", false) && !node.contains("age_s")) {
      table.add({name, address, top::state_of_node(node), "-", "-", "-", "-", "-", "-", "-", "-",
                 "-", "-"});
      continue;
    }
    table.add(
        {name, address, top::state_of_node(node), std::to_string(node.value("cores", 0)),
         node.contains("speed") ? fmt::format("{:.2f}", node.value("speed", 0) / 1000.0) : "-",
         fmt::format("{:.2f}", node.value("load", 0.0)),
         bytes_text(node.value("memory_bytes", uint64_t{0})),
         bytes_text(node.value("memory_free_bytes", uint64_t{0})),
         std::to_string(node.value("guests", 0)), rate_text(node), age_text(node),
         node.value("kernel", ""), node.value("version", "")});
  }
  std::fputs(table.text().c_str(), stdout);
  for (const auto& node : nodes) {
    if (!node.value("up", false) && !node.value("why", "").empty()) {
      std::printf("%s is down: %s\n", node.value("name", "").c_str(),
                  printable(node.value("why", "")).c_str());
    }
  }
}

struct Options {
  bool as_json = false;
  std::string node;
  std::string field;
};

std::string value_text(const nlohmann::json& value) {
  return value.is_string() ? printable(value.get<std::string>()) : value.dump();
}

// One field, of one node or of each.
ExitCode print_field(const nlohmann::json& nodes, const Options& options) {
  for (const auto& node : nodes) {
    const auto value = node.find(options.field);
    const std::string text = value == node.end() ? "-" : value_text(*value);
    if (options.node.empty()) {
      std::printf("%s %s\n", node.value("name", "").c_str(), text.c_str());
    } else {
      std::printf("%s\n", text.c_str());
    }
  }
  return kOk;
}

ExitCode show(const Options& options) {
  ExitCode code = kOk;
  auto answer = ask({{"op", "nodes"}}, code);
  if (code != kOk) {
    return code;
  }
  for (const auto& warning : answer.value("warnings", nlohmann::json::array())) {
    print_error("warning: " + value_text(warning));
  }
  auto nodes = nlohmann::json::array();
  for (const auto& node : answer["nodes"]) {
    if (options.node.empty() || node.value("name", "") == options.node) {
      nodes.push_back(node);
    }
  }
  if (nodes.empty()) {
    print_error("there is no node '" + options.node + "'");
    return kUnknown;
  }
  if (!options.field.empty()) {
    return print_field(nodes, options);
  }
  if (options.as_json) {
    print_json({{"nodes", nodes}});
  } else {
    print_table(nodes);
  }
  return kOk;
}

}  // namespace

void add_nodes(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("nodes", "List the nodes of the cluster");
  command->add_option("node", options->node, "Only this one");
  command->add_flag("--json", options->as_json, "Print JSON");
  command->add_option("--field", options->field, "Print only this, named as in the JSON");
  command->footer(
      "STATE is what the cluster believes of a node (alive, suspect, dead, left, draining). SPEED "
      "and LOAD\n"
      "are of one core, the reference machine being 1, and of threads that run or want to; LINK "
      "is\n"
      "how fast memory is expected to get there from here, by what moves have achieved, else by "
      "the\n"
      "nominal speeds of the links; AGE is how old the news is. A node that is down is listed "
      "with\n"
      "the reason.\n\n"
      "Examples:\n"
      "  tess nodes --json | jq '.nodes[] | select(.up) | .name'\n"
      "  tess nodes n2 --field load");
  command->callback([options, &exit_code] { exit_code = show(*options); });
}

}  // namespace tess::cli
