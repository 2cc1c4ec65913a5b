#include "sim/placement/workloads.h"

#include <algorithm>
#include <cmath>

namespace tess::sim {
namespace {
std::vector<NodeSpec> equal_nodes(int count) {
  return std::vector<NodeSpec>(static_cast<size_t>(count));
}

double between(Random& random, double low, double high) {
  return low + (high - low) * random.unit();
}

JobSpec plain_job(Random& random, double work) {
  JobSpec job;
  job.work = work;
  job.memory = between(random, 10e6, 80e6);
  job.memory_peak = job.memory;
  return job;
}

double pareto(Random& random, double alpha, double least, double most) {
  return std::min(most, least / std::pow(1 - random.unit(), 1 / alpha));
}

double total_speed(const std::vector<NodeSpec>& nodes) {
  double sum = 0;
  for (const NodeSpec& node : nodes) {
    sum += node.speed * node.cores;
  }
  return sum;
}
}  // namespace

Scenario uniform(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"uniform", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    s.jobs.push_back(plain_job(random, shape.scale * between(random, 20, 40)));
  }
  return s;
}

Scenario heavy_tailed(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"heavy-tailed", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    s.jobs.push_back(plain_job(random, shape.scale * pareto(random, 1.1, 4, 400)));
  }
  return s;
}

Scenario mixed(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"mixed", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    const double kind = random.unit();
    const double work = kind < 0.4   ? between(random, 2, 8)
                        : kind < 0.8 ? between(random, 15, 35)
                                     : between(random, 50, 80);
    JobSpec job = plain_job(random, shape.scale * work);
    job.memory = job.memory_peak = kind < 0.7 ? between(random, 5e6, 60e6) : 200e6;
    job.calls = random.unit() < 0.5 ? between(random, 0, 300) : 0;
    s.jobs.push_back(job);
  }
  return s;
}

Scenario bursts(const Shape& shape) {
  constexpr int kBursts = 5;
  Random random(shape.seed);
  Scenario s{"bursts", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    const int burst = i * kBursts / shape.jobs;
    JobSpec job = plain_job(random, shape.scale * between(random, 10, 50));
    job.home = burst % shape.nodes;
    job.release = 30.0 * shape.scale * burst;
    s.jobs.push_back(job);
  }
  return s;
}

Scenario arrivals(const Shape& shape) {
  constexpr double kLoad = 0.7;
  constexpr double kMeanWork = 30;
  Random random(shape.seed);
  Scenario s{"arrivals", equal_nodes(shape.nodes), {}, {}};
  const double gap = kMeanWork * shape.scale / (kLoad * total_speed(s.nodes));
  double at = 0;
  for (int i = 0; i < shape.jobs; ++i) {
    JobSpec job = plain_job(random, shape.scale * pareto(random, 1.5, kMeanWork / 3, 1000));
    job.release = at;
    job.home = static_cast<int>(random.below(static_cast<size_t>(shape.nodes)));
    at += -gap * std::log(1 - random.unit());
    s.jobs.push_back(job);
  }
  return s;
}

Scenario mixed_speeds(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"mixed-speeds", equal_nodes(shape.nodes), {}, {}};
  for (NodeSpec& node : s.nodes) {
    node.speed = between(random, 0.5, 3);
    node.cores = 1 << random.below(3);
    node.threads = random.below(2) == 0 ? node.cores : 2 * node.cores;
  }
  for (int i = 0; i < shape.jobs; ++i) {
    s.jobs.push_back(plain_job(random, shape.scale * between(random, 30, 90)));
  }
  return s;
}

Scenario memory_heavy(const Shape& shape) {
  constexpr double kFilled = 0.6;
  Random random(shape.seed);
  Scenario s{"memory-heavy", equal_nodes(shape.nodes), {}, {}};
  double room = 0;
  for (size_t i = 0; i < s.nodes.size(); ++i) {
    s.nodes[i].memory = i % 2 == 0 ? 3e9 : 13e9;
    room += s.nodes[i].memory;
  }
  double sum = 0;
  for (int i = 0; i < shape.jobs; ++i) {
    JobSpec job;
    job.work = shape.scale * between(random, 60, 120);
    job.memory = 20e6;
    job.memory_peak = between(random, 0.2, 1.8);
    sum += job.memory_peak;
    s.jobs.push_back(job);
  }
  for (JobSpec& job : s.jobs) {
    job.memory_peak *= kFilled * room / sum;
  }
  return s;
}

Scenario chatty(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"chatty", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    JobSpec job = plain_job(random, shape.scale * between(random, 20, 40));
    job.calls = i % 2 == 0 ? 20000 : 10;
    job.home = i % shape.nodes;
    s.jobs.push_back(job);
  }
  return s;
}

Scenario owner_returns(const Shape& shape) {
  Scenario s = uniform(shape);
  s.name = "owner-returns";
  const double middle = 30 * shape.scale;
  for (int node = shape.nodes - 2; node < shape.nodes; ++node) {
    s.events.push_back({middle, Happening::kOwnerReturns, node, 1.0});
    s.events.push_back({2 * middle, Happening::kOwnerLeaves, node, 0});
  }
  return s;
}

Scenario drain(const Shape& shape) {
  Scenario s = uniform(shape);
  s.name = "drain";
  s.events.push_back({30 * shape.scale, Happening::kDrain, shape.nodes - 1, 0});
  return s;
}

Scenario node_death(const Shape& shape) {
  Scenario s = uniform(shape);
  s.name = "node-death";
  s.events.push_back({30 * shape.scale, Happening::kDeath, shape.nodes - 1, 0});
  return s;
}

Scenario one_too_many(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"one-too-many", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i <= shape.nodes; ++i) {
    s.jobs.push_back(plain_job(random, shape.scale * 60));
  }
  return s;
}

Scenario lopsided(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"lopsided", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.nodes; i += 10) {
    for (int k = 0; k < 10 && i + k < shape.nodes; ++k) {
      JobSpec job = plain_job(random, 1e6);
      job.memory = job.memory_peak = 5e6;
      job.home = i;
      job.adopted = true;
      s.jobs.push_back(job);
    }
  }
  return s;
}

Scenario one_pile(const Shape& shape) {
  Random random(shape.seed);
  Scenario s{"one-pile", equal_nodes(shape.nodes), {}, {}};
  for (int i = 0; i < shape.jobs; ++i) {
    JobSpec job = plain_job(random, 1e6);
    job.memory = job.memory_peak = 5e6;
    job.adopted = true;
    s.jobs.push_back(job);
  }
  return s;
}

Scenario short_jobs(const Shape& shape) {
  constexpr double kLoad = 0.8;
  constexpr double kMeanWork = 0.6;
  Random random(shape.seed);
  Scenario s{"short-jobs", equal_nodes(shape.nodes), {}, {}};
  const double gap = kMeanWork / (kLoad * total_speed(s.nodes));
  double at = 0;
  for (int i = 0; i < shape.jobs; ++i) {
    JobSpec job =
        plain_job(random, std::min(2.0, 0.1 - (kMeanWork - 0.1) * std::log(1 - random.unit())));
    job.release = at;
    at += -gap * std::log(1 - random.unit());
    s.jobs.push_back(job);
  }
  return s;
}

std::vector<Scenario> all_workloads(const Shape& shape) {
  return {uniform(shape),       heavy_tailed(shape), mixed(shape),        bursts(shape),
          arrivals(shape),      mixed_speeds(shape), memory_heavy(shape), chatty(shape),
          owner_returns(shape), drain(shape),        node_death(shape),   one_too_many(shape)};
}

}  // namespace tess::sim
