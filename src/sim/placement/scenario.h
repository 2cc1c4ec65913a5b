// What a simulated run is made of: nodes, jobs, and what happens meanwhile. Plain values. Times in
// seconds from the start; work in seconds of the reference machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/placement/policy.h"
#include "cluster/placement/random.h"

namespace tess::sim {

using placement::Random;

struct NodeSpec {
  double speed = 1;
  int cores = 1;
  int threads = 1;
  double memory = 8e9;
  double bandwidth = 110e6;  // bytes per second of its link, either way
  double reserved = 0;       // share kept for its owner
};

struct JobSpec {
  int home = 0;
  double release = 0;
  double work = 10;
  double memory = 50e6;       // at its start
  double memory_peak = 50e6;  // reached evenly by half of its work
  double calls = 0;           // system calls carried home per second of work
  int priority = 0;
  bool adopted = false;  // runs already when the cluster learns of it: no placement at exec
  std::vector<int> on;
  bool stay = false;
};

enum class Happening : uint8_t { kOwnerReturns, kOwnerLeaves, kDrain, kDeath };

struct Event {
  double at = 0;
  Happening what = Happening::kDeath;
  int node = 0;
  double demand = 0;  // of the owner, in threads
};

struct Scenario {
  std::string name;
  std::vector<NodeSpec> nodes;
  std::vector<JobSpec> jobs;
  std::vector<Event> events;
};

enum class Strategy : uint8_t {
  kTessera,       // placement at exec and moves
  kTesseraMoves,  // moves only
  kRoundRobin,    // by turns at the start
  kLeastLoaded,   // at the start, with perfect knowledge
  kPowerOfTwo,    // the better of two random ones, at the start, with perfect knowledge
  kStayHome,
};
const char* to_text(Strategy strategy);

struct Options {
  Strategy strategy = Strategy::kTessera;
  uint64_t seed = 1;
  placement::Policy policy;
  double horizon = 24 * 3600;   // ends there, finished or not
  double measure_noise = 0.03;  // of each measured demand
  double message = 0.001;       // seconds a question or an answer takes
  double round_trip = 0.00025;  // of a system call carried home
  double checkpoint = 10;       // seconds of work lost at most when a host dies
  double detect_death = 3;      // seconds until the others know
  size_t candidates = 32;       // nodes looked at in one round
};

// The least time in which the jobs can be done by any schedule that may stop and move them at no
// cost: for jobs all there at the start this is exact (Horvath, Lam and Sethi's level bound for
// machines of different speeds); with later jobs, the largest such bound over those that come at or
// after some moment.
double least_makespan(const Scenario& scenario);

// The same for a schedule that does not know how long each job will take and therefore lets all of
// them share everything evenly, at every instant and at no cost. What is above it is the cost of
// moving, of whole jobs and of old news; what lies between it and least_makespan is the price of
// not knowing the future.
double fair_makespan(const Scenario& scenario);

}  // namespace tess::sim
