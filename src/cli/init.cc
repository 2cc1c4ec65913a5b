#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/host_name.h"
#include "net/tls_stream.h"
#include "node/config.h"
#include "node/identity.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::cli {
namespace {

struct Options {
  std::string name;
  std::string listen = "0.0.0.0:7117";
  std::string out;
};

bool exists(const std::string& path) {
  return std::filesystem::exists(path);
}

std::string configuration(const Options& options) {
  return fmt::format(
      "# This node of a Tessera cluster: see tessera.toml(5). tessd reads it at start and at "
      "SIGHUP.\n"
      "name = \"{}\"\n"
      "listen = \"{}\"\n"
      "\n"
      "# Nodes that are found neither by multicast nor by those who have joined here:\n"
      "# [[node]]\n"
      "# name = \"n2\"\n"
      "# address = \"192.168.1.2:7117\"\n",
      options.name, options.listen);
}

// A certificate for another machine, made with this machine's CA.
Result<> issue_for_other(const Options& options, const std::string& state) {
  if (!exists(state + "/ca.key")) {
    return fail(ErrorKind::kNotPossible,
                "{}/ca.key is not here: certificates are issued where the cluster was made, or run "
                "`tess init` here first to make one",
                state);
  }
  TESS_TRY(node::issue_node_certificate(state, options.name, options.out));
  std::printf(
      "certificate for node %s: %s/{ca.crt,node.crt,node.key,cluster.key}\n"
      "copy the four files to %s on that machine (the keys are secret), then run there: tess init "
      "--name %s\n",
      options.name.c_str(), options.out.c_str(), state.c_str(), options.name.c_str());
  return {};
}

Result<> make_certificate(const Options& options, const std::string& state) {
  if (!exists(state + "/ca.crt")) {
    TESS_TRY(node::make_cluster_ca(state));
    std::printf("made a new cluster: its CA is %s/ca.crt, the key %s/ca.key (keep it safe)\n",
                state.c_str(), state.c_str());
  }
  if (exists(state + "/ca.key")) {
    TESS_TRY(node::ensure_cluster_key(state));
  }
  if (exists(state + "/node.crt")) {
    const auto context = net::TlsContext::load(state);
    if (context && context->node_name() == options.name) {
      std::printf("kept the certificate of node %s: %s/node.crt\n", options.name.c_str(),
                  state.c_str());
      return {};
    }
  }
  if (!exists(state + "/ca.key")) {
    return fail(
        ErrorKind::kNotPossible,
        "{0} has the cluster's ca.crt but no certificate for node '{1}', and no ca.key to "
        "make one; run `tess init --name {1} --out DIR` on the node that has ca.key and copy "
        "the four files here",
        state, options.name);
  }
  TESS_TRY(node::issue_node_certificate(state, options.name, state));
  std::printf("made the certificate of node %s: %s/node.crt\n", options.name.c_str(),
              state.c_str());
  return {};
}

Result<> init(const Options& options) {
  TESS_TRY(node::check_node_name(options.name));
  TESS_TRY(net::Endpoint::parse(options.listen, node::kDefaultPort));
  const std::string state = wire::state_dir();
  if (!options.out.empty()) {
    return issue_for_other(options, state);
  }
  const std::string path = wire::config_path();
  const bool configured = exists(path);
  if (configured) {
    TESS_TRY_ASSIGN(const node::Config config, node::load_config(path));
    if (config.name != options.name) {
      return fail(ErrorKind::kNotPossible, "{} names this node '{}', not '{}': change it there",
                  path, config.name, options.name);
    }
  }
  TESS_TRY(make_certificate(options, state));
  if (configured) {
    std::printf("kept %s\n", path.c_str());
  } else {
    TESS_TRY(sys::make_directories(std::filesystem::path(path).parent_path()));
    TESS_TRY(sys::replace_file(path, configuration(options), 0644));
    std::printf("made %s\n", path.c_str());
  }
  std::printf("next: start tessd (systemctl enable --now tessd), then look at `tess nodes`\n");
  if (exists(state + "/ca.key")) {
    std::printf("then, for each other machine: `tess token` here, `tess join TOKEN` there\n");
  }
  return {};
}

}  // namespace

void add_init(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  options->name = host_name();
  CLI::App* command =
      app.add_subcommand("init", "Make this machine a node: certificates and configuration");
  command->add_option("--name", options->name, "The node's name")->capture_default_str();
  command->add_option("--listen", options->listen, "Where tessd listens for other nodes")
      ->capture_default_str();
  command->add_option(
      "--out", options->out,
      "Issue a certificate for another machine, called --name, into this directory");
  command->footer(
      "Makes the cluster's CA if there is none yet. Keeps what is there already.\n\n"
      "Examples:\n"
      "  tess init                           the first node; the others: tess token, tess join\n"
      "  tess init --name n2 --out /root/n2  on the first node: files for node n2\n"
      "  tess init --name n2                 on n2, after copying them to /var/lib/tessera");
  command->callback([options, &exit_code] {
    const auto done = init(*options);
    if (!done) {
      print_error("init: " + done.error().message());
    }
    exit_code = done ? kOk : kFailed;
  });
}

}  // namespace tess::cli
