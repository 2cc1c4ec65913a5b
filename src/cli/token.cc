// tess token: invitations for machines that are to join.
#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/duration.h"
#include "cli/table.h"

namespace tess::cli {
namespace {

using nlohmann::json;

struct Options {
  std::string uses;
  std::string expires;
  bool media = false;
  bool replace = false;
  std::vector<std::string> from;
  std::vector<std::string> addresses;
  bool as_json = false;
};

// "any" is 0.
Result<int64_t> parse_uses(const std::string& text) {
  int64_t uses = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), uses);
  if (text != "any" && (error != std::errc() || end != text.data() + text.size() || uses < 1)) {
    return fail(ErrorKind::kBadInput, "--uses is a number from 1, or 'any'");
  }
  return uses;
}

Result<json> request_of(const Options& options) {
  const std::string uses = !options.uses.empty() ? options.uses : options.media ? "any" : "1";
  const std::string expires = !options.expires.empty() ? options.expires
                              : options.media          ? "30d"
                                                       : "1h";
  TESS_TRY_ASSIGN(const int64_t count, parse_uses(uses));
  TESS_TRY_ASSIGN(const std::chrono::seconds time, parse_duration(expires));
  return json{{"op", "token"},
              {"uses", count},
              {"expires_s", time.count()},
              {"media", options.media},
              {"replace", options.replace},
              {"from", options.from},
              {"addresses", options.addresses}};
}

void make_token(const Options& options, int& exit_code) {
  const auto request = request_of(options);
  if (!request) {
    print_error("token: " + request.error().message());
    exit_code = kUsage;
    return;
  }
  ExitCode code = kOk;
  const json answer = ask(*request, code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  if (options.as_json) {
    print_json({{"token", answer["token"]},
                {"uses", answer["uses"]},
                {"expires_s", answer["expires_s"]},
                {"addresses", answer["addresses"]}});
    return;
  }
  // The token alone goes to standard output, so that it can be piped to `tess join -`.
  std::printf("%s\n", answer.value("token", "").c_str());
  std::fflush(stdout);
  const int64_t uses = answer.value("uses", int64_t{0});
  std::fprintf(stderr, "On the other machine, as root: tess join TOKEN   (good for %s, %s)\n",
               uses == 0   ? "any number of machines"
               : uses == 1 ? "one machine"
                           : fmt::format("{} machines", uses).c_str(),
               duration_text(std::chrono::seconds(answer.value("expires_s", int64_t{0}))).c_str());
}

void list_tokens(bool as_json, int& exit_code) {
  ExitCode code = kOk;
  const json answer = ask({{"op", "token_list"}}, code);
  exit_code = code;
  if (code != kOk) {
    return;
  }
  if (as_json) {
    print_json({{"tokens", answer["tokens"]}});
    return;
  }
  Table table({{"ID"}, {"STATE"}, {"LEFT"}, {"USED"}, {"BY"}, {"EXPIRES"}, {"FROM"}});
  for (const json& token : answer["tokens"]) {
    const int64_t left = token.value("expires_in_s", int64_t{0});
    std::string from;
    for (const json& range : token["from"]) {
      from += (from.empty() ? "" : ",") + range.get<std::string>();
    }
    table.add({token.value("id", ""),
               token.value("usable", false) ? "usable"
               : left <= 0                  ? "expired"
                                            : "used up",
               token["uses_left"].is_null() ? "any" : token["uses_left"].dump(),
               std::to_string(token.value("used", 0)), token.value("used_by", ""),
               left > 0 ? "in " + duration_text(std::chrono::seconds(left)) : "-",
               from.empty() ? "anywhere" : from});
  }
  std::fputs(table.text().c_str(), stdout);
}

}  // namespace

void add_token(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("token", "Invite a machine to join this cluster");
  command->add_option("--uses", options->uses,
                      "For so many machines: a number or 'any' (default 1)");
  command->add_option("--expires", options->expires, "For so long: 30m, 12h, 7d (default 1h)");
  command->add_option("--from", options->from,
                      "Only for machines at these addresses (192.168.1.0/24)");
  command->add_option("--address", options->addresses,
                      "Where machines find this node, if not at its own addresses");
  command->add_flag("--replace", options->replace,
                    "The machine may take the name of a node that is gone");
  command->add_flag("--media", options->media,
                    "For boot media: any number of machines, 30 days, and a machine may come back "
                    "under its name with a new key");
  command->add_flag("--json", options->as_json, "Print JSON");
  command->footer(
      "Only on the node that holds the cluster's CA. Whoever has a token can join: hand it over "
      "like a key.\n\n"
      "Examples:\n"
      "  tess token                                  for one machine, within the hour\n"
      "  tess token --uses 20 --from 192.168.1.0/24  for a room\n"
      "  tess token | ssh root@pc2 tess join -       straight there\n"
      "  tess token list\n"
      "  tess token revoke ID");
  command->require_subcommand(0, 1);
  CLI::App* list = command->add_subcommand("list", "Show the tokens that were made");
  const auto list_json = std::make_shared<bool>(false);
  list->add_flag("--json", *list_json, "Print JSON");
  list->callback([list_json, &exit_code] { list_tokens(*list_json, exit_code); });
  CLI::App* revoke = command->add_subcommand("revoke", "Make a token void");
  const auto id = std::make_shared<std::string>();
  revoke->add_option("id", *id, "The token's id, or how it begins")->required();
  revoke->callback([id, &exit_code] {
    ExitCode code = kOk;
    ask({{"op", "token_revoke"}, {"id", *id}}, code);
    exit_code = code;
  });
  command->callback([command, options, &exit_code] {
    if (command->get_subcommands().empty()) {
      make_token(*options, exit_code);
    }
  });
}

}  // namespace tess::cli
