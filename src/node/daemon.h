// Daemon: tessd, wired together: control socket, agents, the other nodes. It holds no process's
// fate: it may crash or be replaced at any time while jobs run. A clean stop first brings all
// guests home to their nodes and all own processes back here. Loop thread only.
#pragma once

#include <chrono>
#include <memory>
#include <set>
#include <string>

#include "net/loop.h"
#include "node/admission.h"
#include "node/agent_hub.h"
#include "node/batch_service.h"
#include "node/ca_renewal.h"
#include "node/certificate_renewal.h"
#include "node/charter_keeper.h"
#include "node/cluster.h"
#include "node/config.h"
#include "node/control_api.h"
#include "node/control_server.h"
#include "node/gossip.h"
#include "node/manager.h"
#include "node/metrics_server.h"
#include "node/node_rename.h"
#include "node/placer.h"
#include "node/proc_info.h"
#include "node/settings.h"

namespace tess::node {

struct DaemonPaths {
  std::string state_dir;
  std::string run_dir;
  std::string config;
  std::string agent_binary;
};

class Daemon {
 public:
  static Result<std::unique_ptr<Daemon>> start(net::Loop& loop, const DaemonPaths& paths);
  ~Daemon();

  // Reads configuration and certificates again; on a mistake everything stays as it was.
  void reload();
  // Brings guests home, then stops the loop. A second call does not wait.
  void stop();
  // A stop after which tessd is to be started again: this node has another name.
  void restart();
  bool restarts() const { return restarts_; }

 private:
  Daemon(net::Loop& loop, DaemonPaths paths, Config config, net::TlsContext context);
  Result<> lock_run_dir();
  Result<> start_gossip();
  // What was set while tessd ran goes before the configuration.
  void apply_settings();
  // daemon_metrics.cc
  Result<> start_metrics();
  std::string collect_metrics() const;
  void start_batch();
  std::vector<batch::NodeRoom> rooms() const;
  std::string place_of(pid_t pid) const;
  // The nodes of the configuration and those that gossip knows: who to be connected with.
  std::vector<NodeEntry> known_nodes() const;
  // What admission has to know of the cluster (daemon_join.cc).
  Admission::Environment admission_environment();
  NameUse name_use(const std::string& name) const;
  std::vector<NodeEntry> seeds(const std::string& local_address) const;
  // The cluster has a new charter: keys, and who belongs to it no more (daemon_join.cc).
  void heed_charter();
  void on_charter(const net::Charter& charter);
  void use_certificate();
  void apply_expulsion(const net::Charter::Expelled& one);
  bool answer_other(const wire::ClusterMessage& message, const std::string& asker,
                    const Placer::Reply& reply);
  void on_member(const cluster::Event& event);
  wire::NodeInfo node_info();
  wire::JobTable job_table() const;
  wire::HostPrepared prepare_host(const wire::PrepareHost& request, const std::string& asker,
                                  const std::string& local_address);
  void need_host(const Agent& agent, const wire::NeedHost& need,
                 const std::function<void(const wire::HostPrepared&)>& reply);
  bool anything_away() const;
  void recall(const std::shared_ptr<Agent>& agent, const std::shared_ptr<size_t>& left);
  void finish_stop(bool all_home);

  net::Loop& loop_;
  DaemonPaths paths_;
  Config config_;
  Settings settings_;
  sys::Fd pid_file_;
  ClusterService service_;
  Admission admission_;
  std::unique_ptr<AgentHub> hub_;
  std::unique_ptr<Manager> manager_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<CharterKeeper> charter_;
  std::unique_ptr<CertificateRenewal> renewal_;
  std::unique_ptr<CaRenewal> ca_renewal_;
  std::unique_ptr<NodeRename> rename_;
  std::unique_ptr<Gossip> gossip_;
  std::unique_ptr<Placer> placer_;
  std::unique_ptr<BatchService> batch_;
  std::unique_ptr<ControlApi> api_;
  std::unique_ptr<ControlServer> control_;
  std::unique_ptr<MetricsServer> metrics_;
  std::set<net::Charter::NodeId> expulsions_applied_;
  std::string cpu_features_;
  MachineFacts facts_;
  std::chrono::steady_clock::time_point facts_at_{};
  bool stopping_ = false;
  bool restarts_ = false;
};

}  // namespace tess::node
