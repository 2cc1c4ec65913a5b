// A decision to move a process, with everything it was made from, so that it can be told and
// checked later; and the log of the decisions that one process has seen. Values: they outlive the
// pictures that they were made from.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/placement/cost.h"
#include "cluster/placement/feasible.h"
#include "cluster/placement/picture.h"

namespace tess::placement {

enum class Cause : uint8_t {
  kExec,     // placed when it executed a program
  kBalance,  // it and the others get on faster
  kTurn,     // its share of a place that is slower than others, taken in turn
  kMemory,   // before the node runs out of memory
  kOwner,    // the owner of the machine is back
  kDrain,    // the node is being drained
  kWish,     // to where it was told to be
  kPerson,   // somebody said `tess migrate`
};
const char* to_text(Cause cause);
// Must be done now, whatever it costs.
bool is_urgent(Cause cause);

// One number that a decision rests on: for programs.
struct Term {
  std::string_view name;
  double here = 0;
  double there = 0;
  std::string_view unit;
};

struct Decision {
  Time at{};
  ProcessKey process;
  NodeId from;
  NodeId to;
  std::string process_name;
  std::string from_name;
  std::string to_name;
  Cause cause = Cause::kBalance;
  bool urgent = false;
  uint64_t memory_bytes = 0;
  Estimate estimate;
  Scale scale;
  // Of causes kMemory: bytes free now and to be made free.
  double memory_free = 0;
  double memory_missing = 0;
  // Of cause kTurn: how far the process that is relieved lags, as a share of its age.
  double lag = 0;

  // One sentence: why, in numbers.
  std::string text() const;
  std::vector<Term> terms() const;
};

// What became of a decision.
enum class Outcome : uint8_t { kAsked, kMoved, kRefused, kFailed };
const char* to_text(Outcome outcome);

struct LoggedMove {
  Decision decision;
  Outcome outcome = Outcome::kAsked;
  std::string because;  // why it was refused or failed
};

// The last moves of one process, newest last. Kept where the process's home is.
class MoveLog {
 public:
  explicit MoveLog(size_t limit = 16) : limit_(limit) {}

  void add(LoggedMove move);
  const std::deque<LoggedMove>& moves() const { return moves_; }
  // Sentences, newest first, each with how long ago it was.
  std::vector<std::string> texts(Time now) const;

 private:
  size_t limit_;
  std::deque<LoggedMove> moves_;
};

}  // namespace tess::placement
