// One migration as an explicit state machine: says what to do next, hears how it went, and knows
// what must be undone. No system calls, no clock, no threads; the owner performs the effects.
// Kinds: out (home to host), hop (host to host), back (host to home).
//
// Order, and who owns the process: the source does until kJournal is done, the target from then on.
// The target's body is let go (kRunTarget) before that, but it cannot act on the world: its
// channels have no deputy at the other end until kSwitch. So everything up to and including
// kRunTarget can be undone; nothing after kJournal has to be.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tess::migrate {

enum class Kind { kOut, kHop, kBack };

enum class Step {
  // forward
  kReserve,     // a host agent that will take it
  kFreeze,      // park all threads, here and at the source
  kTransfer,    // image and pages to the target, which restores them and is ready
  kConnect,     // channels for every thread, known to the target
  kRunTarget,   // the target's body runs, as yet without a deputy
  kJournal,     // the decision, on disk
  kSwitch,      // home: become deputy, swap channels, or run natively
  kDropSource,  // the copy that was left behind
  // undo, in this order
  kDropTarget,   // kill what the target has; close its channels
  kThawSource,   // the source host's body goes on
  kReleaseHome,  // home's threads go on as before
};

enum class Outcome { kMoved, kStayed };

class Coordinator {
 public:
  explicit Coordinator(Kind kind);

  Kind kind() const { return kind_; }
  // What to do now; nullopt when there is nothing left.
  std::optional<Step> next() const;
  // The step that next() named has been done, or has failed.
  void done();
  void failed(std::string reason);

  bool committed() const { return committed_; }
  // Valid once next() is nullopt.
  Outcome outcome() const { return committed_ ? Outcome::kMoved : Outcome::kStayed; }
  // Why it stayed; after a commit: what went wrong although it moved. Empty: nothing.
  const std::string& reason() const { return reason_; }

 private:
  void start_undo();

  Kind kind_;
  std::vector<Step> plan_;
  size_t at_ = 0;
  std::vector<Step> begun_;  // forward steps that may have had an effect
  bool undoing_ = false;
  bool committed_ = false;
  std::string reason_;
};

std::string_view name(Kind kind);
std::string_view name(Step step);

// Fault points: "out.before_transfer", "hop.after_journal" and so on.
std::string fault_point(Kind kind, bool after, Step step);
// All of them, for the tests that walk through them.
std::vector<std::string> fault_points();

}  // namespace tess::migrate
