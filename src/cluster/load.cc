#include "cluster/load.h"

#include <algorithm>

namespace tess::cluster {

std::string NodeId::text() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    out += kDigits[byte >> 4];
    out += kDigits[byte & 15];
  }
  return out;
}

const char* to_text(MemberState state) {
  switch (state) {
    case MemberState::kAlive:
      return "alive";
    case MemberState::kSuspect:
      return "suspect";
    case MemberState::kDead:
      return "dead";
    case MemberState::kLeft:
      return "left";
  }
  return "?";
}

const MemberView* ClusterView::find(const NodeId& id) const {
  const auto at =
      std::lower_bound(members.begin(), members.end(), id,
                       [](const MemberView& m, const NodeId& want) { return m.id < want; });
  return at != members.end() && at->id == id ? &*at : nullptr;
}

}  // namespace tess::cluster
