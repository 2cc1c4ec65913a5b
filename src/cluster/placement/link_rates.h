// What the transfers of this node's processes have shown of the links to its peers: bytes on the
// wire, and the seconds in which they flowed. For each peer two sums, which fade; their quotient,
// weighed against what its link should give, is the rate that the next transfer is expected to
// have. So large transfers count for more than small ones, the newest for more than old ones, and
// what was seen long ago for nothing. Either direction counts: links are taken to be as fast both
// ways. Deterministic; no clock. Of at most kPeersMost peers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "cluster/placement/cost.h"

namespace tess::placement {

class LinkRates {
 public:
  static constexpr size_t kPeersMost = 512;

  explicit LinkRates(const Policy& policy) : policy_(policy) {}
  void set_policy(const Policy& policy) { policy_ = policy; }

  // That much has flowed between here and `peer` in the seconds up to `now`. Transfers that ran at
  // the same time share the link, so their seconds count once. False: it is too little to tell of
  // the link. `link`: as it is known to be now; what was seen over another one is forgotten.
  bool note(Time now, const NodeId& peer, const Link& link, uint64_t bytes, double seconds);

  // Bytes per second that a transfer is expected to have.
  double expected(Time now, const NodeId& peer, const Link& link) const;

  // What was seen alone, as long as it says something.
  struct Measured {
    double rate = 0;  // bytes per second
    Duration ago{0};  // since the last
  };
  std::optional<Measured> measured(Time now, const NodeId& peer, const Link& link) const;

 private:
  struct Seen {
    double bytes = 0;
    double seconds = 0;
    Time at{};
    uint32_t nominal_mbit = 0;
  };
  // Faded to `now`; nothing if nothing was seen over this link.
  Seen seen(Time now, const NodeId& peer, const Link& link) const;
  void drop_oldest();

  Policy policy_;
  std::unordered_map<NodeId, Seen> peers_;
};

}  // namespace tess::placement
