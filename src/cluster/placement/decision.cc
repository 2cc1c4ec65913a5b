#include "cluster/placement/decision.h"

#include <fmt/format.h>

namespace tess::placement {

const char* to_text(Cause cause) {
  switch (cause) {
    case Cause::kExec:
      return "exec";
    case Cause::kBalance:
      return "balance";
    case Cause::kTurn:
      return "turn";
    case Cause::kMemory:
      return "memory";
    case Cause::kOwner:
      return "owner";
    case Cause::kDrain:
      return "drain";
    case Cause::kWish:
      return "wish";
    case Cause::kPerson:
      return "person";
  }
  return "unknown";
}

bool is_urgent(Cause cause) {
  return cause == Cause::kOwner || cause == Cause::kDrain || cause == Cause::kWish ||
         cause == Cause::kPerson;
}

const char* to_text(Outcome outcome) {
  switch (outcome) {
    case Outcome::kAsked:
      return "asked";
    case Outcome::kMoved:
      return "moved";
    case Outcome::kRefused:
      return "refused";
    case Outcome::kFailed:
      return "failed";
  }
  return "unknown";
}

std::string Decision::text() const {
  const Estimate& e = estimate;
  const std::string way = fmt::format("{} to {}", from_name, to_name);
  switch (cause) {
    case Cause::kExec:
      return fmt::format("{}: placed at exec; speed {:.2f} there, {:.2f} here", way,
                         1 / e.slow_there, 1 / e.slow_here);
    case Cause::kBalance:
      return fmt::format(
          "{}: runs at speed {:.2f} there instead of {:.2f} ({:.1f} runnable there, {:.1f} here); "
          "saves {:.1f} s of waiting for {:.1f} s of moving{}{}",
          way, 1 / e.slow_there, 1 / e.slow_here, e.runnable_there, e.runnable_here, e.saved,
          e.price, e.bandwidth > 0 ? " " + text_of_transfer(memory_bytes, e.bandwidth) : "",
          e.delay_here > 0.05 && e.delay_there < 0.5 * e.delay_here
              ? ", being near its files at home"
              : "");
    case Cause::kTurn:
      return fmt::format(
          "{}: takes its turn sharing a CPU there ({:.1f} runnable there, {:.1f} here), because "
          "those here have fallen behind by {:.0f}% of their time",
          way, e.runnable_there, e.runnable_here, 100 * lag);
    case Cause::kMemory:
      return fmt::format("{}: memory runs short ({} free, {} more wanted); it holds {}", way,
                         text_of_bytes(static_cast<uint64_t>(std::max(0.0, memory_free))),
                         text_of_bytes(static_cast<uint64_t>(std::max(0.0, memory_missing))),
                         text_of_bytes(memory_bytes));
    case Cause::kOwner:
      return fmt::format("{}: the owner of {} is back", way, from_name);
    case Cause::kDrain:
      return fmt::format("{}: {} is being drained", way, from_name);
    case Cause::kWish:
      return fmt::format("{}: it was started with the wish to be there", way);
    case Cause::kPerson:
      return fmt::format("{}: asked for by a person", way);
  }
  return way;
}

std::vector<Term> Decision::terms() const {
  const Estimate& e = estimate;
  return {
      {"opportunity_cost", e.cost_here, e.cost_there, ""},
      {"seconds_per_reference_second", e.slow_here, e.slow_there, "s"},
      {"runnable", e.runnable_here, e.runnable_there, "threads"},
      {"seconds_saved", 0, e.saved, "s"},
      {"price_of_moving", 0, e.price, "s"},
      {"bandwidth", 0, e.bandwidth, "bytes/s"},
      {"expected_work", e.work, e.work, "s"},
      {"waiting_for_home", e.delay_here, e.delay_there, "s"},
      {"memory_free", memory_free, 0, "bytes"},
      {"memory_missing", memory_missing, 0, "bytes"},
      {"lag", lag, 0, "share"},
  };
}

void MoveLog::add(LoggedMove move) {
  moves_.push_back(std::move(move));
  while (moves_.size() > limit_) {
    moves_.pop_front();
  }
}

std::vector<std::string> MoveLog::texts(Time now) const {
  std::vector<std::string> lines;
  for (auto it = moves_.rbegin(); it != moves_.rend(); ++it) {
    const double ago = seconds(now - it->decision.at);
    std::string line = fmt::format("{:.0f} s ago, {}", ago, it->decision.text());
    if (it->outcome == Outcome::kRefused || it->outcome == Outcome::kFailed) {
      line += fmt::format(" ({}: {})", to_text(it->outcome), it->because);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace tess::placement
