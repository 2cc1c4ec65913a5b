#include "cluster/placement/feasible.h"

#include <fmt/format.h>

#include <algorithm>

namespace tess::placement {
namespace {
bool contains(const std::vector<NodeId>& ids, const NodeId& id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

uint64_t memory_needed(const ProcessPicture& process, Duration outlook) {
  const double growth = std::max(0.0, process.memory_growth) * seconds(outlook);
  return std::max(process.memory_bytes + static_cast<uint64_t>(growth),
                  process.wishes.memory_bytes);
}

std::optional<ObstacleKind> find_refusal(const NodePicture& node) {
  if (node.load.draining) {
    return ObstacleKind::kDraining;
  }
  if (node.load.owner_active) {
    return ObstacleKind::kOwner;
  }
  if (!node.load.accepting) {
    return ObstacleKind::kNotAccepting;
  }
  return std::nullopt;
}

std::optional<ObstacleKind> find_wish_against(const ProcessPicture& process, const NodeId& node) {
  const Wishes& wishes = process.wishes;
  if (wishes.home && node != process.key.home) {
    return ObstacleKind::kHome;
  }
  if (!wishes.on.empty() && !contains(wishes.on, node)) {
    return ObstacleKind::kWished;
  }
  if (contains(wishes.avoid, node)) {
    return ObstacleKind::kAvoided;
  }
  return std::nullopt;
}
}  // namespace

const char* to_text(ObstacleKind kind) {
  switch (kind) {
    case ObstacleKind::kGone:
      return "gone";
    case ObstacleKind::kOldLoad:
      return "old-load";
    case ObstacleKind::kDraining:
      return "draining";
    case ObstacleKind::kNotAccepting:
      return "not-accepting";
    case ObstacleKind::kOwner:
      return "owner";
    case ObstacleKind::kWished:
      return "wished-elsewhere";
    case ObstacleKind::kAvoided:
      return "avoided";
    case ObstacleKind::kHome:
      return "stays-home";
    case ObstacleKind::kStays:
      return "stays";
    case ObstacleKind::kProcessor:
      return "processor";
    case ObstacleKind::kMemory:
      return "memory";
    case ObstacleKind::kLink:
      return "link";
    case ObstacleKind::kImmovable:
      return "immovable";
    case ObstacleKind::kCostlier:
      return "no-better";
    case ObstacleKind::kNonsense:
      return "nonsense";
  }
  return "unknown";
}

std::optional<ObstacleKind> find_obstacle(const ProcessPicture& process, const NodePicture& node,
                                          const Policy& policy, Duration outlook) {
  if (!node.alive) {
    return ObstacleKind::kGone;
  }
  if (const auto against = find_wish_against(process, node.id)) {
    return against;
  }
  if (process.cpu_features != 0 && process.cpu_features != node.load.cpu_features) {
    return ObstacleKind::kProcessor;
  }
  if (node.age > policy.max_age) {
    return ObstacleKind::kOldLoad;
  }
  if (node.id != process.key.home) {
    if (const auto refusal = find_refusal(node)) {
      return refusal;
    }
  }
  const double free_after = static_cast<double>(node.load.memory_free_bytes) -
                            static_cast<double>(memory_needed(process, outlook));
  const double total = static_cast<double>(node.load.memory_bytes);
  if (free_after < policy.memory_reserve * total) {
    return ObstacleKind::kMemory;
  }
  return std::nullopt;
}

bool wishes_elsewhere(const ProcessPicture& process, const NodeId& here) {
  return find_wish_against(process, here).has_value();
}

Obstacle describe(ObstacleKind kind, const ProcessPicture& process, const NodePicture& node,
                  const Policy& policy) {
  const std::string name(node.name);
  std::string text;
  switch (kind) {
    case ObstacleKind::kGone:
      text = fmt::format("{} does not answer", name);
      break;
    case ObstacleKind::kOldLoad:
      text = fmt::format("the last load of {} is {:.0f} s old", name, seconds(node.age));
      break;
    case ObstacleKind::kDraining:
      text = fmt::format("{} is being drained", name);
      break;
    case ObstacleKind::kNotAccepting:
      text = fmt::format("{} takes no guests now", name);
      break;
    case ObstacleKind::kOwner:
      text = fmt::format("the owner of {} is using it", name);
      break;
    case ObstacleKind::kWished:
      text = fmt::format("{} is not among the nodes it was started for (--on)", name);
      break;
    case ObstacleKind::kAvoided:
      text = fmt::format("{} is to be avoided (--avoid)", name);
      break;
    case ObstacleKind::kHome:
      text = fmt::format("{} is not its home, and it is to run there (--home)", name);
      break;
    case ObstacleKind::kStays:
      text = "it is to stay where it is (--stay)";
      break;
    case ObstacleKind::kProcessor:
      text = fmt::format("the processor of {} lacks features that it may be using", name);
      break;
    case ObstacleKind::kMemory:
      text = fmt::format("{} has {} free and keeps {}; it needs {}", name,
                         text_of_bytes(node.load.memory_free_bytes),
                         text_of_bytes(static_cast<uint64_t>(
                             policy.memory_reserve * static_cast<double>(node.load.memory_bytes))),
                         text_of_bytes(memory_needed(process, policy.memory_outlook)));
      break;
    case ObstacleKind::kLink:
      text = fmt::format("the link of {} is busy with others on their way there", name);
      break;
    case ObstacleKind::kImmovable:
      text = process.immovable_because.empty() ? std::string("it cannot move")
                                               : std::string(process.immovable_because);
      break;
    case ObstacleKind::kCostlier:
      text = fmt::format("with the load of this moment it would be no better off on {}", name);
      break;
    case ObstacleKind::kNonsense:
      text = fmt::format("{} could make no sense of the question; is it of another version?", name);
      break;
  }
  return {kind, std::move(text)};
}

std::string text_of_bytes(uint64_t bytes) {
  constexpr double kUnit = 1024;
  const char* units[] = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= kUnit && unit + 1 < std::size(units)) {
    value /= kUnit;
    ++unit;
  }
  return value < 10 && unit > 0 ? fmt::format("{:.1f} {}", value, units[unit])
                                : fmt::format("{:.0f} {}", value, units[unit]);
}

std::string text_of_transfer(uint64_t bytes, double bandwidth) {
  return fmt::format("({} at {}/s)", text_of_bytes(bytes),
                     text_of_bytes(static_cast<uint64_t>(std::clamp(bandwidth, 0.0, 1e15))));
}

}  // namespace tess::placement
