// Attention: how much of the time this node was really there. A node that gets no CPU cannot hear
// answers that others gave in time, so its own silence must not be taken for theirs: every deadline
// that leads to a verdict about another node is kept in attention time, which stands still while
// the node is late for its own timers or reads packets that waited in its queue. Also keeps the
// local health score of Lifeguard: 0 is well, kMost is badly off; probes and suspicions take up
// to five times as long. Plain value.
#pragma once

#include <algorithm>

#include "cluster/time.h"

namespace tess::cluster {

class Attention {
 public:
  static constexpr unsigned kMost = 8;

  Attention(Time now, Duration tolerance) : last_(now), tolerance_(tolerance) {}

  // At every call from outside: `promised` is the deadline that was last asked for, `queued` how
  // long the packet (if it is one) waited on this machine.
  void observe(Time now, Time promised, Duration queued) {
    const Duration elapsed = std::max(now - last_, Duration(0));
    const Duration late = now > promised ? now - std::max(promised, last_) : Duration(0);
    const Duration behind = std::max(late, queued);
    if (behind > tolerance_) {
      // The time it lacked, and a little more, so that it acts again in good order before it
      // judges.
      voided_ += std::min(elapsed, behind + 2 * tolerance_);
      last_late_ = now;
      ever_late_ = true;
      if (now >= next_charge_ || next_charge_ == Time()) {
        charge(behind > 10 * tolerance_ ? 2 : 1);
        next_charge_ = now + 4 * tolerance_;
        distress_ =
            std::min(kMost, std::max(distress(now), behind > 10 * tolerance_ ? 4u : 1u) + 1);
        distress_at_ = now;
      }
    }
    last_ = std::max(now, last_);
  }

  // Attention time, for deadlines; and the moment at which such a deadline comes if all goes well.
  Time spent(Time now) const { return now - voided_; }
  Time real(Time spent_time) const { return spent_time + voided_; }

  // Was late within the last `span`.
  bool late_within(Time now, Duration span) const { return ever_late_ && now - last_late_ <= span; }

  unsigned score() const { return score_; }
  // How badly off it has been lately: what others should allow for. Fades by one in ten seconds.
  unsigned distress(Time now) const {
    const auto faded = static_cast<unsigned>((now - distress_at_) / kFade);
    return std::max(score_, distress_ > faded ? distress_ - faded : 0);
  }
  void charge(unsigned points) { score_ = std::min(score_ + points, kMost); }
  void credit() { score_ -= score_ > 0 ? 1 : 0; }
  // For what it does of itself: the worse it is, the less it asks for.
  Duration stretched(Duration d) const { return d + d * score_ / 2; }
  // For how long others get; their time is attention time already.
  Duration patience(Duration d) const { return d + d * score_ / 4; }

 private:
  static constexpr Duration kFade = std::chrono::seconds(10);

  Time last_;
  Time distress_at_;
  unsigned distress_ = 0;
  Time last_late_;
  Time next_charge_;
  Duration tolerance_;
  Duration voided_{0};
  unsigned score_ = 0;
  bool ever_late_ = false;
};

}  // namespace tess::cluster
