#include <CLI/CLI.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#ifdef TESS_HAVE_LAB
#include "lab/lab.h"
#endif

namespace tess::cli {

int lab_command(int argc, char** argv) {
#ifdef TESS_HAVE_LAB
  static char name[] = "tess lab";
  argv[0] = name;
  return lab::main(argc, argv);
#else
  (void)argc;
  (void)argv;
  print_error("this tess was built without the lab");
  return kFailed;
#endif
}

void add_lab(CLI::App& app) {
  app.add_subcommand("lab", "A cluster of virtual nodes on this machine (tess lab --help)")
      ->allow_extras();
}

}  // namespace tess::cli
