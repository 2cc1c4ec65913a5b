// Whether a process may be at a place at all, before any weighing: wishes, the node's state,
// processor features, memory. An obstacle is an answer for people, too.
#pragma once

#include <optional>
#include <string>

#include "cluster/placement/picture.h"

namespace tess::placement {

enum class ObstacleKind : uint8_t {
  kGone,     // the node is not known to be alive
  kOldLoad,  // nothing recent is known about it
  kDraining,
  kNotAccepting,
  kOwner,    // its owner is at the machine
  kWished,   // --on names others
  kAvoided,  // --avoid
  kHome,     // --home, and this is not it
  kStays,    // --stay
  kProcessor,
  kMemory,
  kLink,       // too much is on its way there already
  kImmovable,  // the process cannot move at all
  kCostlier,   // asked anew with the load of this moment: it is no better there
  kNonsense,   // the question has numbers in it that cannot be
};
const char* to_text(ObstacleKind kind);

struct Obstacle {
  ObstacleKind kind = ObstacleKind::kGone;
  std::string text;  // a clause: "n3 is being drained"
};

// What forbids `process` on `node`. Its memory must fit as it will be after `outlook`, if it goes
// on growing. Home has to take back what is its own, even when it takes no guests.
std::optional<ObstacleKind> find_obstacle(const ProcessPicture& process, const NodePicture& node,
                                          const Policy& policy, Duration outlook);

// A wish that the present place does not meet.
bool wishes_elsewhere(const ProcessPicture& process, const NodeId& here);

Obstacle describe(ObstacleKind kind, const ProcessPicture& process, const NodePicture& node,
                  const Policy& policy);

// "1.5 GB", for messages.
std::string text_of_bytes(uint64_t bytes);
// "(1.5 GB at 11 MB/s)", why a move takes as long as it does.
std::string text_of_transfer(uint64_t bytes, double bandwidth);

}  // namespace tess::placement
