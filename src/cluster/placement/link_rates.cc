#include "cluster/placement/link_rates.h"

#include <algorithm>
#include <cmath>

namespace tess::placement {
namespace {
// Transfers that took no time that a clock could tell are taken to have had this rate.
constexpr double kFastest = 1e11;
// Of what is left of a transfer of the least size, too little to be told.
constexpr double kForgotten = 0.01;
}  // namespace

LinkRates::Seen LinkRates::seen(Time now, const NodeId& peer, const Link& link) const {
  const auto found = peers_.find(peer);
  if (found == peers_.end() || found->second.nominal_mbit != link.nominal_mbit) {
    return {};
  }
  Seen faded = found->second;
  const double halves =
      std::max(0.0, seconds(now - faded.at)) / std::max(1.0, seconds(policy_.rate_half_life));
  faded.bytes *= std::exp2(-halves);
  faded.seconds *= std::exp2(-halves);
  return faded;
}

bool LinkRates::note(Time now, const NodeId& peer, const Link& link, uint64_t bytes,
                     double seconds_taken) {
  if (static_cast<double>(bytes) < policy_.rate_least_bytes || !(seconds_taken >= 0)) {
    return false;
  }
  Seen next = seen(now, peer, link);
  const bool first = next.bytes <= 0;
  const double since_last = first ? seconds_taken : std::max(0.0, seconds(now - next.at));
  next.bytes += static_cast<double>(bytes);
  next.seconds += std::min(seconds_taken, since_last);
  next.seconds = std::max(next.seconds, next.bytes / kFastest);
  if (next.bytes > policy_.rate_kept_bytes) {
    next.seconds *= policy_.rate_kept_bytes / next.bytes;
    next.bytes = policy_.rate_kept_bytes;
  }
  next.at = now;
  next.nominal_mbit = link.nominal_mbit;
  peers_[peer] = next;
  if (peers_.size() > kPeersMost) {
    drop_oldest();
  }
  return true;
}

double LinkRates::expected(Time now, const NodeId& peer, const Link& link) const {
  const Seen had = seen(now, peer, link);
  const double prior = std::max(1.0, link.prior);
  // As if so many bytes had been seen to flow as they should.
  const double assumed = std::max(1.0, policy_.rate_prior_bytes);
  return (had.bytes + assumed) / (had.seconds + assumed / prior);
}

std::optional<LinkRates::Measured> LinkRates::measured(Time now, const NodeId& peer,
                                                       const Link& link) const {
  const Seen had = seen(now, peer, link);
  if (had.bytes <= 0 || had.bytes < kForgotten * policy_.rate_least_bytes) {
    return std::nullopt;
  }
  return Measured{had.bytes / had.seconds, now - had.at};
}

void LinkRates::drop_oldest() {
  const auto oldest =
      std::min_element(peers_.begin(), peers_.end(),
                       [](const auto& a, const auto& b) { return a.second.at < b.second.at; });
  peers_.erase(oldest);
}

}  // namespace tess::placement
