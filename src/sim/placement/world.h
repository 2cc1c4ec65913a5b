// A simulated cluster that places and moves processes with the very code that tessd runs: one
// Balancer and one Admission per node, questions and answers that take time, load records that are
// as old as gossip makes them, transfers that wait for a link. Deterministic: a scenario and a seed
// give one run, whatever the machine.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "cluster/placement/exec_placement.h"
#include "sim/placement/machine.h"
#include "sim/placement/scenario.h"

namespace tess::sim {

struct Figures {
  size_t jobs = 0;
  size_t finished = 0;
  size_t lost = 0;  // their home died
  double makespan = 0;
  double least = 0;          // least_makespan()
  double fair = 0;           // fair_makespan()
  double mean_slowdown = 0;  // time from release to end, over the work's time on the fastest core
  double max_slowdown = 0;
  std::array<size_t, 8> moves{};  // by cause; kExec are placements
  size_t moves_of_running = 0;    // all but placements at exec
  uint32_t most_moves = 0;        // of one job
  size_t ping_pongs = 0;          // came back for balance to a node left for balance within 30 s
  double balanced_at = -1;  // first moment with no idle core while a job waits for one; -1: never
  double balanced_90 = -1;  // when nine tenths of the cores that were idle in vain no longer are
  double balanced_99 = -1;
  double even_at = -1;      // first moment when no two nodes differ by more than one job per core
  double last_move = 0;     // when the last one ended
  double wasted = 0;        // core-seconds idle while others waited, over the core-seconds of work
  double swap_seconds = 0;  // node-seconds with more memory used than there is
  double room_seconds = 0;  // of those, while the cluster had the room
  double longest_owner_wait = 0;  // from an owner's return until the last guest's memory has gone
  double longest_drain = 0;
  double owner_freeze = 0;  // until the last guest has stopped running there
  size_t asks = 0;
  size_t refusals = 0;
  double most_above_mean =
      0;                 // jobs on the fullest node that took in guests, over the mean per node
  size_t decisions = 0;  // rounds
  double decide_seconds = 0;  // real time they took, by Options' stopwatch
  bool conserved = true;      // every unfinished process was in exactly one place at every check
  std::string broken;         // what was not, if so

  double ratio() const { return least > 0 ? makespan / least : 0; }
  double moves_per_job() const {
    return jobs == 0 ? 0 : static_cast<double>(moves_of_running) / static_cast<double>(jobs);
  }
};

class World {
 public:
  World(const Scenario& scenario, const Options& options);

  // For figures of real cost; without it decide_seconds stays 0.
  std::function<double()> stopwatch;
  // Sees each decision that was granted, as it begins.
  std::function<void(double, const placement::Decision&)> on_move;
  // Sees each round before it is decided.
  std::function<void(const placement::Balancer&, const placement::Round&)> on_round;

  Figures run();

 private:
  enum class Kind : uint8_t {
    kRelease,
    kComplete,
    kTick,
    kGauge,
    kHappens,
    kKnownDead,
    kQuestion,
    kAnswer,
    kTransfer,
    kArrival,
  };
  struct Entry {
    double at = 0;
    uint64_t number = 0;  // of equals, the first pushed comes first
    Kind kind = Kind::kTick;
    int who = 0;
    uint64_t detail = 0;
    bool operator>(const Entry& other) const {
      return at != other.at ? at > other.at : number > other.number;
    }
  };
  struct Message {
    placement::PlannedMove move;
    placement::Answer answer;
    bool answered = false;
    double link_free = 0;  // when the links will have sent it
  };
  // A node's own view of itself, with the pictures it borrows.
  struct LocalView {
    std::vector<placement::ProcessPicture> residents;
    placement::Local local;
  };

  void push(double at, Kind kind, int who, uint64_t detail = 0);
  void handle(const Entry& entry);
  Machine& machine(int index) { return *machines_[static_cast<size_t>(index)]; }
  Job& job_of(const placement::ProcessKey& key) { return jobs_[static_cast<size_t>(key.pid)]; }
  placement::Time time() const { return placement::Time(placement::from_seconds(now_ + 1)); }

  void look(Machine& node, LocalView& view);
  placement::NodePicture seen(int index, double mean_age);
  std::vector<placement::NodePicture> candidates(Machine& node, const LocalView* view);
  void find_favourites();
  void schedule_completion(Machine& node);

  void release(Job& job);
  void place_at_exec(Job& job);
  int choose_at_start(const Job& job);
  void complete(Machine& node);
  void tick(Machine& node);
  void decide(Machine& node);
  void send(const placement::PlannedMove& move);
  void question(uint64_t number);
  void answer(uint64_t number);
  void begin_transfer(Job& job, uint64_t number);
  void free_travel_memory(const Job& job);
  void arrive(Job& job, uint64_t number);
  void land(Job& job, int node);
  void recover(Job& job);
  void happen(const Event& event);
  void die(Machine& node);
  void note_move(Job& job, placement::Cause cause);
  void gauge();
  void gauge_leaving();
  void check_conservation();
  void finish_figures();

  const Scenario& scenario_;
  Options options_;
  Random random_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::vector<Job> jobs_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue_;
  uint64_t pushed_ = 0;
  std::map<uint64_t, Message> messages_;
  uint64_t message_count_ = 0;
  std::map<int, Message> travelling_;  // by job
  std::vector<int> favourites_;
  double mean_age_ = 1;
  double now_ = 0;
  double gauged_ = 0;
  double most_in_vain_ = 0;  // cores idle while jobs waited
  size_t open_ = 0;          // jobs not done and not lost
  size_t next_by_turns_ = 0;
  double fastest_ = 1;
  struct Leaving {
    int node = 0;
    double since = 0;
    bool drain = false;
    bool stopped = false;
  };
  std::vector<Leaving> leaving_;
  Figures figures_;
};

}  // namespace tess::sim
