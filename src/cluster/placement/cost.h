// The opportunity cost of a place (Amir, Awerbuch, Barak, Borgstrom, Keren: An Opportunity Cost
// Approach for Job Assignment in a Scalable Computing Cluster, IEEE TPDS 11(7), 2000): the use of
// each resource is turned into one currency by a function that is exponential in its share of what
// there is, and a process belongs where its marginal cost is lowest. CPU is weighed as slowness
// (seconds that one second of the reference machine's work takes), summed over the processes that
// suffer it, so the cost contains both what the process itself gets and what the others lose. Pure
// functions.
#pragma once

#include "cluster/placement/picture.h"
#include "cluster/placement/policy.h"

namespace tess::placement {

// The currency: `base` (kept as its logarithm) grows with the cluster, `limit` is the power of two
// not below the largest slowness seen.
struct Scale {
  double log_base = 1.386;
  double limit = 1;
};
Scale make_scale(size_t nodes, double largest_slowness);

// A node as a decision changes it: prepared once, then adjusted as processes are planned to come
// and go.
struct Place {
  double speed = 1;  // of the reference machine
  double cores = 1;  // available to the process in question
  double threads = 1;
  double smt_gain = 0.3;
  double runnable = 0;
  double memory_total = 0;
  double memory_free = 0;
  double bandwidth = Policy().bandwidth_bytes_per_s;  // to it, bytes per second
};
// `as_guest`: what the owner's reserve leaves. `runnable` and memory as recorded, promised arrivals
// included.
Place place_of(const LoadRecord& load, const Policy& policy, bool as_guest);

// Work per second, in reference threads, that `runnable` threads get done in all.
double throughput(const Place& place, double runnable);
// Seconds that one reference second of work takes each of them.
double slowness(const Place& place, double runnable);

// A process as it weighs on a place.
struct Weight {
  double demand = 1;      // as measured where it is now
  double memory = 0;      // bytes
  double call_delay = 0;  // seconds of waiting for home per reference second of work; 0 at home
};

// Seconds of waiting for home calls per reference second of work, on a node with that round trip to
// home.
double call_delay(const ProcessPicture& process, Duration round_trip_home, const Policy& policy);

// The threads a process would want with another slowness and call delay than those it was measured
// with: who waits for home does not want a CPU meanwhile.
double demand_elsewhere(double demand, double slow_here, double delay_here, double slow_there,
                        double delay_there);

// The marginal cost of a process of this weight: of being on `place` (which includes it), or of
// coming to it.
double cost_of_having(const Place& place, const Weight& weight, const Scale& scale);
double cost_of_taking(const Place& place, const Weight& weight, const Scale& scale);

// A move as it is expected to turn out.
struct Estimate {
  double cost_here = 0;  // opportunity costs
  double cost_there = 0;
  // The same with both loads off by the policy's error, against the move.
  double doubtful_here = 0;
  double doubtful_there = 0;
  double slow_here = 1;  // seconds per reference second of work, waiting for home included
  double slow_there = 1;
  double runnable_here = 0;  // before the move
  double runnable_there = 0;
  double demand_there = 1;
  double delay_here = 0;  // of slow_here, waiting for home
  double delay_there = 0;
  double work = 0;       // reference seconds that it is expected to do yet
  double saved = 0;      // seconds of everybody's waiting that the move saves
  double price = 0;      // seconds that the process stands still for it
  double bandwidth = 0;  // bytes per second that the price counts on; 0: not known

  // The way there spread over the work to be done there: what one place is compared with another
  // by. The same currency as the costs, as long as they are small against the scale's limit.
  double way() const { return price / (work > 0 ? work : 1); }
  // Cheaper there, by the policy's hysteresis, and in any case if the loads are not quite so.
  bool cheaper(const Policy& policy) const {
    return cost_there < cost_here * (1 - policy.hysteresis) && doubtful_there < doubtful_here;
  }
  bool worth(const Policy& policy) const { return saved > price * policy.price_margin; }
};

// What lies between two nodes, by what they say of themselves.
struct Link {
  uint32_t nominal_mbit = 0;  // of the slower end; 0: neither says
  double prior = 0;           // bytes per second that a transfer should have
};
Link link_between(const LoadRecord& here, const LoadRecord& there, const Policy& policy);
// Bytes per second of a transfer from here to there.
double bandwidth_to(const NodePicture& here, const NodePicture& there, const Policy& policy);
// Seconds that its memory takes over the network.
double transfer_seconds(uint64_t memory_bytes, double bandwidth);
// Seconds that the process stands still for a move.
double move_price(uint64_t memory_bytes, double bandwidth, const Policy& policy);
double expected_work(const ProcessPicture& process, const Policy& policy);

// `here` includes the process, `there` does not; its bandwidth is that of the way from here.
Estimate estimate_move(const ProcessPicture& process, const Place& here, double delay_here,
                       const Place& there, double delay_there, const Scale& scale,
                       const Policy& policy);

}  // namespace tess::placement
