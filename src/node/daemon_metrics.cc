// Daemon: what it tells Prometheus.
#include "base/log.h"
#include "node/daemon.h"
#include "node/metrics.h"
#include "node/version.h"

namespace tess::node {
namespace {

// Series that are there from the start, so that a rate over the first event is right.
void add_moves(MetricsSnapshot& snapshot, const Placer::MoveCounts& counts) {
  using placement::Cause;
  using placement::Outcome;
  for (int cause = 0; cause <= static_cast<int>(Cause::kPerson); ++cause) {
    for (const Outcome outcome : {Outcome::kMoved, Outcome::kRefused, Outcome::kFailed}) {
      const auto found = counts.find({static_cast<Cause>(cause), outcome});
      snapshot.moves[{placement::to_text(static_cast<Cause>(cause)), placement::to_text(outcome)}] =
          found == counts.end() ? 0 : found->second;
    }
  }
}

void add_membership(MetricsSnapshot& snapshot, const cluster::Membership& membership) {
  using cluster::Count;
  using cluster::Drop;
  using cluster::Kind;
  snapshot.health_score = membership.health_score();
  snapshot.datagrams_received = membership.count(Count::kPacketsIn);
  snapshot.datagram_bytes_sent = membership.count(Count::kBytesOut);
  for (size_t i = 0; i < cluster::kCountCount; ++i) {
    const auto what = static_cast<Count>(i);
    if (what != Count::kPacketsIn && what != Count::kPacketsOut && what != Count::kBytesOut) {
      snapshot.membership[cluster::to_text(what)] = membership.count(what);
    }
  }
  for (size_t i = 0; i < cluster::kDropCount; ++i) {
    const auto why = static_cast<Drop>(i);
    snapshot.datagrams_dropped[cluster::to_text(why)] = membership.dropped(why);
  }
  for (size_t i = static_cast<size_t>(Kind::kPing); i < cluster::kKindEnd; ++i) {
    const auto kind = static_cast<Kind>(i);
    snapshot.datagrams_sent[cluster::to_text(kind)] = membership.sent(kind);
  }
}

}  // namespace

Result<> Daemon::start_metrics() {
  metrics_.reset();
  if (!config_.metrics) {
    return {};
  }
  TESS_TRY_ASSIGN(metrics_, MetricsServer::listen(loop_, *config_.metrics,
                                                  [this] { return collect_metrics(); }));
  log::info("node", "event=metrics url=http://{}/metrics", config_.metrics->to_string());
  return {};
}

std::string Daemon::collect_metrics() const {
  MetricsSnapshot snapshot;
  snapshot.node = config_.name;
  snapshot.version = kVersion;
  snapshot.load = placer_->load();
  add_moves(snapshot, placer_->move_counts());
  add_membership(snapshot, gossip_->membership());
  for (const auto state : {cluster::MemberState::kAlive, cluster::MemberState::kSuspect,
                           cluster::MemberState::kDead, cluster::MemberState::kLeft}) {
    snapshot.members[cluster::to_text(state)] = 0;
  }
  for (const auto& member : gossip_->view().members) {
    ++snapshot.members[cluster::to_text(member.state)];
    if (const auto measured = placer_->bandwidth_to(member).measured) {
      snapshot.peer_rates[member.name] = static_cast<uint64_t>(measured->rate);
    }
  }
  const Placer::AllTransfers& all = placer_->transfers();
  snapshot.transfers = {{"sent", {all.sent.bytes, all.sent.seconds}},
                        {"received", {all.received.bytes, all.received.seconds}}};
  for (const auto& node : cluster_->nodes()) {
    snapshot.peers_connected += node.up ? 1 : 0;
  }
  snapshot.agents = {{"home", 0}, {"host", 0}};
  snapshot.processes = {{"native", 0}, {"deputy", 0}, {"moving", 0}, {"guest", 0}};
  for (const auto& agent : hub_->all()) {
    const bool host = agent->role == wire::Register::HOST;
    ++snapshot.agents[host ? "host" : "home"];
    for (const auto& process : agent->status.process()) {
      ++snapshot.processes[host ? "guest" : process.state()];
    }
  }
  measure_self(snapshot);
  return metrics_text(snapshot);
}

}  // namespace tess::node
