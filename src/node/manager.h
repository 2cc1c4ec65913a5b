// Manager: `tess manage` on this node: finds the processes that nobody started under Tessera but
// that the rules cover and that have wanted much CPU lately, and makes candidates of placement of
// them: each is shown to the ProcessBook like the one process of a job at home. Nothing is done to
// it, and it has no agent, until it is moved; an agent that has brought it home ends, and it is a
// candidate as before. What becomes of a process away is its agent's: losing this object loses
// nothing. Loop thread only.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "node/agent_hub.h"
#include "node/job_id.h"
#include "node/manage_rules.h"
#include "node/process_activity.h"

namespace tess::node {

class Manager {
 public:
  Manager(const std::string& state_dir, AgentHub& hub) : hub_(hub), rules_(state_dir) {}

  Result<> load() { return rules_.load(); }
  const ManageRules& rules() const { return rules_; }
  // Processes that no rule covers any more are brought home.
  Result<> add(const ManageRule& rule);
  Result<> remove(const ManageRule& rule, uid_t by);

  // Once a second, with what each process of the machine has wanted so far.
  void look(cluster::Time now, const std::unordered_map<pid_t, uint64_t>& wanted_ns);

  // Those without an agent of their own, as if they had one.
  void add_candidates(std::vector<std::shared_ptr<Agent>>& agents) const;
  // How an agent that is started for this process is to be started; nullopt: it is no candidate.
  struct Hold {
    uint64_t job = 0;
    std::string note;
  };
  std::optional<Hold> hold_of(pid_t pid) const;
  // Starts the agent of a candidate, by its job, if it is still the same process and nothing speaks
  // against it by now. False: it is no candidate's job.
  bool take(uint64_t job, const std::function<void(const Result<>&)>& then);

  // One that was looked at, for people.
  struct Watched {
    pid_t pid = 0;
    uid_t uid = 0;
    std::string command;
    std::string rule;
    std::string excluded;  // why it is left alone; empty: a candidate
    std::string node;      // where it runs; empty: here
  };
  std::vector<Watched> watched() const;
  // Sentences about a process that is in no job of `tess run`; empty for one that is.
  std::vector<std::string> explain(pid_t pid) const;

  // The note of such an agent.
  static std::string note();

 private:
  struct Busy {
    Subject subject;
    std::string rule;
    std::string excluded;
    cluster::Time read_at{};
    std::shared_ptr<Agent> stand_in;  // candidates only
  };

  void consider(pid_t pid, cluster::Time now);
  std::shared_ptr<Agent> make_stand_in(const Subject& subject);
  std::optional<Subject> look_at(pid_t pid) const;
  bool is_of_tessera(const Subject& subject) const;
  void rules_changed();
  // Adopted jobs that no rule covers: home.
  void review();
  bool covered(const Agent& agent) const;
  void bring_home(const std::shared_ptr<Agent>& agent);
  size_t candidates() const;

  AgentHub& hub_;
  ManageRules rules_;
  ProcessActivity activity_;
  JobIds job_ids_;
  std::map<pid_t, Busy> busy_;
  // Of adopted jobs: whether a rule covers them, once looked at.
  struct Adopted {
    bool covered = true;
    bool returning = false;
    unsigned wait = 0;  // looks until it is asked again
  };
  std::map<uint64_t, Adopted> adopted_;
};

}  // namespace tess::node
