#include "node/version.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "wire/version.h"

namespace tess::cli {

void add_version(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("version", "Print the versions of tess and tessd");
  command->callback([&exit_code] {
    std::printf("tess %s (protocol %u)\n", node::kVersion, wire::protocol_version());
    auto client = Client::connect();
    if (!client || !client->send({{"op", "ping"}})) {
      std::printf("tessd: not running\n");
      exit_code = kOk;
      return;
    }
    if (const auto answer = client->receive()) {
      std::printf("tessd %s (protocol %u) on node %s\n", answer->value("version", "?").c_str(),
                  answer->value("protocol", 0U), answer->value("node", "?").c_str());
    }
    exit_code = kOk;
  });
}

}  // namespace tess::cli
