#include "lab/lab.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstring>

#include "base/log.h"
#include "lab/commands.h"
#include "lab/exec.h"
#include "node/identity.h"
#include "sys/files.h"

namespace tess::lab {
namespace {

constexpr int kUsageStatus = 2;

int report(const Result<>& result) {
  if (result) {
    return 0;
  }
  std::fprintf(stderr, "tess lab: %s\n", result.error().message().c_str());
  return result.error().kind() == ErrorKind::kBadInput ? kUsageStatus : 1;
}

// One CA for the lab. Its key goes to the first node, the server, and is nowhere else.
Result<> make_identities(const std::string& base, const std::vector<std::string>& node_names) {
  const std::string ca = base + "/ca";
  TESS_TRY(sys::make_directories(base, 0700));
  TESS_TRY(node::make_cluster_ca(ca));
  for (const std::string& name : node_names) {
    TESS_TRY(sys::make_directories(base + "/" + name, 0700));
    TESS_TRY(node::issue_node_certificate(ca, name, base + "/" + name));
  }
  if (!node_names.empty()) {
    TESS_TRY(sys::copy_file(ca + "/ca.key", base + "/" + node_names.front() + "/ca.key"));
  }
  return sys::remove_tree(ca);
}

struct UpOptions {
  Spec spec;
  std::string memory;
  std::string rate;
  bool as_json = false;
};

Result<> run_up(UpOptions options) {
  if (!options.memory.empty()) {
    TESS_TRY_ASSIGN(options.spec.memory_bytes, parse_bytes(options.memory));
  }
  if (!options.rate.empty()) {
    TESS_TRY_ASSIGN(options.spec.rate_bits, parse_bits(options.rate));
  }
  return up(std::move(options.spec), options.as_json, make_identities);
}

// exec is read by hand: everything after the node's name belongs to the command, dashes and all.
int run_exec(int argc, char** argv) {
  std::string name = "lab";
  ExecOptions options;
  int i = 0;
  for (; i < argc && argv[i][0] == '-'; ++i) {
    if (std::strcmp(argv[i], "--host-files") == 0) {
      options.host_files = true;
    } else if (std::strcmp(argv[i], "--name") == 0 && i + 1 < argc) {
      name = argv[++i];
    } else if (std::strncmp(argv[i], "--name=", 7) == 0) {
      name = argv[i] + 7;
    } else {
      std::fprintf(stderr, "tess lab exec: unknown option %s\n", argv[i]);
      return kUsageStatus;
    }
  }
  if (argc - i < 2) {
    std::fprintf(stderr, "usage: tess lab exec [--name LAB] [--host-files] NODE COMMAND...\n");
    return kUsageStatus;
  }
  const std::string node_name = argv[i];
  options.command.assign(argv + i + 1, argv + argc);
  const auto state = live_lab(name);
  if (!state) {
    std::fprintf(stderr, "tess lab exec: %s\n", state.error().message().c_str());
    return 1;
  }
  const NodeState* node = state->node(node_name);
  if (node == nullptr) {
    std::fprintf(stderr, "tess lab exec: lab '%s' has no node '%s' (n1 to n%d)\n", name.c_str(),
                 node_name.c_str(), state->spec.node_count);
    return kUsageStatus;
  }
  const auto result = exec_in_node(*node, options);
  if (!result) {
    std::fprintf(stderr, "tess lab exec: %s\n", result.error().message().c_str());
    return 1;
  }
  return *result;
}

CLI::App* add_command(CLI::App& app, const char* name, const char* what, std::string& lab_name) {
  CLI::App* command = app.add_subcommand(name, what);
  command->add_option("--name", lab_name, "which lab")->capture_default_str();
  return command;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc >= 2 && std::strcmp(argv[1], "exec") == 0) {
    return run_exec(argc - 2, argv + 2);
  }
  CLI::App app("a whole cluster of virtual nodes on this machine", argv[0]);
  app.require_subcommand(1);
  UpOptions up_options;
  std::string node_name;
  std::string& name = up_options.spec.name;
  double cpus = 0;

  CLI::App* up_command = add_command(app, "up", "make a lab, start tessd in every node", name);
  up_command->add_option("nodes", up_options.spec.node_count, "how many nodes")
      ->capture_default_str();
  up_command->add_option("--cpus", cpus, "CPUs of each node, for example 0.5");
  up_command->add_option("--memory", up_options.memory, "memory of each node, for example 512M");
  up_command->add_flag("!--no-balance", up_options.spec.balance,
                       "processes move only when somebody says so");
  up_command->add_option("--rate", up_options.rate, "rate of each node's link, for example 1gbit");
  up_command->add_option("--tessd", up_options.spec.tessd, "start this program instead of tessd");
  up_command->add_flag("--json", up_options.as_json, "print the status as JSON");
  CLI::App* down_command = add_command(app, "down", "end a lab; nothing is left", name);
  CLI::App* status_command = add_command(app, "status", "the nodes of a lab", name);
  status_command->add_flag("--json", up_options.as_json, "as JSON");
  CLI::App* list_command = app.add_subcommand("list", "the labs on this machine");
  list_command->add_flag("--json", up_options.as_json, "as JSON");
  CLI::App* start_command = add_command(app, "start", "start tessd in a node again", name);
  CLI::App* stop_command = add_command(app, "stop", "stop tessd in a node, in order", name);
  CLI::App* kill_command = add_command(
      app, "kill", "end everything in a node at once; its kernel ends its connections", name);
  for (CLI::App* command : {start_command, stop_command, kill_command}) {
    command->add_option("node", node_name, "which node, for example n2")->required();
  }
  // Only for the help text: run_exec reads it.
  app.add_subcommand("exec",
                     "run a command in a node: exec [--name LAB] [--host-files] NODE COMMAND...");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kUsageStatus;
  }
  if (up_command->count("--cpus") > 0) {
    up_options.spec.cpus = cpus;
  }
  if (up_command->parsed()) {
    return report(run_up(std::move(up_options)));
  }
  if (down_command->parsed()) {
    return report(down(name));
  }
  if (status_command->parsed()) {
    return report(status(name, up_options.as_json));
  }
  if (list_command->parsed()) {
    return report(list(up_options.as_json));
  }
  const NodeAction action = start_command->parsed()  ? NodeAction::kStart
                            : stop_command->parsed() ? NodeAction::kStop
                                                     : NodeAction::kKill;
  return report(act_on_node(name, node_name, action));
}

}  // namespace tess::lab
