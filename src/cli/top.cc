// tess top: the whole cluster live on one screen.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/client.h"
#include "cli/commands.h"
#include "cli/top_feed.h"
#include "cli/top_layout.h"
#include "cli/top_screen.h"
#include "cli/users.h"

namespace tess::cli {
namespace {

constexpr size_t kWidth = 80;

struct Options {
  bool once = false;
  bool as_json = false;
  std::string sort = "cpu";
  std::string filter;
  double interval = 1;
  size_t width = 0;
};

size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kWidth;
}

ExitCode print_once(const Options& options) {
  const auto picture = top::fetch_picture();
  if (!picture) {
    print_error(picture.error().message());
    return kNoDaemon;
  }
  top::View view;
  view.sort = top::sort_of(options.sort);
  view.filter = options.filter;
  top::Notice notice;
  const std::time_t now = std::time(nullptr);
  char clock[16] = "";
  std::tm parts{};
  std::strftime(clock, sizeof(clock), "%H:%M:%S", ::localtime_r(&now, &parts));
  notice.time = clock;
  const size_t width = options.width != 0 ? options.width : terminal_width();
  for (const top::Line& line : top::lay_out(*picture, view, notice, width, 0)) {
    std::puts(line.text().c_str());
  }
  return kOk;
}

ExitCode print_figures() {
  ExitCode code = kOk;
  auto nodes = ask({{"op", "nodes"}}, code);
  if (code != kOk) {
    return code;
  }
  auto processes = ask({{"op", "ps"}, {"all", true}}, code);
  if (code != kOk) {
    return code;
  }
  add_users(processes["processes"]);
  print_json(
      {{"node", nodes["node"]}, {"nodes", nodes["nodes"]}, {"processes", processes["processes"]}});
  return kOk;
}

ExitCode run(const Options& options) {
  if (options.as_json) {
    return print_figures();
  }
  if (options.once) {
    return print_once(options);
  }
  const auto interval = std::chrono::milliseconds(static_cast<long>(options.interval * 1000));
  const auto done = top::run_screen(top::sort_of(options.sort), options.filter, interval);
  if (!done) {
    print_error(done.error().message());
    return kFailed;
  }
  return kOk;
}

}  // namespace

void add_top(CLI::App& app, int& exit_code) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("top", "Watch the cluster: nodes and processes, live, with keys to act");
  command->add_flag("--once", options->once, "Print one picture as plain text");
  command->add_flag("--json", options->as_json, "Print the figures of one picture as JSON");
  command
      ->add_option("-s,--sort", options->sort,
                   "Order: cpu, mem, time, pid, where, home, moves or command")
      ->check([](const std::string& text) {
        return top::sort_of(text) != top::Sort::kCount
                   ? std::string()
                   : "there is no column '" + text + "' to order by";
      });
  command->add_option("--filter", options->filter, "Only rows with this text");
  command->add_option("--width", options->width, "With --once: so many columns of text")
      ->check(CLI::Range(20, 1000));
  command->add_option("-d,--delay", options->interval, "Seconds between two pictures")
      ->check(CLI::Range(0.2, 3600.0))
      ->capture_default_str();
  command->footer(
      "Keys: h tells all of them; m moves the selected process, k sends it a signal, w tells why "
      "it "
      "is\n"
      "where it is, / filters, s orders, d and u drain and undrain a node, q ends.\n\n"
      "Examples:\n"
      "  tess top                      the whole cluster, live\n"
      "  tess top --once --sort mem    for a terminal that cannot do more, or a file");
  command->callback([options, &exit_code] { exit_code = run(*options); });
}

}  // namespace tess::cli
