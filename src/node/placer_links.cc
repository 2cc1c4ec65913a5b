// What is known of the links to the other nodes: by what these say of them, and by transfers of
// memory that agents here have measured.
#include "node/placer.h"

namespace tess::node {
namespace {

constexpr double kNanosecond = 1e-9;

}  // namespace

// Of the node itself, by which it speaks to the others.
uint32_t Placer::own_link_mbit() {
  if (!link_speed_.due(Gossip::now())) {
    return link_speed_.mbit();
  }
  const auto view = gossip_->view();
  std::string own;
  std::string peer;
  for (const auto& member : view.members) {
    if (member.id == view.self) {
      own = member.address;
    } else if (member.state == cluster::MemberState::kAlive && peer.empty()) {
      peer = member.address;
    }
  }
  return link_speed_.read(Gossip::now(), own, peer);
}

void Placer::on_transfer(const Agent& agent, const wire::Transfer& transfer) {
  const double seconds = static_cast<double>(transfer.flow_ns()) * kNanosecond;
  Transfers& all = transfer.sent() ? transfers_.sent : transfers_.received;
  all.bytes += transfer.flow_bytes();
  all.seconds += seconds;
  if (gossip_ == nullptr || transfer.flow_ns() == 0) {
    return;
  }
  if (transfer.sent()) {
    const bool ours = agent.role == wire::Register::HOME;
    const auto home = ours ? gossip_->id() : id_of(agent.home_node);
    balancer_->transferred(process_key(home, agent.job, transfer.inner_pid()), seconds);
  }
  const auto view = gossip_->view();
  if (const auto* peer = view.find(id_of(transfer.node())); peer != nullptr) {
    link_rates_.note(Gossip::now(), peer->id, placement::link_between(load_, peer->load, policy_),
                     transfer.flow_bytes(), seconds);
  }
}

void Placer::add_bandwidths(std::vector<placement::NodePicture>& nodes) const {
  const auto now = Gossip::now();
  for (placement::NodePicture& node : nodes) {
    node.bandwidth =
        link_rates_.expected(now, node.id, placement::link_between(load_, node.load, policy_));
  }
}

Placer::Bandwidth Placer::bandwidth_to(const cluster::MemberView& member) const {
  const auto now = Gossip::now();
  const placement::Link link = placement::link_between(load_, member.load, policy_);
  return {link_rates_.expected(now, member.id, link), link_rates_.measured(now, member.id, link)};
}

}  // namespace tess::node
