// The workloads that placement is measured with. Each is made from its parameters and a seed alone.
#pragma once

#include "sim/placement/scenario.h"

namespace tess::sim {

// All jobs are born on the first node unless said otherwise.
struct Shape {
  int nodes = 8;
  int jobs = 32;
  uint64_t seed = 1;
  double scale = 1;  // of every job's work
};

Scenario uniform(const Shape& shape);       // 20 to 40 s each
Scenario heavy_tailed(const Shape& shape);  // Pareto, shape 1.1, from 4 s, at most 400 s
Scenario mixed(const Shape& shape);         // short, middling and long, of different sizes
Scenario bursts(const Shape& shape);        // five bursts from five nodes, half a minute apart
Scenario arrivals(const Shape& shape);      // one after another, at 70% of what the cluster can do
Scenario mixed_speeds(const Shape& shape);  // nodes of speeds 0.5 to 3, one to four cores
Scenario memory_heavy(const Shape& shape);  // grow to fill 60% of the cluster, more than home has
Scenario chatty(const Shape& shape);        // half of the jobs make 20,000 calls per second of work
Scenario owner_returns(const Shape& shape);  // to two of the nodes, in the middle
Scenario drain(const Shape& shape);
Scenario node_death(const Shape& shape);
Scenario one_too_many(const Shape& shape);  // equal jobs, one more than nodes

// For figures of their own, not in all_workloads. A tenth of the nodes have ten small jobs each,
// the others none.
Scenario lopsided(const Shape& shape);
// As many small jobs as `jobs`, all on the first node.
Scenario one_pile(const Shape& shape);
// Like the compilers of a large build: `jobs` of 0.1 to 2 s, born on the first node at 80% of what
// the cluster can do.
Scenario short_jobs(const Shape& shape);

// All of them but those, for tests and the bench.
std::vector<Scenario> all_workloads(const Shape& shape);

}  // namespace tess::sim
