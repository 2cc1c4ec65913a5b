// World: a simulated cluster that runs the very code of src/cluster. One seed fixes everything:
// delays, losses, clocks that disagree by hours and drift, and all choices of the nodes. Faults are
// put in from outside; what the nodes report is checked as it comes (a live, reachable node called
// dead; somebody dead back under the incarnation that died). One thread. A world of n nodes needs 8
// n^2 bytes for the member tables, and little else.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cluster/inbox.h"
#include "cluster/membership.h"
#include "sim/event_queue.h"
#include "sim/plain_cipher.h"

namespace tess::sim {

inline constexpr SimTime kMillisecond = 1000;
inline constexpr SimTime kSecond = 1000 * kMillisecond;

struct WorldOptions {
  unsigned nodes = 10;
  uint64_t seed = 1;
  SimTime latency = 150;  // one way, at least
  SimTime jitter = 200;   // on top, evenly
  double loss = 0;        // of each datagram
  double duplicates = 0;
  bool warm = true;          // all know each other at the start; else node 0 is everyone's seed
  bool multicast = false;    // beacons reach everyone
  bool load_changes = true;  // every node measures a new load each second; else it stays the same
  bool connections = true;   // every node has one with every other, and hears of its end
  bool check_resurrection = false;  // costs memory by observers times members
  cluster::Config config;
};

class World {
 public:
  using NodeIndex = uint32_t;
  // Called for each event that a node reports.
  using Observer = std::function<void(NodeIndex observer, const cluster::Event&)>;

  explicit World(const WorldOptions& options);
  ~World();

  SimTime now() const { return now_; }
  void run_for(SimTime duration) { run_until(now_ + duration); }
  void run_until(SimTime end);
  // Runs in steps of 10 ms until `done` or `most` has passed; true if done.
  bool run_while_not(const std::function<bool()>& done, SimTime most);

  // Faults and changes. A killed process has its kernel answer for it; a node without power is
  // silent.
  NodeIndex add_node(const std::vector<NodeIndex>& seeds);
  void kill(NodeIndex node) { stop(node, false); }
  void power_off(NodeIndex node) { stop(node, true); }
  void restart(NodeIndex node, const std::vector<NodeIndex>& seeds);
  void leave(NodeIndex node);
  // `by` learns that `node` is expelled.
  void shut_out(NodeIndex by, NodeIndex node);
  void set_loss(double loss) { options_.loss = loss; }
  // Nodes of different groups do not reach each other.
  void partition(const std::function<unsigned(NodeIndex)>& group);
  void heal();
  void change_address(NodeIndex node);
  // These nodes share, from now on, `share` of the CPU that they used since the last call of
  // forget_cpu().
  void starve(const std::vector<NodeIndex>& nodes, double share);
  void feed();  // ends it
  void forget_cpu();
  // The node gets no CPU at all for so long.
  void stall(NodeIndex node, SimTime duration);
  // Hands a datagram to a node as if it came from `from`.
  void inject(NodeIndex to, NodeIndex from, std::vector<uint8_t> datagram);
  // Sees every datagram that is sent.
  void set_tap(
      std::function<void(NodeIndex from, const cluster::Address& to, cluster::Bytes)> tap) {
    tap_ = std::move(tap);
  }
  void set_observer(Observer observer) { observer_ = std::move(observer); }

  unsigned size() const { return static_cast<unsigned>(nodes_.size()); }
  bool up(NodeIndex node) const;
  unsigned up_count() const;
  cluster::NodeId id(NodeIndex node) const;
  // kNoNode if no node has it.
  NodeIndex find(const cluster::NodeId& id) const;
  cluster::Membership& member(NodeIndex node);
  cluster::Time clock(NodeIndex node) const;
  // Does everyone who is up hold exactly those who are up for live?
  bool agreed() const;
  // How many of those that are up hold `node` for live.
  unsigned believers(NodeIndex node) const;
  // Truth about a load that a node believes: how long ago it was really measured.
  SimTime true_age(const cluster::LoadRecord& load) const;

  struct Findings {
    uint64_t false_deaths = 0;  // different (node, incarnation) called dead while up and reachable
    uint64_t false_death_reports = 0;  // by how many nodes in all
    uint64_t resurrections = 0;
    uint64_t events = 0;
    std::vector<std::string> log;  // the first few
  };
  const Findings& findings() const { return findings_; }

  static constexpr NodeIndex kNoNode = UINT32_MAX;

 private:
  struct Node;
  struct Pool;
  struct Flight {
    cluster::Address from;
    std::vector<uint8_t> bytes;
  };
  // What a node's kernel tells it about another: a knock's answer, or that a connection has ended.
  struct Word {
    cluster::NodeId about;
    cluster::KnockAnswer answer;
    bool lost = false;
  };

  void stop(NodeIndex node, bool power);
  void end_connections(NodeIndex node);
  void hear(NodeIndex node, Word word);
  NodeIndex make_node();
  void boot(NodeIndex node);
  cluster::Time clock_of(const Node& node, SimTime at) const;
  SimTime from_clock(const Node& node, cluster::Time at) const;
  void handle(const SimEvent& event);
  void deliver(NodeIndex node, uint32_t flight);
  void receive(NodeIndex node, const Flight& flight, SimTime queued);
  void wake(NodeIndex node, SimTime at);
  void tick(NodeIndex node);
  void service(uint32_t pool);
  void drain(NodeIndex node);
  bool read_one(NodeIndex node);
  void enlist(NodeIndex node);
  void carry_out(NodeIndex node);
  void send(NodeIndex from, NodeIndex to, cluster::Bytes datagram);
  void knock(NodeIndex from, const cluster::Effects::Knock& knock);
  void note(NodeIndex observer, const cluster::Event& event);
  void schedule(NodeIndex node);
  void measure_load(NodeIndex node);
  uint32_t new_flight();

  WorldOptions options_;
  cluster::Random random_;
  SimTime now_ = 0;
  EventQueue queue_;
  PlainCipher cipher_;
  cluster::CipherKey key_{};
  cluster::Directory directory_;
  cluster::Effects effects_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::unordered_map<cluster::Address, NodeIndex> by_address_;
  std::unordered_map<uint64_t, NodeIndex> by_key_;
  std::vector<Flight> flights_;
  std::vector<uint32_t> free_flights_;
  std::vector<Word> words_;
  std::vector<std::unique_ptr<Pool>> pools_;
  SimTime cpu_since_ = 0;
  SimTime partitioned_until_ = 0;
  bool partitioned_ = false;
  uint32_t next_ip_ = 0x0a000001;
  Observer observer_;
  std::function<void(NodeIndex, const cluster::Address&, cluster::Bytes)> tap_;
  Findings findings_;
  std::unordered_map<uint64_t, uint32_t> false_seen_;         // key: highest incarnation
  std::unordered_map<uint64_t, uint32_t> dead_incarnations_;  // observer and node
};

}  // namespace tess::sim
