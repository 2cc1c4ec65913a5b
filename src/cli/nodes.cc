#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/table.h"

namespace tess::cli {
namespace {

std::string age_text(const nlohmann::json& node) {
  return node.contains("age_s") ? fmt::format("{:.1f} s", node.value("age_s", 0.0)) : "-";
}

std::string state_text(const nlohmann::json& node) {
  const std::string state = node.value("state", "unknown");
  if (node.value("draining", false) && state == "alive") {
    return "draining";
  }
  if (state == "unknown") {
    return node.value("up", false) ? "up" : "down";
  }
  // Gossip hears it, but it cannot be asked anything.
  return state == "alive" && !node.value("up", false) ? "no answer" : state;
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
               {"AGE", Align::kRight},
               {"KERNEL", Align::kLeft, 24},
               {"VERSION"}});
  for (const auto& node : nodes) {
    const std::string name = node.value("name", "");
    const std::string address = node.value("address", "");
    if (!node.value("up", false) && !node.contains("age_s")) {
      table.add({name, address, state_text(node), "-", "-", "-", "-", "-", "-", "-", "-", "-"});
      continue;
    }
    table.add(
        {name, address, state_text(node), std::to_string(node.value("cores", 0)),
         node.contains("speed") ? fmt::format("{:.2f}", node.value("speed", 0) / 1000.0) : "-",
         fmt::format("{:.2f}", node.value("load", 0.0)),
         bytes_text(node.value("memory_bytes", uint64_t{0})),
         bytes_text(node.value("memory_free_bytes", uint64_t{0})),
         std::to_string(node.value("guests", 0)), age_text(node), node.value("kernel", ""),
         node.value("version", "")});
  }
  std::fputs(table.text().c_str(), stdout);
  for (const auto& node : nodes) {
    if (!node.value("up", false) && !node.value("why", "").empty()) {
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
      "STATE is what the cluster believes of a node (alive, suspect, dead, left, draining). SPEED "
      "and LOAD\n"
      "are of one core, the reference machine being 1, and of threads that run or want to; AGE is "
      "how old\n"
      "that news is. A node that is down is listed with the reason.\n\n"
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
