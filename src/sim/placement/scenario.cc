#include "sim/placement/scenario.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

namespace tess::sim {
namespace {
// Speeds of all places where one thread can run, fastest first. A second hardware thread is a slow
// place of its own.
std::vector<double> place_speeds(const std::vector<NodeSpec>& nodes, double smt_gain) {
  std::vector<double> speeds;
  for (const NodeSpec& node : nodes) {
    for (int i = 0; i < node.threads; ++i) {
      speeds.push_back(i < node.cores ? node.speed : node.speed * smt_gain);
    }
  }
  std::sort(speeds.begin(), speeds.end(), std::greater<>());
  return speeds;
}

// The speed of the fastest 0, 1, 2, … places of the nodes that are there.
std::vector<double> summed_speeds(const std::vector<NodeSpec>& nodes,
                                  const std::vector<bool>& there) {
  std::vector<NodeSpec> present;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (there[i]) {
      present.push_back(nodes[i]);
    }
  }
  const std::vector<double> speeds = place_speeds(present, placement::Policy{}.smt_gain);
  std::vector<double> sum(1, 0);
  for (const double speed : speeds) {
    sum.push_back(sum.back() + speed);
  }
  return sum;
}

double level_bound(std::vector<double> works, const std::vector<double>& speeds) {
  std::sort(works.begin(), works.end(), std::greater<>());
  double bound = 0;
  double work = 0;
  double speed = 0;
  for (size_t k = 0; k < works.size(); ++k) {
    work += works[k];
    speed += k < speeds.size() ? speeds[k] : 0;
    // With fewer jobs than places the first k jobs can use no more than the k fastest places.
    if (k < speeds.size() || k + 1 == works.size()) {
      bound = std::max(bound, work / speed);
    }
  }
  return bound;
}
}  // namespace

const char* to_text(Strategy strategy) {
  switch (strategy) {
    case Strategy::kTessera:
      return "tessera";
    case Strategy::kTesseraMoves:
      return "tessera-moves";
    case Strategy::kRoundRobin:
      return "round-robin";
    case Strategy::kLeastLoaded:
      return "least-loaded";
    case Strategy::kPowerOfTwo:
      return "power-of-two";
    case Strategy::kStayHome:
      return "stay-home";
  }
  return "unknown";
}

double least_makespan(const Scenario& scenario) {
  // More moments than these change nothing that can be seen, and each costs a sort.
  constexpr size_t kMostMoments = 64;
  const std::vector<double> speeds = place_speeds(scenario.nodes, placement::Policy{}.smt_gain);
  std::vector<double> releases;
  for (const JobSpec& job : scenario.jobs) {
    releases.push_back(job.release);
  }
  std::sort(releases.begin(), releases.end());
  releases.erase(std::unique(releases.begin(), releases.end()), releases.end());
  const size_t step = std::max<size_t>(1, releases.size() / kMostMoments);
  double bound = 0;
  for (size_t i = 0; i < releases.size(); i += step) {
    std::vector<double> works;
    for (const JobSpec& job : scenario.jobs) {
      if (job.release >= releases[i]) {
        works.push_back(job.work);
      }
    }
    bound = std::max(bound, releases[i] + level_bound(std::move(works), speeds));
  }
  return bound;
}

double fair_makespan(const Scenario& scenario) {
  // Who is there for guests changes with deaths, drains and owners.
  std::vector<bool> there(scenario.nodes.size(), true);
  std::vector<Event> events = scenario.events;
  std::stable_sort(events.begin(), events.end(),
                   [](const Event& a, const Event& b) { return a.at < b.at; });
  std::vector<double> sum = summed_speeds(scenario.nodes, there);
  std::vector<const JobSpec*> jobs;
  for (const JobSpec& job : scenario.jobs) {
    jobs.push_back(&job);
  }
  std::stable_sort(jobs.begin(), jobs.end(),
                   [](const JobSpec* a, const JobSpec* b) { return a->release < b->release; });
  // All present jobs have come equally far since they came: `level` is that distance, and a job is
  // done when it has grown by the job's work.
  std::multiset<double> ends;
  double level = 0;
  double now = 0;
  size_t next_job = 0;
  size_t next_event = 0;
  while (next_job < jobs.size() || !ends.empty()) {
    const double rate = ends.empty() ? 0
                                     : sum[std::min(ends.size(), sum.size() - 1)] /
                                           static_cast<double>(ends.size());
    const double done_at = rate <= 0 ? INFINITY : now + (*ends.begin() - level) / rate;
    const double comes_at = next_job < jobs.size() ? jobs[next_job]->release : INFINITY;
    const double happens_at = next_event < events.size() ? events[next_event].at : INFINITY;
    const double then = std::min({done_at, comes_at, happens_at});
    level += rate > 0 ? rate * (then - now) : 0;
    now = then;
    if (happens_at == then) {
      const Event& event = events[next_event++];
      there[static_cast<size_t>(event.node)] = event.what == Happening::kOwnerLeaves;
      sum = summed_speeds(scenario.nodes, there);
    } else if (comes_at == then) {
      ends.insert(level + jobs[next_job++]->work);
    } else {
      level = *ends.begin();
      ends.erase(ends.begin());
    }
  }
  return now;
}

}  // namespace tess::sim
