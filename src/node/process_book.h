// ProcessBook: what this node knows about the processes that placement may move: those that run
// here (own and guests), measured once a second, and those whose home is here, wherever they run.
// Learnt from the agents' statuses; a plain store, decides nothing. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "cluster/placement/decision.h"
#include "cluster/placement/picture.h"
#include "node/agent_hub.h"
#include "node/placement_wire.h"
#include "node/process_meter.h"

namespace tess::node {

// How a process is known between nodes.
struct ProcessName {
  cluster::NodeId home;
  uint64_t job = 0;
  int32_t inner_pid = 0;

  placement::ProcessKey key() const { return process_key(home, job, inner_pid); }
};
wire::ProcessRef to_wire(const ProcessName& name);
ProcessName from_wire(const wire::ProcessRef& ref);

// One that runs here.
struct Resident {
  ProcessName name;
  pid_t pid = 0;  // of the process, or of the body
  bool guest = false;
  bool moving = false;
  std::string home_node;
  std::string command;
  placement::Time since{};
  bool facts_known = false;  // a guest: its home has said what belongs to it
  bool movable = false;
  std::string immovable_because;
  placement::Time not_before{};  // a move has failed: it is not tried again until then
  placement::Duration pause{0};
  std::string failed_because;
  wire::Wishes wishes;
  Carried carried;  // up to `since`

  // Measured.
  ProcessUse first;
  ProcessUse last;
  placement::Time measured_at{};
  double demand = 1;  // of one that nothing is known about yet
  double growth = 0;
  double calls = 0;        // a second
  double work = 0;         // reference seconds a second
  double cores = 0;        // CPU seconds a second, over the last few
  double cpu_here = 0;     // reference seconds since `since`
  double wanted_here = 0;  // seconds
};

// What the wishes that name nodes come to.
void resolve_nodes(const wire::Wishes& wishes,
                   const std::function<cluster::NodeId(const std::string&, const std::string&)>& of,
                   placement::Wishes& out);

// One whose home is here.
struct OwnProcess {
  ProcessName name;
  pid_t pid = 0;
  std::string command;
  std::string place;      // the node where it runs
  std::string came_from;  // where it ran before; empty: nowhere else
  bool moving = false;
  bool managed = false;  // the cluster may move it
  bool put_by_hand = false;
  uint64_t cpu_hosts_ns = 0;
  placement::Time place_since{};
  bool carried_is_told = false;  // the host said what it used there
  wire::Wishes wishes;
  Carried carried;  // up to the last move
  placement::MoveLog log;
};

class ProcessBook {
 public:
  // The node that is meant by a name; `id`: who had that name when it was said, or empty. It may
  // be called otherwise by now.
  using IdOf = std::function<cluster::NodeId(const std::string& node, const std::string& id)>;
  struct Changes {
    std::vector<placement::ProcessKey> came;   // guests that were not here before
    std::vector<placement::ProcessKey> moved;  // own processes at another node than before
  };

  ProcessBook(std::string node_name, const cluster::NodeId& self)
      : node_name_(std::move(node_name)), self_(self) {}

  Changes update(const std::vector<std::shared_ptr<Agent>>& agents, placement::Time now,
                 const IdOf& id_of);
  // `speed`: of this node's cores, whatever its quota.
  void measure(placement::Time now, uint32_t speed);
  // Pictures borrow from the book: until it changes. A node that is drained keeps no guest for what
  // people want of it.
  std::vector<placement::ProcessPicture> pictures(placement::Time now, const IdOf& id_of,
                                                  bool draining) const;

  Resident* resident(const placement::ProcessKey& key);
  OwnProcess* own(const placement::ProcessKey& key);
  OwnProcess* own_by_pid(pid_t pid);
  std::map<placement::ProcessKey, Resident>& residents() { return residents_; }
  std::map<placement::ProcessKey, OwnProcess>& owns() { return owns_; }
  std::unordered_map<pid_t, bool> resident_pids() const;
  size_t guests() const;

  // What one that runs here takes along if it goes now.
  Carried carried_now(const Resident& resident) const;
  // The words of its home about a guest.
  void set_facts(const wire::GuestFacts& facts, placement::Time now);
  static wire::GuestFacts facts_of(const OwnProcess& process, placement::Time now);
  static std::string why_immovable(const OwnProcess& process);

 private:
  void update_home(const Agent& agent, const wire::JobProcess& process, placement::Time now,
                   Changes& changes);
  void update_guest(const Agent& agent, const wire::JobProcess& process, placement::Time now,
                    const IdOf& id_of, Changes& changes);
  void measure_one(Resident& resident, placement::Time now, uint32_t speed);

  std::string node_name_;
  cluster::NodeId self_;
  std::map<placement::ProcessKey, Resident> residents_;
  std::map<placement::ProcessKey, OwnProcess> owns_;
  std::map<placement::ProcessKey, wire::GuestFacts> early_facts_;  // of guests not seen yet
  std::map<placement::ProcessKey, bool> seen_;                     // in the update in progress
};

}  // namespace tess::node
