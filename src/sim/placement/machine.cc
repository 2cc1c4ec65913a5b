#include "sim/placement/machine.h"

#include <algorithm>
#include <cmath>

#include "cluster/placement/cost.h"

namespace tess::sim {
namespace {
constexpr double kThrash = 10;
// The part of a job's work by which its memory is at its peak.
constexpr double kGrows = 0.5;
}  // namespace

double Job::memory_now() const {
  const double share = spec->work <= 0 ? 1 : std::min(1.0, done / (kGrows * spec->work));
  return spec->memory + (spec->memory_peak - spec->memory) * share;
}

double Job::memory_growth(double rate) const {
  return done >= kGrows * spec->work
             ? 0
             : (spec->memory_peak - spec->memory) / (kGrows * spec->work) * rate;
}

placement::NodeId node_id(int index) {
  placement::NodeId id;
  const auto value = static_cast<uint32_t>(index + 1);
  for (size_t i = 0; i < 4; ++i) {
    id.bytes[7 - i] = static_cast<uint8_t>(value >> (8 * i));
  }
  return id;
}

int node_index(const placement::NodeId& id) {
  return static_cast<int>(id.key()) - 1;
}

Machine::Machine(int index, const NodeSpec& spec, const Options& options)
    : balancer(options.policy, options.seed * 1000003 + static_cast<uint64_t>(index)),
      admission(options.policy),
      index_(index),
      spec_(&spec),
      options_(&options),
      name_("n" + std::to_string(index + 1)),
      id_(node_id(index)) {
  recompute();
}

double Machine::delay_of(const Job& job) const {
  return job.spec->home == index_
             ? 0
             : job.spec->calls *
                   (options_->round_trip + placement::seconds(options_->policy.home_call_overhead));
}

void Machine::recompute() {
  placement::LoadRecord load = measure();
  placement::Place place = placement::place_of(load, options_->policy, false);
  bool waits = false;
  for (const Job* job : residents_) {
    waits = waits || delay_of(*job) > 0;
  }
  double demand = owner_demand + static_cast<double>(residents_.size());
  double slow = placement::slowness(place, demand);
  // Those that wait for home leave the CPU to the others: towards the fixed point of both.
  for (int i = 0; waits && i < 8; ++i) {
    demand = owner_demand;
    for (const Job* job : residents_) {
      demand += slow / (slow + delay_of(*job));
    }
    slow = 0.5 * (slow + placement::slowness(place, demand));
  }
  demand_ = demand;
  slow_ = slow * (swaps() ? kThrash : 1);
}

double Machine::rate_of(const Job& job) const {
  return 1 / (slow_ + delay_of(job));
}

double Machine::memory_used() const {
  double used = memory_promised_in;
  for (const Job* job : residents_) {
    used += job->memory_now();
  }
  return used;
}

void Machine::settle(double now) {
  const double dt = now - settled_;
  settled_ = now;
  if (dt <= 0) {
    return;
  }
  if (!residents_.empty() && swaps()) {
    swap_seconds_ += dt;
  }
  for (Job* job : residents_) {
    job->done = std::min(job->spec->work, job->done + rate_of(*job) * dt);
    job->wanted += dt * (slow_ / (slow_ + delay_of(*job)));
  }
  recompute();
}

void Machine::add(Job* job, double now) {
  settle(now);
  residents_.push_back(job);
  ++version;
  recompute();
}

void Machine::remove(Job* job, double now) {
  settle(now);
  residents_.erase(std::find(residents_.begin(), residents_.end(), job));
  ++version;
  recompute();
}

std::optional<double> Machine::next_completion() const {
  std::optional<double> next;
  for (const Job* job : residents_) {
    const double at = settled_ + job->left_to_do() / rate_of(*job);
    next = next ? std::min(*next, at) : at;
  }
  return next;
}

placement::LoadRecord Machine::measure() const {
  placement::LoadRecord load;
  load.speed = static_cast<uint32_t>(std::lround(spec_->speed * cluster::kReferenceSpeed));
  load.cores = static_cast<uint16_t>(spec_->cores);
  load.threads = static_cast<uint16_t>(std::max(spec_->cores, spec_->threads));
  load.memory_bytes = static_cast<uint64_t>(spec_->memory);
  load.reserved_permille = static_cast<uint16_t>(std::lround(1000 * spec_->reserved));
  load.runnable = static_cast<float>(demand_);
  load.memory_free_bytes = static_cast<uint64_t>(std::max(0.0, spec_->memory - memory_used()));
  load.owner_active = owner_active;
  load.draining = draining;
  return load;
}

double Machine::memory_growth() const {
  double growth = 0;
  for (const Job* job : residents_) {
    growth += job->memory_growth(rate_of(*job));
  }
  return growth;
}

}  // namespace tess::sim
