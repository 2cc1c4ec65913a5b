// What `tess why PID` says about a place: why the process is where it is, what would make it move,
// and what became of it so far. Made from the same pictures and by the same functions as the
// decisions.
#pragma once

#include <string>
#include <vector>

#include "cluster/placement/balancer.h"

namespace tess::placement {

// How one node compares, for programs and for a table.
struct Alternative {
  NodeId node;
  std::string name;
  bool possible = false;
  Obstacle obstacle;    // if not possible
  Estimate estimate;    // if possible
  bool better = false;  // it would go there, were it not for the time it has to stay first
};

struct Explanation {
  std::vector<std::string> why_here;    // never empty
  std::vector<std::string> would_move;  // never empty
  std::vector<std::string> last_moves;
  std::vector<Alternative> alternatives;  // cheapest first, impossible ones last
};

Explanation explain(const Balancer& balancer, const Round& round, const ProcessPicture& process,
                    const MoveLog* log);

}  // namespace tess::placement
