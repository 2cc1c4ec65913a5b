// ControlApi: what `tess` can ask for (docs/control-api.md): who may, which agent or node has to do
// it, and the answers in JSON. Every refusal is a code for programs and a sentence for people. Loop
// thread only.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "node/admission.h"
#include "node/agent_hub.h"
#include "node/batch_service.h"
#include "node/ca_renewal.h"
#include "node/certificate_renewal.h"
#include "node/charter_keeper.h"
#include "node/cluster.h"
#include "node/control_server.h"
#include "node/gossip.h"
#include "node/job_id.h"
#include "node/manager.h"
#include "node/node_rename.h"
#include "node/placer.h"
#include "node/proc_info.h"
#include "node/settings.h"
#include "node/start_queue.h"

namespace tess::node {

class ControlApi {
 public:
  struct Options {
    std::string node_name;
    std::string version;
    std::string address;
  };

  ControlApi(net::Loop& loop, Options options, AgentHub& hub, Cluster& cluster,
             const ClusterService& service, Admission& admission, CharterKeeper& charter,
             std::function<void()> stop);
  ~ControlApi();

  // Once they are there; they outlive this.
  // `apply` makes what `settings` say take effect.
  void attach(const Gossip& gossip, Placer& placer, Settings& settings,
              std::function<void()> apply) {
    gossip_ = &gossip;
    placer_ = &placer;
    settings_ = &settings;
    apply_settings_ = std::move(apply);
  }
  void attach(BatchService& batch) { batch_ = &batch; }
  void attach(Manager& manager) { manager_ = &manager; }
  void attach(CertificateRenewal& renewal, CaRenewal& ca_renewal, NodeRename& rename) {
    renewal_ = &renewal;
    ca_renewal_ = &ca_renewal;
    rename_ = &rename;
  }
  // There are no batch jobs on this node, for that reason.
  void set_no_batch(std::string why) { no_batch_ = std::move(why); }

  // One request line.
  void handle(const Caller& caller, const std::string& line, std::shared_ptr<ControlReply> reply);
  // Another node (by the name of its certificate) asks. False: not one of this object's questions.
  bool answer(const wire::ClusterMessage& message, const std::string& asker,
              const std::function<void(const wire::ClusterMessage&)>& reply);
  // What an agent says about a job goes to those who wait for it.
  void on_job_log(const Agent& agent, const wire::JobLog& entry);
  // Another process is about to share memory with that one, which works only at home. `done` when
  // it is there; also if it has ended, or no job of ours has it.
  void fetch_home(pid_t pid, std::function<void(const Result<>&)> done);
  // From now on nothing new is started here.
  void set_stopping() { stopping_ = true; }

 private:
  struct Request;
  struct JobStart;
  using RequestPtr = std::shared_ptr<Request>;
  using WithAgent = std::function<void(Result<std::shared_ptr<Agent>>, bool fresh)>;

  using AgentAnswered =
      std::function<void(const std::shared_ptr<Agent>&, bool fresh, const wire::AgentUp& answer)>;

  void op_ping(const RequestPtr& request);
  void op_nodes(const RequestPtr& request);
  nlohmann::json nodes_json() const;
  void op_why(const RequestPtr& request);
  void op_migrate(const RequestPtr& request);
  void op_run(const RequestPtr& request);
  void begin_job(const RequestPtr& request, const std::shared_ptr<JobStart>& start);
  void announce_job(const JobStart& start);
  void start_job(const RequestPtr& request, const std::shared_ptr<JobStart>& start);
  bool is_starting(uint64_t job, pid_t pid) const;

  // control_processes.cc
  void op_ps(const RequestPtr& request);
  void gather_ps(const RequestPtr& request);
  void send_ps(const RequestPtr& request, const std::vector<wire::JobTable>& others);
  void op_kill(const RequestPtr& request);
  void op_bring_home(const RequestPtr& request);
  void forward(const RequestPtr& request, const std::string& node);

  // control_placement.cc
  void op_log(const RequestPtr& request);
  void op_best(const RequestPtr& request);
  void op_drain(const RequestPtr& request);
  void op_set(const RequestPtr& request);

  // control_manage.cc
  void op_manage(const RequestPtr& request);
  nlohmann::json managed_json(uid_t caller) const;

  // control_join.cc
  void op_token(const RequestPtr& request);
  void op_token_list(const RequestPtr& request);
  void op_token_revoke(const RequestPtr& request);
  void op_pending(const RequestPtr& request);
  void op_approve(const RequestPtr& request);
  void op_expel(const RequestPtr& request);
  void op_rotate_key(const RequestPtr& request);
  void op_rotate_certificate(const RequestPtr& request);
  void op_rotate_ca(const RequestPtr& request);
  void op_rename(const RequestPtr& request);
  void op_leave(const RequestPtr& request);
  std::vector<net::Charter::Expelled> bearers_of(const std::string& name) const;
  bool check_ca(const RequestPtr& request);

  void add_placement(const RequestPtr& request, pid_t pid, nlohmann::json told);
  Result<wire::Wishes> read_wishes(const RequestPtr& request, const std::string& node) const;
  static bool check_root(const RequestPtr& request);

  // control_batch.cc
  void op_batch_submit(const RequestPtr& request);
  void op_batch_list(const RequestPtr& request);
  void op_batch_show(const RequestPtr& request);
  void op_batch_cancel(const RequestPtr& request);
  void op_batch_hold(const RequestPtr& request);
  void op_batch_release(const RequestPtr& request);
  void op_batch_wait(const RequestPtr& request);
  bool batch_ready(const RequestPtr& request) const;
  void hold_job(const RequestPtr& request, bool on);
  std::optional<uint64_t> batch_job(const RequestPtr& request, const nlohmann::json& number) const;

  // The process named in the request, if it exists and the caller may touch it; else answers and is
  // nullopt.
  std::optional<pid_t> target(const RequestPtr& request);
  bool check_node(const RequestPtr& request, const std::string& node);
  void with_home_agent(pid_t pid, WithAgent then);
  // A request to the home agent of `pid`. An agent that has nothing left to hold may just be ending
  // when it is asked: then a new one is.
  void ask_home_agent(const RequestPtr& request, pid_t pid, const wire::AgentDown& ask,
                      std::chrono::milliseconds timeout, AgentAnswered answered);
  void ask_why(const RequestPtr& request, pid_t pid, const std::string& node);
  void ask_migrate(const RequestPtr& request, pid_t pid, const std::string& node, bool home);

  net::Loop& loop_;
  Options options_;
  AgentHub& hub_;
  Cluster& cluster_;
  const ClusterService& service_;
  Admission& admission_;
  CharterKeeper& charter_;
  std::function<void()> stop_;  // tessd, in order
  const Gossip* gossip_ = nullptr;
  Placer* placer_ = nullptr;
  Settings* settings_ = nullptr;
  Manager* manager_ = nullptr;
  CertificateRenewal* renewal_ = nullptr;
  CaRenewal* ca_renewal_ = nullptr;
  NodeRename* rename_ = nullptr;
  std::function<void()> apply_settings_;
  BatchService* batch_ = nullptr;
  std::string no_batch_ = "tessd is just starting";
  JobIds job_ids_;
  StartQueue starts_;
  std::multimap<uint64_t, std::weak_ptr<ControlReply>> listeners_;  // by job
  bool stopping_ = false;
};

}  // namespace tess::node
