#include "node/process_activity.h"

#include <algorithm>
#include <cmath>

namespace tess::node {

void ProcessActivity::update(cluster::Time now,
                             const std::unordered_map<pid_t, uint64_t>& wanted_ns) {
  const bool first = updated_ == cluster::Time();
  const double elapsed = first ? 0 : std::chrono::duration<double>(now - updated_).count();
  updated_ = now;
  const double kept = std::exp2(-elapsed / kHalfLife);
  std::erase_if(entries_, [&](const auto& item) { return !wanted_ns.contains(item.first); });
  for (const auto& [pid, wanted] : wanted_ns) {
    auto [at, is_new] = entries_.try_emplace(pid);
    Entry& entry = at->second;
    // Less than before: a thread has ended and took its part along, or it is another process. What
    // it has wanted since is not known.
    const uint64_t more = wanted > entry.wanted_ns ? wanted - entry.wanted_ns : 0;
    entry.wanted_ns = wanted;
    entry.lately *= kept;
    if (!first || !is_new) {
      entry.lately += static_cast<double>(more) / 1e9;
    }
    entry.busy = entry.lately >= (entry.busy ? kTooLittle : kEnough);
  }
}

double ProcessActivity::lately(pid_t pid) const {
  const auto found = entries_.find(pid);
  return found == entries_.end() ? 0 : found->second.lately;
}

void ProcessActivity::keep(pid_t pid) {
  if (const auto found = entries_.find(pid); found != entries_.end()) {
    found->second.lately = std::max(found->second.lately, kEnough);
    found->second.busy = true;
  }
}

std::vector<pid_t> ProcessActivity::busy() const {
  std::vector<pid_t> pids;
  for (const auto& [pid, entry] : entries_) {
    if (entry.busy) {
      pids.push_back(pid);
    }
  }
  std::sort(pids.begin(), pids.end(), [this](pid_t a, pid_t b) {
    const double x = lately(a);
    const double y = lately(b);
    return x != y ? x > y : a < b;
  });
  return pids;
}

}  // namespace tess::node
