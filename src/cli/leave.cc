// tess leave: takes this machine out of its cluster.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::cli {
namespace {

struct Options {
  bool remove = false;
  bool force = false;
};

// Asks tessd to end and waits until it has. kNoDaemon: it does not run.
ExitCode end_tessd(const Options& options) {
  auto client = Client::connect();
  if (!client) {
    return kNoDaemon;
  }
  if (!client->send({{"op", "leave"}, {"remove", options.remove}, {"force", options.force}})) {
    return kNoDaemon;
  }
  const auto answer = client->receive();
  if (!answer) {
    return kNoDaemon;
  }
  const ExitCode code = exit_code_for(*answer);
  if (code != kOk) {
    print_error("leave: " + answer->value("error", ""));
    return code;
  }
  std::printf("leaving: guests go home, this node's processes come back\n");
  std::fflush(stdout);
  // Nothing more is said on this connection; its end is tessd's.
  while (client->receive()) {
  }
  return kOk;
}

Result<> remove_files() {
  const std::string state = wire::state_dir();
  for (const char* name : {"node.crt", "node.key", "cluster.key", "charter", "joining.key"}) {
    TESS_TRY(sys::remove_tree(state + "/" + name));
  }
  if (!std::filesystem::exists(state + "/ca.key")) {
    TESS_TRY(sys::remove_tree(state + "/ca.crt"));
  }
  TESS_TRY(sys::remove_tree(wire::config_path()));
  std::printf("removed the certificate, the keys and %s\n", wire::config_path().c_str());
  return {};
}

int leave(const Options& options) {
  const ExitCode code = end_tessd(options);
  if (code != kOk && (code != kNoDaemon || !options.remove)) {
    if (code == kNoDaemon) {
      print_error(
          "leave: tessd does not run: this node has left already, as far as others can "
          "tell; with --remove its certificate goes, too");
    }
    return code;
  }
  if (options.remove) {
    if (const auto removed = remove_files(); !removed) {
      print_error("leave: " + removed.error().message());
      return kFailed;
    }
  }
  std::printf("left%s\n",
              options.remove ? "; to come back: tess join" : "; to come back: start tessd again");
  return kOk;
}

}  // namespace

void add_leave(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("leave", "Take this machine out of its cluster");
  command->add_flag("--remove", options->remove,
                    "For good: remove certificate, keys and configuration");
  command->add_flag("--force", options->force, "Even if this node holds the cluster's CA");
  command->footer(
      "Guests are sent home and this node's processes brought back first. systemd starts tessd "
      "again at the\nnext boot, unless: systemctl disable tessd");
  command->callback([options, &exit_code] { exit_code = leave(*options); });
}

void add_rotate(CLI::App& app, int& exit_code) {
  CLI::App* rotate = app.add_subcommand("rotate", "Change the cluster's keys, without a stop");
  rotate->require_subcommand(1);
  CLI::App* certificate = rotate->add_subcommand(
      "certificate", "This node's certificate, for the same key (happens by itself in time)");
  certificate->callback([&exit_code] {
    ExitCode code = kOk;
    ask({{"op", "rotate_certificate"}}, code);
    exit_code = code;
  });
  CLI::App* ca = rotate->add_subcommand(
      "ca", "The certificate of the cluster's CA, for the same key (happens by itself in time)");
  ca->footer("It reaches all nodes by itself, also those that are away now. Only where the CA is.");
  ca->callback([&exit_code] {
    ExitCode code = kOk;
    ask({{"op", "rotate_ca"}}, code);
    exit_code = code;
  });
  CLI::App* key = rotate->add_subcommand("key", "The key that seals the datagrams between nodes");
  key->footer(
      "All nodes learn the new key, then use it, then forget the old one; a node that is away\n"
      "meanwhile gets it when it is back. Only where the CA is.");
  key->callback([&exit_code] {
    ExitCode code = kOk;
    ask({{"op", "rotate_key"}}, code);
    exit_code = code;
  });
}

void add_node_rename(CLI::App& node, int& exit_code) {
  struct Names {
    std::string old_name;
    std::string new_name;
  };
  const auto names = std::make_shared<Names>();
  CLI::App* command =
      node.add_subcommand("rename", "Give a node another name; its tessd starts anew");
  command->add_option("node", names->old_name, "The name it has")->required();
  command->add_option("name", names->new_name, "The name it gets")->required();
  command->footer(
      "Only where the CA is. The node must be up; its guests go home and its own processes come "
      "back "
      "first.\nWishes of running jobs that name it (--on, --avoid) follow.");
  command->callback([names, &exit_code] {
    ExitCode code = kOk;
    ask({{"op", "rename"}, {"node", names->old_name}, {"name", names->new_name}}, code);
    exit_code = code;
  });
}

void add_node_expel(CLI::App& node, int& exit_code) {
  const auto which = std::make_shared<std::string>();
  CLI::App* command = node.add_subcommand(
      "expel", "Shut a node out for good: its certificate counts no more, the key changes");
  command->add_option("node", *which, "The node's name")->required();
  command->callback([which, &exit_code] {
    ExitCode code = kOk;
    ask({{"op", "expel"}, {"node", *which}}, code);
    exit_code = code;
  });
}

}  // namespace tess::cli
