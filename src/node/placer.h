// Placer: decides, together with the placers of the other nodes, where processes run
// (cluster/placement), and has them moved. Once a second it measures, publishes this node's load,
// and looks whether anything that runs here should be elsewhere; the target is asked first; the
// process's home moves it (through its agent) and keeps the record. With balance off only those
// that must leave (a drain) are moved. Loop thread only.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "cluster/placement/admission.h"
#include "cluster/placement/balancer.h"
#include "cluster/placement/exec_placement.h"
#include "cluster/placement/explain.h"
#include "cluster/placement/link_rates.h"
#include "node/agent_hub.h"
#include "node/cluster.h"
#include "node/gossip.h"
#include "node/link_speed.h"
#include "node/load_meter.h"
#include "node/manager.h"
#include "node/owner_watch.h"
#include "node/process_book.h"

namespace tess::node {

class Placer {
 public:
  struct Options {
    std::string node_name;
    std::string state_dir;
    bool balance = true;
    OwnerKind owner = OwnerKind::kOff;
    OwnerRule::Options owner_rule = {};
    double reserve = 0;
  };
  using Reply = std::function<void(const wire::ClusterMessage&)>;

  Placer(net::Loop& loop, Options options, AgentHub& hub, Cluster& cluster);
  ~Placer();

  // Who else is to be moved than jobs; outlives this.
  void attach(Manager& manager) { manager_ = &manager; }

  // The load to be known by from the first moment on.
  cluster::LoadRecord first_load();
  // Begins the rounds; `gossip` outlives this.
  void start(Gossip& gossip);
  // An agent has said something new about its processes. Looked at soon, once for many.
  void on_status();
  // An agent has sent memory to another node, or got it from one (placer_links.cc).
  void on_transfer(const Agent& agent, const wire::Transfer& transfer);
  // Another node (by the name of its certificate) asks. False: not one of this object's questions.
  bool answer(const wire::ClusterMessage& message, const std::string& asker, const Reply& reply);

  // Where a program that `pid` is about to execute belongs; empty: here. Comes within seconds.
  void place_new(uint64_t job, pid_t pid, const wire::Wishes& wishes,
                 std::function<void(const std::string& node)> then);
  // The same for one that an agent holds at an exec. Answered at once as long as there is a free
  // CPU here.
  void place_program(const Agent& agent, const wire::PlaceProgram& ask,
                     std::function<void(const std::string& node)> then);
  // A person moved this process: it stays there.
  void moved_by_hand(pid_t pid, const std::string& node);

  void set_balance(bool on) { options_.balance = on; }
  bool balance() const { return options_.balance; }
  // Takes no guests and sends away those it has, also after a restart.
  Result<> set_draining(bool on);
  // Takes the values of a new configuration.
  void set_owner(OwnerKind owner, const OwnerRule::Options& rule, double reserve);
  bool draining() const { return draining_; }
  const placement::Policy& policy() const { return policy_; }
  void set_policy(const placement::Policy& policy);

  struct Told {
    std::vector<std::string> why_here;
    std::vector<std::string> would_move;
    std::vector<std::string> last_moves;
  };
  // Why a process whose home is here is where it is; empty lists if it is in no job.
  void explain(pid_t pid, std::function<void(const Told&)> then);
  // What the person who started a process at home here wants, that speaks against its being at
  // `node`; empty: nothing.
  std::string wish_against(pid_t pid, const std::string& node) const;
  // How many decisions for which cause ended how, since tessd started: moved and failed at a
  // process's home, refused where it runs.
  using MoveCounts = std::map<std::pair<placement::Cause, placement::Outcome>, uint64_t>;
  const MoveCounts& move_counts() const { return move_counts_; }
  // As measured last.
  const cluster::LoadRecord& load() const { return load_; }
  // Memory that agents here have sent and received, since tessd started.
  struct Transfers {
    uint64_t bytes = 0;  // on the wire
    double seconds = 0;
  };
  struct AllTransfers {
    Transfers sent, received;
  };
  const AllTransfers& transfers() const { return transfers_; }
  // Bytes per second to another node: what decisions count on, and what was seen.
  struct Bandwidth {
    double expected = 0;
    std::optional<placement::LinkRates::Measured> measured;
  };
  Bandwidth bandwidth_to(const cluster::MemberView& member) const;
  // Adds what is known here of the processes of the table: placer_notes.cc.
  void add_notes(wire::JobTable& table) const;
  // Moves of processes whose home is here, newest last.
  const std::deque<placement::LoggedMove>& history() const { return history_; }
  static std::string note_of(const wire::Wishes& wishes);
  // Who has that name now, for those who keep it; and what somebody is called now who had the name
  // then.
  std::string id_bytes_of(const std::string& node) const { return to_wire(ids()(node, "")); }
  std::string name_now(const std::string& node, const std::string& id) const;

