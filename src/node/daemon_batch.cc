// Daemon: what the queue of batch jobs needs to know of the cluster.
#include "base/log.h"
#include "node/daemon.h"

namespace tess::node {

// A registry that cannot be read stops batch jobs only: everything else goes on without it.
void Daemon::start_batch() {
  auto started = BatchService::start(
      loop_, {config_.name, paths_.state_dir, paths_.run_dir, paths_.agent_binary},
      {[this] { return rooms(); }, [this](pid_t pid) { return place_of(pid); }});
  if (!started) {
    log::error("node", "event=no_batch reason=\"{}\"", started.error().message());
    api_->set_no_batch("no batch jobs on this node: " + started.error().message());
    return;
  }
  batch_ = std::move(*started);
  api_->attach(*batch_);
}

std::vector<batch::NodeRoom> Daemon::rooms() const {
  std::vector<batch::NodeRoom> rooms;
  for (const auto& member : gossip_->view().members) {
    if (member.state != cluster::MemberState::kAlive || !member.has_load) {
      continue;
    }
    const cluster::LoadRecord& load = member.load;
    batch::NodeRoom room;
    room.name = member.name;
    room.id = member.id.text();
    room.home = member.id == gossip_->id();
    // Guests go only where guests are welcome, and where this node can send them.
    room.usable =
        !load.draining &&
        (room.home || (load.accepting && !load.owner_active && cluster_->check_up(member.name)));
    const double share = room.home ? 1 : 1 - load.reserved_permille / 1000.0;
    room.cpus = std::max<double>(load.threads, load.cores) * share;
    room.runnable = load.runnable + static_cast<double>(load.incoming);
    room.memory_bytes = load.memory_bytes;
    room.memory_free_bytes = load.memory_free_bytes;
    rooms.push_back(std::move(room));
  }
  return rooms;
}

std::string Daemon::place_of(pid_t pid) const {
  const auto agent = hub_->home_of(pid);
  if (agent == nullptr) {
    return {};
  }
  for (const auto& process : agent->status.process()) {
    if (process.pid() == pid) {
      return process.node().empty() ? config_.name : process.node();
    }
  }
  return {};
}

}  // namespace tess::node
