// tess join: makes this machine a node of a cluster that is there already.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/host_name.h"
#include "node/identity.h"
#include "node/join_client.h"
#include "sys/files.h"
#include "sys/process.h"
#include "wire/agent_process.h"

namespace tess::cli {
namespace {

struct Options {
  std::string token;
  std::string token_file;
  std::string name;
  std::string listen = "0.0.0.0:7117";
  std::string wait_at;
  std::string ca;
  bool start = false;
};

// From the command line, a file, or standard input ("-").
Result<std::string> read_token(const Options& options) {
  std::string text = options.token;
  if (!options.token_file.empty()) {
    TESS_TRY_ASSIGN(text, sys::read_file(options.token_file, 64 << 10));
  } else if (text == "-") {
    std::getline(std::cin, text);
  }
  const size_t first = text.find_first_not_of(" \t\r\n");
  const size_t last = text.find_last_not_of(" \t\r\n");
  if (first == std::string::npos) {
    return fail(ErrorKind::kBadInput,
                "the token is missing: `tess token` prints one on the node that holds the CA");
  }
  return text.substr(first, last - first + 1);
}

std::string grouped(const net::KeyPrint& print) {
  const std::string digits = node::print_text(print);
  std::string text;
  for (size_t i = 0; i < digits.size(); i += 8) {
    text += (i > 0 ? " " : "") + digits.substr(i, 8);
  }
  return text;
}

bool confirm(const net::Endpoint& server, const net::KeyPrint& ca) {
  std::fprintf(stderr,
               "The cluster at %s has the fingerprint\n  %s\nCompare it with what `tess node "
               "pending` shows on the node that holds the CA.\n",
               server.to_string().c_str(), grouped(ca).c_str());
  if (::isatty(STDIN_FILENO) != 1) {
    print_error("join: nobody is here to compare it: give it with --ca FINGERPRINT");
    return false;
  }
  std::fprintf(stderr, "Is it the same? [y/N] ");
  std::string line;
  std::getline(std::cin, line);
  return line == "y" || line == "Y" || line == "yes";
}

Result<node::JoinWish> wish_of(const Options& options) {
  node::JoinWish wish;
  wish.name = options.name;
  wish.state_dir = wire::state_dir();
  if (!options.wait_at.empty()) {
    TESS_TRY_ASSIGN(auto server, net::Endpoint::parse(options.wait_at, node::kDefaultPort));
    wish.servers.push_back(std::move(server));
    if (!options.ca.empty()) {
      TESS_TRY_ASSIGN(wish.ca, node::parse_print(options.ca));
    }
    wish.believes = [known = std::optional<net::KeyPrint>()](const net::Endpoint& at,
                                                             const net::KeyPrint& ca) mutable {
      if (!known && confirm(at, ca)) {
        known = ca;
      }
      return known == ca;
    };
    wish.on_waiting = [](const std::string& at, const net::KeyPrint& key) {
      std::fprintf(stderr,
                   "waiting for approval at %s; the key of this machine is\n  %s\nthere: `tess "
                   "node pending`, compare, `tess node approve`\n",
                   at.c_str(), grouped(key).c_str());
    };
    return wish;
  }
  TESS_TRY_ASSIGN(const std::string text, read_token(options));
  TESS_TRY_ASSIGN(node::JoinToken token, node::JoinToken::parse(text));
  wish.servers = token.addresses;
  wish.ca = token.ca;
  wish.token = std::move(token);
  return wish;
}

// The name in the configuration counts if there is one.
Result<bool> check_here(Options& options, bool name_given) {
  TESS_TRY(net::Endpoint::parse(options.listen, node::kDefaultPort));
  const std::string state = wire::state_dir();
  if (node::is_node(state)) {
    return fail(ErrorKind::kNotPossible,
                "this machine is a node already ({}/node.crt): `tess leave --remove` first", state);
  }
  if (!std::filesystem::exists(wire::config_path())) {
    TESS_TRY(node::check_node_name(options.name));
    return false;
  }
  TESS_TRY_ASSIGN(const node::Config config, node::load_config(wire::config_path()));
  if (name_given && config.name != options.name) {
    return fail(ErrorKind::kNotPossible, "{} names this node '{}', not '{}': change it there",
                wire::config_path(), config.name, options.name);
  }
  options.name = config.name;
  return true;
}

Result<> start_tessd() {
  sys::SpawnOptions options;
  options.argv = {"systemctl", "enable", "--now", "tessd"};
  TESS_TRY(sys::run_tool(options));
  std::printf("tessd is started\n");
  return {};
}

Result<> join(Options options, bool name_given) {
  TESS_TRY_ASSIGN(const bool configured, check_here(options, name_given));
  TESS_TRY_ASSIGN(const node::JoinWish wish, wish_of(options));
  TESS_TRY_ASSIGN(const node::Joined joined, node::join_cluster(wish));
  std::printf("joined as node %s: the cluster's fingerprint is %s\n", joined.name.c_str(),
              node::print_text(joined.ca).c_str());
  const std::string path = wire::config_path();
  if (configured) {
    std::printf("kept %s\n", path.c_str());
  } else {
    TESS_TRY(sys::make_directories(std::filesystem::path(path).parent_path()));
    TESS_TRY(sys::replace_file(path, node::joined_config(joined.name, options.listen, joined.seeds),
                               0644));
    std::printf("made %s\n", path.c_str());
  }
  if (options.start) {
    return start_tessd();
  }
  std::printf("next: start tessd (systemctl enable --now tessd), then look at `tess nodes`\n");
  return {};
}

int exit_code_of(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::kBadInput:
      return kUsage;
    case ErrorKind::kNotPossible:
      return kRefused;
    case ErrorKind::kRetry:
    case ErrorKind::kDisconnected:
      return kUnavailable;
    case ErrorKind::kFailed:
      break;
  }
  return kFailed;
}

}  // namespace

void add_join(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  options->name = host_name();
  CLI::App* command = app.add_subcommand("join", "Make this machine a node of a cluster");
  CLI::Option* token = command->add_option(
      "token", options->token, "What `tess token` has printed; '-': read it from standard input");
  CLI::Option* file =
      command->add_option("--token-file", options->token_file, "Read the token from this file")
          ->excludes(token);
  CLI::Option* name =
      command->add_option("--name", options->name, "The node's name")->capture_default_str();
  command->add_option("--listen", options->listen, "Where tessd listens for other nodes")
      ->capture_default_str();
  CLI::Option* wait = command
                          ->add_option("--wait", options->wait_at,
                                       "Without a token: ask at this ADDRESS and wait until a "
                                       "person approves (tess node approve)")
                          ->excludes(token)
                          ->excludes(file);
  command->add_option("--ca", options->ca, "The fingerprint that the cluster must have")
      ->needs(wait);
  command->add_flag("--start", options->start, "Start tessd, now and at each boot");
  command->footer(
      "Makes this machine's key (which stays here), asks the cluster for a certificate and writes "
      "the\n"
      "configuration. May be repeated if it was interrupted.\n\n"
      "Examples:\n"
      "  tess join tess1-...                     with a token\n"
      "  tess join - < /root/token               not to be seen in `ps`\n"
      "  tess join --wait 192.168.1.1            a person approves there");
  command->callback([options, name, &exit_code] {
    const auto done = join(*options, name->count() > 0);
    if (!done) {
      print_error("join: " + done.error().message());
    }
    exit_code = done ? kOk : exit_code_of(done.error());
  });
}

}  // namespace tess::cli
