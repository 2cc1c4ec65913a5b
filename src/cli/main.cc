// tess: the command line of Tessera. See docs/man/tess.1.
#include <CLI/CLI.hpp>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/log.h"
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
    "  tess ps -a -f                 watch where everything runs\n\n"
    "`tess COMMAND --help` tells more. Exit status: 0 done, 1 failed, 2 wrong usage, 3 tessd "
    "cannot be\n"
    "asked, 4 not permitted, 5 no such process or node, 6 refused, 7 not available now.";

}  // namespace

int main(int argc, char** argv) {
  using namespace tess::cli;
  if (argc > 1 && std::strcmp(argv[1], "run") == 0) {
    return run_command(std::vector<std::string>(argv + 2, argv + argc));
  }
  if (argc > 2 && std::strcmp(argv[1], "batch") == 0 && std::strcmp(argv[2], "submit") == 0) {
    return submit_command(std::vector<std::string>(argv + 3, argv + argc));
  }
  if (argc > 1 && std::strcmp(argv[1], "lab") == 0) {
    tess::log::start("tess");
    return lab_command(argc - 1, argv + 1);
  }
  CLI::App app{
      "Tessera: several machines as one computer. Processes move between nodes while they run."};
  app.footer(kFooter);
  app.set_version_flag("--version", std::string("tess ") + tess::node::kVersion);
  app.require_subcommand(1);
  int exit_code = kOk;
  add_run(app);
  add_migrate(app, exit_code);
  add_ps(app, exit_code);
  add_nodes(app, exit_code);
  add_why(app, exit_code);
  add_bring_home(app, exit_code);
  add_log(app, exit_code);
  add_best(app, exit_code);
  add_node(app, exit_code);
  add_set(app, exit_code);
  add_batch(app, exit_code);
  add_init(app, exit_code);
  add_token(app, exit_code);
  add_join(app, exit_code);
  add_lab(app);
  add_version(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  return exit_code;
}
