#include "cluster/placement/cost.h"

#include <algorithm>
#include <cmath>

namespace tess::placement {
namespace {
constexpr double kLeastDemand = 0.02;
// Exponents stay where doubles are exact enough, whatever a foreign record claims.
constexpr double kLargestExponent = 40;
// Memory weighs as a resource of its own, from empty to full once around the scale.
constexpr double kMemoryWeight = 1.0;

// Slowness as a price: proportional while small against the limit, exponential near and above it.
double price_of_slowness(double slow, const Scale& scale) {
  return scale.limit / scale.log_base *
         std::expm1(std::min(slow / scale.limit * scale.log_base, kLargestExponent));
}

double cpu_potential(const Place& place, double runnable, const Scale& scale) {
  return runnable <= 0 ? 0 : runnable * price_of_slowness(slowness(place, runnable), scale);
}

// The plain sum of slownesses: what the price is exponential in.
double total_slowness(const Place& place, double runnable) {
  return runnable <= 0 ? 0 : runnable * slowness(place, runnable);
}

double memory_potential(const Place& place, double used, const Scale& scale) {
  if (place.memory_total <= 0) {
    return 0;
  }
  const double share = std::clamp(used / place.memory_total, 0.0, 2.0);
  return kMemoryWeight * scale.limit / scale.log_base * std::expm1(share * scale.log_base);
}

// What a process pays for waiting for home, besides waiting for the CPU.
double call_price(double slow, const Weight& weight, const Scale& scale) {
  if (weight.call_delay <= 0) {
    return 0;
  }
  const double threads = weight.demand * (slow + weight.call_delay) / slow;
  return threads *
         (price_of_slowness(slow + weight.call_delay, scale) - price_of_slowness(slow, scale));
}
}  // namespace

Scale make_scale(size_t nodes, double largest_slowness) {
  Scale scale;
  scale.log_base = std::log(std::clamp(static_cast<double>(nodes), 4.0, 64.0));
  scale.limit = std::exp2(std::ceil(std::log2(std::clamp(largest_slowness, 1e-3, 1e6))));
  return scale;
}

Place place_of(const LoadRecord& load, const Policy& policy, bool as_guest) {
  Place place;
  place.speed = std::max<double>(load.speed, 1) / cluster::kReferenceSpeed;
  const double share =
      as_guest ? 1.0 - std::min<double>(load.reserved_permille, 999) / 1000.0 : 1.0;
  place.cores = std::max<double>(load.cores, 1) * share;
  place.threads = std::max<double>(load.threads, load.cores) * share;
  place.smt_gain = policy.smt_gain;
  place.runnable = std::isfinite(load.runnable) ? std::max(0.0F, load.runnable) : 0;
  place.runnable += load.incoming;
  place.memory_total = static_cast<double>(load.memory_bytes);
  place.memory_free = static_cast<double>(load.memory_free_bytes);
  place.bandwidth = policy.bandwidth_bytes_per_s;
  return place;
}

double throughput(const Place& place, double runnable) {
  const double first = std::min(runnable, place.cores);
  const double second = std::clamp(runnable - place.cores, 0.0, place.threads - place.cores);
  return place.speed * (first + place.smt_gain * second);
}

double slowness(const Place& place, double runnable) {
  if (runnable <= kLeastDemand) {
    return 1 / place.speed;
  }
  return runnable / throughput(place, runnable);
}

double call_delay(const ProcessPicture& process, Duration round_trip_home, const Policy& policy) {
  if (process.wishes.cpu_bound) {
    return 0;
  }
  return process.home_calls * seconds(round_trip_home + policy.home_call_overhead);
}

double demand_elsewhere(double demand, double slow_here, double delay_here, double slow_there,
                        double delay_there) {
  const double alone = demand * (slow_here + delay_here) / slow_here;
  return std::max(kLeastDemand, alone * slow_there / (slow_there + delay_there));
}

double cost_of_having(const Place& place, const Weight& weight, const Scale& scale) {
  const double without = std::max(0.0, place.runnable - weight.demand);
  const double used = place.memory_total - place.memory_free;
  return cpu_potential(place, without + weight.demand, scale) -
         cpu_potential(place, without, scale) +
         call_price(slowness(place, without + weight.demand), weight, scale) +
         memory_potential(place, used, scale) -
         memory_potential(place, used - weight.memory, scale);
}

double cost_of_taking(const Place& place, const Weight& weight, const Scale& scale) {
  Place after = place;
  after.runnable += weight.demand;
  after.memory_free -= weight.memory;
  return cost_of_having(after, weight, scale);
}

Link link_between(const LoadRecord& here, const LoadRecord& there, const Policy& policy) {
  constexpr double kBytesPerMbit = 125e3;
  const auto end = [&policy](const LoadRecord& load) {
    return load.link_mbit == 0 ? policy.bandwidth_bytes_per_s
                               : std::min(load.link_mbit * kBytesPerMbit * policy.link_share,
                                          policy.stream_bytes_per_s);
  };
  Link link;
  link.nominal_mbit = here.link_mbit == 0    ? there.link_mbit
                      : there.link_mbit == 0 ? here.link_mbit
                                             : std::min(here.link_mbit, there.link_mbit);
  link.prior = std::max(1.0, std::min(end(here), end(there)));
  return link;
}

double bandwidth_to(const NodePicture& here, const NodePicture& there, const Policy& policy) {
  return there.bandwidth > 0 ? there.bandwidth : link_between(here.load, there.load, policy).prior;
}

double transfer_seconds(uint64_t memory_bytes, double bandwidth) {
  return static_cast<double>(memory_bytes) / std::max(bandwidth, 1.0);
}

double move_price(uint64_t memory_bytes, double bandwidth, const Policy& policy) {
  return seconds(policy.move_fixed) +
         transfer_seconds(memory_bytes, bandwidth) * policy.stopped_share;
}

double expected_work(const ProcessPicture& process, const Policy& policy) {
  return std::clamp(process.cpu_used, seconds(policy.min_expected_work),
                    seconds(policy.max_expected_work));
}

Estimate estimate_move(const ProcessPicture& process, const Place& here, double delay_here,
                       const Place& there, double delay_there, const Scale& scale,
                       const Policy& policy) {
  Weight weight_here;
  weight_here.demand = std::max(kLeastDemand, process.demand);
  weight_here.memory = static_cast<double>(process.memory_bytes);
  weight_here.call_delay = delay_here;

  const double runnable_here = std::max(here.runnable, weight_here.demand);
  const double slow_here = slowness(here, runnable_here);
  // The slowness there depends on the demand there and the other way round; one step is near
  // enough.
  const double slow_guess = slowness(there, there.runnable + weight_here.demand);
  Weight weight_there = weight_here;
  weight_there.call_delay = delay_there;
  weight_there.demand =
      demand_elsewhere(weight_here.demand, slow_here, delay_here, slow_guess, delay_there);
  const double slow_there = slowness(there, there.runnable + weight_there.demand);

  Estimate e;
  e.cost_here = cost_of_having(here, weight_here, scale);
  e.cost_there = cost_of_taking(there, weight_there, scale);
  Place less_busy = here;
  less_busy.runnable = std::max(weight_here.demand, here.runnable - policy.load_error);
  Place busier = there;
  busier.runnable += policy.load_error;
  e.doubtful_here = cost_of_having(less_busy, weight_here, scale);
  e.doubtful_there = cost_of_taking(busier, weight_there, scale);
  e.slow_here = slow_here + delay_here;
  e.slow_there = slow_there + delay_there;
  e.runnable_here = runnable_here;
  e.runnable_there = there.runnable;
  e.demand_there = weight_there.demand;
  e.delay_here = delay_here;
  e.delay_there = delay_there;
  e.work = expected_work(process, policy);
  e.price = move_price(process.memory_bytes, there.bandwidth, policy);
  e.bandwidth = there.bandwidth;

  const double threads_here = weight_here.demand * e.slow_here / slow_here;
  const double waiting_here = total_slowness(here, runnable_here) -
                              total_slowness(here, runnable_here - weight_here.demand) +
                              threads_here * delay_here;
  const double waiting_there = total_slowness(there, there.runnable + weight_there.demand) -
                               total_slowness(there, there.runnable) + threads_here * delay_there;
  e.saved = (waiting_here - waiting_there) * e.work / threads_here;
  return e;
}

}  // namespace tess::placement
