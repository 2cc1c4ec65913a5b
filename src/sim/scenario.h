// Scenarios: what is asked of a simulated cluster, each a function of its options and a seed that
// gives figures and the promises that were broken. The same ones run small in the tests and large
// in bench/sim.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sim/world.h"

namespace tess::sim {

struct ScenarioOptions {
  std::string name;
  unsigned nodes = 256;
  uint64_t seed = 1;
  unsigned trials = 5;     // deaths, joins
  unsigned seconds = 60;   // of the steady ones
  unsigned affected = 32;  // nodes that starve, or die at once
  double share = 0.1;      // of the CPU that they used before
  double loss = 0;
  SimTime latency = 150;
  bool knock = true;
  bool load_changes = true;
};

struct ScenarioResult {
  std::vector<std::pair<std::string, double>> figures;
  std::vector<std::string> broken;  // promises, in words; empty if all held
};

// Their names, with a line each about what they do.
std::vector<std::pair<std::string, std::string>> scenarios();
// kBadInput for an unknown name or impossible options.
Result<ScenarioResult> run_scenario(const ScenarioOptions& options);
// What to type to see this again.
std::string rerun_command(const ScenarioOptions& options);

}  // namespace tess::sim