 private:
  // What one round sees: it owns what the pictures borrow.
  struct View {
    cluster::ClusterView cluster;
    std::vector<placement::ProcessPicture> residents;
    std::vector<placement::NodePicture> candidates;
    placement::Local local;
    size_t cluster_size = 1;
  };
  struct Gathering;  // placer_exec.cc

  cluster::NodeId id_of(const std::string& node) const;
  std::string name_of(const cluster::NodeId& id) const;
  ProcessBook::IdOf ids() const;

  void tick();
  void watch_owner();
  void look_for_owner();
  void update_book();
  void tell_all_facts();
  void look();
  void decide();
  void take_view(View& view) const;
  uint32_t own_link_mbit();
  void add_bandwidths(std::vector<placement::NodePicture>& nodes) const;
  placement::Round round_of(const View& view) const;
  std::string explain_here(const placement::ProcessKey& key, Told& told) const;

  // The moves of processes that run here (placer_moves.cc).
  void send(const placement::PlannedMove& move);
  void answered(const placement::PlannedMove& move, const ProcessName& name,
                const Result<wire::ClusterMessage>& answer);
  void carry_out(const placement::PlannedMove& move, const ProcessName& name);
  void ended(const placement::PlannedMove& move, const ProcessName& name, const Result<>& result);
  void call_off(const std::string& node, const ProcessName& name);
  // Of a process whose home is here.
  void move_own(const ProcessName& name, const placement::Decision& decision,
                std::function<void(const Result<>&)> done);
  void own_moved(const ProcessName& name, const placement::Decision& decision,
                 const Result<>& result);
  void tell_facts(const OwnProcess& process);
  // Of a new program (placer_exec.cc).
  void choose(const std::shared_ptr<Gathering>& gathering);
  void gather(const std::shared_ptr<Gathering>& gathering);
  void look_closely(View& view);

  wire::ClusterMessage answer_ask(const wire::PlaceAsk& ask, const std::string& asker);
  void answer_move(const wire::MoveGuest& message, const std::string& asker, const Reply& reply);
  wire::ClusterMessage answer_explain(const wire::ProcessRef& process);

  net::Loop& loop_;
  Options options_;
  AgentHub& hub_;
  Cluster& cluster_;
  Gossip* gossip_ = nullptr;
  Manager* manager_ = nullptr;
  LoadMeter meter_;
  LinkSpeed link_speed_;
  placement::Policy policy_;
  placement::LinkRates link_rates_;
  AllTransfers transfers_;
  std::unique_ptr<ProcessBook> book_;
  std::unique_ptr<placement::Balancer> balancer_;
  placement::Admission admission_;
  placement::Random random_;
  net::Timer timer_;
  cluster::LoadRecord load_;  // as measured last
  double others_ = 0;
  double memory_growth_ = 0;
  bool draining_ = false;
  OwnerRule owner_rule_;
  bool owner_present_ = false;
  std::unique_ptr<OwnerWatch> owner_watch_;
  int rounds_again_ = 0;
  unsigned rounds_ = 0;
  bool update_posted_ = false;
  std::deque<placement::LoggedMove> history_;
  MoveCounts move_counts_;
  // Of programs placed at exec whose job has not begun yet.
  std::map<placement::ProcessKey, placement::LoggedMove> early_log_;
};

}  // namespace tess::node
