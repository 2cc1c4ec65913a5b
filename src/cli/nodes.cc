#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace tess::cli {
namespace {

void print_table(const nlohmann::json& nodes) {
  using Align = Table::Align;
  Table table({{"NODE"},
               {"ADDRESS"},
               {"STATE"},
               {"CORES", Align::kRight},
               {"LOAD", Align::kRight},
               {"MEM", Align::kRight},
               {"FREE", Align::kRight},
               {"GUESTS", Align::kRight},
               {"KERNEL", Align::kLeft, 24},
               {"VERSION"}});
  for (const auto& node : nodes) {
    const std::string name = node.value("name", "");
    const std::string address = node.value("address", "");
    if (!node.value("up", false)) {
      table.add({name, address, "down", "-", "-", "-", "-", "-", "-", "-"});
      continue;
    }
    table.add({name, address, "up", std::to_string(node.value("cores", 0)),
               fmt::format("{:.2f}", node.value("load", 0.0)),
               bytes_text(node.value("memory_bytes", uint64_t{0})),
               bytes_text(node.value("memory_free_bytes", uint64_t{0})),
               std::to_string(node.value("guests", 0)), node.value("kernel", ""),
               node.value("version", "")});
  }
  std::fputs(table.text().c_str(), stdout);
  for (const auto& node : nodes) {
    if (!node.value("up", false)) {
      std::printf("%s is down: %s\n", node.value("name", "").c_str(),
                  printable(node.value("why", "")).c_str());
    }
  }
}

}  // namespace

void add_nodes(CLI::App& app, int& exit_code) {
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("nodes", "List the nodes of the cluster");
  command->add_flag("--json", *as_json, "Print JSON");
  command->footer(
      "A node that is down is listed with the reason.\n\n"
      "Example:\n"
      "  tess nodes --json | jq '.nodes[] | select(.up) | .name'");
  command->callback([as_json, &exit_code] {
    ExitCode code = kOk;
    auto answer = ask({{"op", "nodes"}}, code);
    exit_code = code;
    if (code != kOk) {
      return;
    }
    if (*as_json) {
      print_json({{"nodes", answer["nodes"]}});
    } else {
      print_table(answer["nodes"]);
    }
  });
}

}  // namespace tess::cli
