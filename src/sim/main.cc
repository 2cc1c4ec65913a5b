// tess-sim: runs one scenario of a simulated cluster and prints its figures as JSON. Exit status 1
// if a promise was broken; then the command that shows it again is on standard error.
#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "sim/scenario.h"

int main(int argc, char** argv) {
  tess::sim::ScenarioOptions options;
  bool no_knock = false;
  bool still = false;
  CLI::App app("Runs one scenario of a simulated cluster.");
  std::string names;
  for (const auto& [name, what] : tess::sim::scenarios()) {
    names += "\n  " + name + ": " + what;
  }
  app.add_option("scenario", options.name, "one of:" + names)->required();
  app.add_option("--nodes", options.nodes);
  app.add_option("--seed", options.seed, "the same seed gives the same history");
  app.add_option("--trials", options.trials);
  app.add_option("--seconds", options.seconds);
  app.add_option("--affected", options.affected, "nodes that starve or die");
  app.add_option("--share", options.share, "of the CPU they want");
  app.add_option("--loss", options.loss, "of each datagram, 0 to 1");
  app.add_option("--latency", options.latency, "one way, microseconds");
  app.add_flag("--no-knock", no_knock, "suspects' kernels cannot be asked");
  app.add_flag("--still", still, "loads do not change");
  CLI11_PARSE(app, argc, argv);
  options.knock = !no_knock;
  options.load_changes = !still;

  const auto began = std::chrono::steady_clock::now();
  const auto result = tess::sim::run_scenario(options);
  if (!result) {
    std::cerr << "tess-sim: " << result.error().message() << "\n";
    return 2;
  }
  nlohmann::ordered_json out;
  out["scenario"] = options.name;
  out["nodes"] = options.nodes;
  out["seed"] = options.seed;
  out["loss"] = options.loss;
  for (const auto& [name, value] : result->figures) {
    out["figures"][name] = value;
  }
  out["broken"] = result->broken;
  out["wall_s"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  out["rerun"] = tess::sim::rerun_command(options);
  std::cout << out.dump(2) << std::endl;
  if (!result->broken.empty()) {
    std::cerr << "broken: " << result->broken.front() << "\n";
    std::cerr << "again: " << tess::sim::rerun_command(options) << "\n";
    return 1;
  }
  return 0;
}
