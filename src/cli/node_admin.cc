// tess node pending, approve, refuse: machines that ask to join without a token.
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

void print_pending(const json& answer) {
  std::printf("fingerprint of this cluster: %s\n", answer.value("ca", "").c_str());
  Table table({{"NAME"}, {"ADDRESS"}, {"SINCE", Table::Align::kRight}, {"STATE"}, {"KEY"}});
  for (const json& one : answer["pending"]) {
    table.add({one.value("name", ""), one.value("address", ""),
               fmt::format("{} s", one.value("since_s", int64_t{0})),
               one.value("approved", false) ? "approved" : "waits", one.value("key", "")});
  }
  std::fputs(table.text().c_str(), stdout);
}

void add_verdict(CLI::App& node, const char* name, bool refuse, const char* help, int& exit_code) {
  const auto which = std::make_shared<std::string>();
  CLI::App* command = node.add_subcommand(name, help);
  command->add_option("node", *which, "Its name, or how its key begins")->required();
  command->callback([which, refuse, &exit_code] {
    ExitCode code = kOk;
    ask({{"op", "approve"}, {"node", *which}, {"refuse", refuse}}, code);
    exit_code = code;
  });
}

}  // namespace

void add_node_admission(CLI::App& node, int& exit_code) {
  const auto as_json = std::make_shared<bool>(false);
  CLI::App* pending =
      node.add_subcommand("pending", "Show the machines that ask to join (tess join --wait)");
  pending->add_flag("--json", *as_json, "Print JSON");
  pending->callback([as_json, &exit_code] {
    ExitCode code = kOk;
    const json answer = ask({{"op", "pending"}}, code);
    exit_code = code;
    if (code == kOk && *as_json) {
      print_json({{"ca", answer["ca"]}, {"pending", answer["pending"]}});
    } else if (code == kOk) {
      print_pending(answer);
    }
  });
  add_verdict(node, "approve", false, "Let a machine join: compare its key first", exit_code);
  add_verdict(node, "refuse", true, "Send a machine away that asks to join", exit_code);
}

}  // namespace tess::cli
