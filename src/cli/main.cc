// tess: the command line of Tessera. See docs/man/tess.1.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/log.h"
#include "cli/ancestors.h"
#include "cli/client.h"
#include "cli/commands.h"
#include "cli/exit_codes.h"
#include "node/version.h"

namespace {

constexpr const char* kFooter =
    "Start here:\n"
    "  tess lab up 4                 a cluster of four virtual nodes on this machine\n"
    "  tess nodes                    who is there\n"
    "  tess run --on n2 xz -9 FILE   start a command on node n2\n"
    "  tess migrate PID n3           move a running process\n"
    "  tess top                      watch the cluster, live\n\n"
    "`tess COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 wrong usage, 3 tessd "
    "cannot be\n"
    "asked, 4 not permitted, 5 no such process or node, 6 refused, 7 not available now.";

}  // namespace

namespace tess::cli {
namespace {

int run_tess(std::vector<std::string> words) {
  if (!words.empty() && words[0] == "run") {
    return run_command(std::vector<std::string>(words.begin() + 1, words.end()));
  }
  if (words.size() > 1 && words[0] == "batch" && words[1] == "submit") {
    return submit_command(std::vector<std::string>(words.begin() + 2, words.end()));
  }
  CLI::App app{
      "Tessera: several machines as one computer. Processes move between nodes while they run."};
  app.name("tess");
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("tess ") + node::kVersion);
  app.require_subcommand(1);
  int exit_code = kOk;
  add_run(app);
  add_migrate(app, exit_code);
  add_ps(app, exit_code);
  add_nodes(app, exit_code);
  add_top(app, exit_code);
  add_why(app, exit_code);
  add_kill(app, exit_code);
  add_bring_home(app, exit_code);
  add_log(app, exit_code);
  add_best(app, exit_code);
  add_node(app, exit_code);
  add_set(app, exit_code);
  add_manage(app, exit_code);
  add_batch(app, exit_code);
  add_init(app, exit_code);
  add_token(app, exit_code);
  add_join(app, exit_code);
  add_leave(app, exit_code);
  add_rotate(app, exit_code);
  add_lab(app);
  add_version(app, exit_code);
  std::reverse(words.begin(), words.end());  // as CLI11 wants it
  try {
    app.parse(words);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  return exit_code;
}

// Replaces this process by a program; "tess" is this very file.
int execute(std::vector<std::string> words) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::vector<char*> argv;
  for (std::string& word : words) {
    if (word == "tess" && !error) {
      word = self.string();
    }
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int failure = errno;
  print_error(words[0] + ": " + std::strerror(failure));
  return failure == ENOENT ? kNotFound : kNotExecutable;
}

int run_ancestor(const std::string& name, const std::vector<std::string>& arguments) {
  auto translated = translate_ancestor(name, arguments, ask_tessd());
  if (!translated) {
    print_error(translated.error().message());
    return kUsage;
  }
  return translated->program ? execute(std::move(translated->words))
                             : run_tess(std::move(translated->words));
}

}  // namespace
}  // namespace tess::cli

int main(int argc, char** argv) {
  using namespace tess::cli;
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "tess";
  if (is_ancestor(name)) {
    return run_ancestor(name, words);
  }
  if (!words.empty() && words[0] == "lab") {
    tess::log::start("tess");
    return lab_command(argc - 1, argv + 1);
  }
  return run_tess(words);
}
