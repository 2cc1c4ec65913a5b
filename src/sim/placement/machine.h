// One simulated node: processes share its CPU evenly, all together slow down to a tenth when their
// memory is more than there is (as in the simulations of the MOSIX papers), and what waits for its
// home wants no CPU meanwhile. A machine knows only how work progresses; who comes and goes is the
// world's affair.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/placement/admission.h"
#include "cluster/placement/balancer.h"
#include "sim/placement/scenario.h"

namespace tess::sim {

struct Job {
  enum class State : uint8_t { kNotYet, kRuns, kTravels, kDone, kLost };

  const JobSpec* spec = nullptr;
  int id = 0;
  State state = State::kNotYet;
  int node = -1;         // where it runs, or is coming from
  int to = -1;           // while it travels
  bool planned = false;  // granted a place, its transfer not begun
  double done = 0;       // work
  double saved = 0;      // work that a checkpoint holds
  double wanted = 0;     // seconds that it was running, waiting for a CPU, or travelling
  double finished = 0;
  double arrived = 0;  // at `node`
  double left_at = 0;  // when the transfer began
  double demand = 1;   // as measured
  uint32_t moves = 0;  // for balance
  uint32_t moves_all = 0;
  uint32_t transfer = 0;                     // number of the transfer that is under way
  std::vector<std::pair<int, double>> left;  // nodes that it left for balance, and when

  double memory_now() const;
  double memory_growth(double rate) const;
  double left_to_do() const { return std::max(0.0, spec->work - done); }
};

class Machine {
 public:
  Machine(int index, const NodeSpec& spec, const Options& options);

  int index() const { return index_; }
  const NodeSpec& spec() const { return *spec_; }
  const std::string& name() const { return name_; }
  const placement::NodeId& id() const { return id_; }

  // Lets work progress until `now`; nothing else changes what is done.
  void settle(double now);
  void add(Job* job, double now);
  void remove(Job* job, double now);
  const std::vector<Job*>& residents() const { return residents_; }
  // When the next one is done if nothing changes; nothing if none runs.
  std::optional<double> next_completion() const;

  double slow() const { return slow_; }
  double demand() const { return demand_; }
  double rate_of(const Job& job) const;
  bool swaps() const { return memory_used() > spec_->memory; }
  double memory_used() const;
  double swap_seconds() const { return swap_seconds_; }

  // A record and pictures as tessd would measure them.
  placement::LoadRecord measure() const;
  double memory_growth() const;

  bool alive = true;
  bool known_dead = false;
  bool draining = false;
  double owner_demand = 0;
  bool owner_active = false;
  double link_up_free = 0;  // when its link has nothing more to send
  double link_down_free = 0;
  double memory_promised_in = 0;  // travelling here: counts as used
  uint32_t version = 0;           // of what runs here: an older completion event is void
  int rounds_again = 0;           // extra ones since its last tick
  placement::Balancer balancer;
  placement::Admission admission;
  struct Snapshot {
    double at = 0;
    placement::LoadRecord load;
  };
  std::deque<Snapshot> published;

 private:
  void recompute();
  double delay_of(const Job& job) const;

  int index_;
  const NodeSpec* spec_;
  const Options* options_;
  std::string name_;
  placement::NodeId id_;
  std::vector<Job*> residents_;
  double settled_ = 0;
  double slow_ = 1;
  double demand_ = 0;
  double swap_seconds_ = 0;
};

placement::NodeId node_id(int index);
int node_index(const placement::NodeId& id);

}  // namespace tess::sim
