#include "cluster/placement/picture.h"

#include <algorithm>

#include "cluster/placement/cost.h"

namespace tess::placement {
namespace {
// How slow a newcomer would be there, as far as known.
double attraction(const NodePicture& node, const Policy& policy) {
  const Place place = place_of(node.load, policy, true);
  return slowness(place, place.runnable + 1);
}

void take_random(std::vector<size_t>& from, size_t count, std::vector<bool>& taken, Random& random,
                 const std::vector<NodePicture>& nodes, std::vector<NodePicture>& out) {
  while (count > 0 && !from.empty()) {
    std::swap(from[random.below(from.size())], from.back());
    const size_t index = from.back();
    from.pop_back();
    if (!taken[index]) {
      taken[index] = true;
      out.push_back(nodes[index]);
      --count;
    }
  }
}
}  // namespace

double life_speed(const ProcessPicture& process) {
  return process.wanted <= 0 ? 1 : process.cpu_used / process.wanted;
}

double Local::runnable() const {
  double sum = unmanaged_runnable;
  for (const ProcessPicture& process : residents) {
    sum += process.moving ? 0 : process.demand;
  }
  return sum;
}

NodePicture picture_of(const cluster::MemberView& member) {
  NodePicture node;
  node.id = member.id;
  node.name = member.name;
  node.alive = member.state == cluster::MemberState::kAlive && member.has_load;
  node.load = member.load;
  node.age = member.age;
  node.round_trip = member.round_trip;
  return node;
}

std::vector<NodePicture> sample_candidates(const cluster::ClusterView& view,
                                           const std::vector<NodeId>& always, size_t count,
                                           const Policy& policy, Random& random) {
  std::vector<NodePicture> nodes;
  nodes.reserve(view.members.size());
  for (const cluster::MemberView& member : view.members) {
    const bool present = member.state == cluster::MemberState::kAlive ||
                         member.state == cluster::MemberState::kSuspect;
    if (present && member.id != view.self) {
      nodes.push_back(picture_of(member));
    }
  }
  if (nodes.size() <= count) {
    return nodes;
  }
  std::vector<NodeId> homes = always;
  std::sort(homes.begin(), homes.end());
  std::vector<NodePicture> chosen;
  std::vector<bool> taken(nodes.size(), false);
  std::vector<std::pair<double, size_t>> by_load;
  std::vector<size_t> any;
  by_load.reserve(nodes.size());
  any.reserve(nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (std::binary_search(homes.begin(), homes.end(), nodes[i].id)) {
      taken[i] = true;
      chosen.push_back(nodes[i]);
    }
    any.push_back(i);
    if (nodes[i].alive && nodes[i].load.accepting && !nodes[i].load.draining) {
      // Equals in random order, or the first by id would be everybody's favourites.
      by_load.emplace_back(attraction(nodes[i], policy) + 1e-6 * random.unit(), i);
    }
  }
  const size_t best = std::min(by_load.size(), count);
  std::partial_sort(by_load.begin(), by_load.begin() + static_cast<std::ptrdiff_t>(best),
                    by_load.end());
  std::vector<size_t> favourites;
  for (size_t i = 0; i < best; ++i) {
    favourites.push_back(by_load[i].second);
  }
  take_random(favourites, count / 2, taken, random, nodes, chosen);
  take_random(any, count - count / 2, taken, random, nodes, chosen);
  return chosen;
}

}  // namespace tess::placement
