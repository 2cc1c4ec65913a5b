// The moves: from a decision to the end of a migration, on the node where a process runs, at its
// home, and at the target.
#include <algorithm>

#include "base/log.h"
#include "node/placer.h"

namespace tess::node {
namespace {

using placement::Cause;
using placement::MoveEnd;
using placement::Time;
using std::chrono::milliseconds;

constexpr milliseconds kAskTimeout{2000};
constexpr milliseconds kMoveTimeout{10 * 60 * 1000};
constexpr int kRoundsAgain = 4;  // after refusals, between two rounds
constexpr size_t kHistory = 1000;
constexpr cluster::Duration kFirstPause = std::chrono::seconds(5);
constexpr cluster::Duration kLongestPause = std::chrono::minutes(10);

bool is_for_balance(Cause cause) {
  return cause == Cause::kBalance || cause == Cause::kTurn || cause == Cause::kMemory;
}

}  // namespace

void Placer::send(const placement::PlannedMove& move) {
  const Resident* resident = book_->resident(move.decision.process);
  const Time now = Gossip::now();
  if (resident == nullptr) {
    balancer_->ended(now, move.decision.process, MoveEnd::kVoid);
    return;
  }
  const ProcessName name = resident->name;
  wire::ClusterMessage ask;
  to_wire(move.ask, *ask.mutable_place_ask());
  *ask.mutable_place_ask()->mutable_process() = to_wire(name);
  cluster_.ask(move.decision.to_name, std::move(ask), kAskTimeout,
               [this, move, name](const Result<wire::ClusterMessage>& answer) {
                 answered(move, name, answer);
               });
}

void Placer::answered(const placement::PlannedMove& move, const ProcessName& name,
                      const Result<wire::ClusterMessage>& answer) {
  const Time now = Gossip::now();
  if (!answer || !answer->has_place_answer()) {
    balancer_->ended(now, move.decision.process, MoveEnd::kFailed);
    return;
  }
  const wire::PlaceAnswer& said = answer->place_answer();
  placement::Answer heard;
  heard.granted = said.granted();
  heard.obstacle = static_cast<placement::ObstacleKind>(
      std::min(said.obstacle(), static_cast<uint32_t>(placement::ObstacleKind::kNonsense)));
  heard.load = from_wire(said.load());
  balancer_->answered(now, move.decision.process, move.decision.to, heard);
  if (!heard.granted) {
    ++move_counts_[{move.decision.cause, placement::Outcome::kRefused}];
  }
  if (heard.granted) {
    carry_out(move, name);
  } else if (rounds_again_++ < kRoundsAgain) {
    // Not from within: more answers of this round may be here already.
    loop_.post([this] { decide(); });
  }
}

void Placer::carry_out(const placement::PlannedMove& move, const ProcessName& name) {
  const Resident* resident = book_->resident(name.key());
  if (resident == nullptr) {
    call_off(move.decision.to_name, name);
    balancer_->ended(Gossip::now(), name.key(), MoveEnd::kVoid);
    return;
  }
  if (!resident->guest) {
    move_own(name, move.decision,
             [this, move, name](const Result<>& result) { ended(move, name, result); });
    return;
  }
  wire::ClusterMessage ask;
  wire::MoveGuest& guest = *ask.mutable_move_guest();
  *guest.mutable_process() = to_wire(name);
  *guest.mutable_reason() = to_wire(move.decision);
  *guest.mutable_carried() = to_wire(book_->carried_now(*resident), Gossip::now());
  cluster_.ask(resident->home_node, std::move(ask), kMoveTimeout,
               [this, move, name](const Result<wire::ClusterMessage>& answer) {
                 if (!answer) {
                   ended(move, name, tl::unexpected(answer.error()));
                 } else if (!answer->done().ok()) {
                   ended(move, name, fail(ErrorKind::kFailed, "{}", answer->done().message()));
                 } else {
                   ended(move, name, {});
                 }
               });
}

void Placer::ended(const placement::PlannedMove& move, const ProcessName& name,
                   const Result<>& result) {
  const Time now = Gossip::now();
  const bool gone = book_->resident(name.key()) == nullptr;
  balancer_->ended(now, name.key(),
                   result ? MoveEnd::kMoved
                   : gone ? MoveEnd::kVoid
                          : MoveEnd::kFailed);
  if (result) {
    return;
  }
  call_off(move.decision.to_name, name);
  if (Resident* resident = book_->resident(name.key())) {
    // Most often it has something that cannot move; it is tried again later and later.
    resident->pause = std::clamp(2 * resident->pause, kFirstPause, kLongestPause);
    resident->not_before = now + resident->pause;
    resident->failed_because = fmt::format("it could not be moved to {}: {}", move.decision.to_name,
                                           result.error().message());
  }
}

void Placer::call_off(const std::string& node, const ProcessName& name) {
  wire::ClusterMessage message;
  *message.mutable_call_off()->mutable_process() = to_wire(name);
  cluster_.ask(node, std::move(message), kAskTimeout, [](const auto&) {});
}

// ---- at the process's home ----

void Placer::move_own(const ProcessName& name, const placement::Decision& decision,
                      std::function<void(const Result<>&)> done) {
  OwnProcess* own = book_->own(name.key());
  const auto agent = hub_.home_agent(name.job);
  const auto taken = [this, name, decision, done](const Result<>& result) {
    result ? move_own(name, decision, done) : done(result);
  };
  if (agent == nullptr && manager_ != nullptr && manager_->take(name.job, taken)) {
    return;
  }
  if (own == nullptr || agent == nullptr) {
    done(fail(ErrorKind::kNotPossible, "it has ended"));
    return;
  }
  wire::AgentDown ask;
  ask.mutable_migrate()->set_pid(own->pid);
  ask.mutable_migrate()->set_node(decision.to_name);
  ask.mutable_migrate()->set_home(decision.to_name == options_.node_name);
  log::info("node", "event=placing pid={} cause={} text=\"{}\"", own->pid,
            placement::to_text(decision.cause), decision.text());
  hub_.ask(agent, std::move(ask), kMoveTimeout,
           [this, name, decision, done](Result<wire::AgentUp> answer) {
             Result<> result;
             if (!answer) {
               result = tl::unexpected(answer.error());
             } else if (!answer->answer().ok()) {
               result = fail(ErrorKind::kFailed, "{}", answer->answer().message());
             }
             own_moved(name, decision, result);
             done(result);
           });
}

void Placer::own_moved(const ProcessName& name, const placement::Decision& decision,
                       const Result<>& result) {
  placement::LoggedMove entry{decision,
                              result ? placement::Outcome::kMoved : placement::Outcome::kFailed,
                              result ? "" : result.error().message()};
  ++move_counts_[{decision.cause, entry.outcome}];
  history_.push_back(entry);
  if (history_.size() > kHistory) {
    history_.pop_front();
  }
  OwnProcess* own = book_->own(name.key());
  if (own == nullptr) {
    if (early_log_.size() < kHistory) {
      early_log_[name.key()] = entry;
    }
    return;
  }
  own->log.add(entry);
  if (result && is_for_balance(decision.cause)) {
    ++own->carried.moves;
    own->carried.note_left(decision.from, Gossip::now());
    if (own->place != options_.node_name) {
      tell_facts(*own);
    } else if (Resident* here = book_->resident(name.key())) {
      here->carried = own->carried;
    }
  }
}

void Placer::tell_facts(const OwnProcess& process) {
  wire::ClusterMessage message;
  *message.mutable_guest_facts() = ProcessBook::facts_of(process, Gossip::now());
  cluster_.ask(process.place, std::move(message), kAskTimeout, [](const auto&) {});
}

void Placer::answer_move(const wire::MoveGuest& message, const std::string& asker,
                         const Reply& reply) {
  const Time now = Gossip::now();
  const ProcessName name = from_wire(message.process());
  OwnProcess* own = book_->own(name.key());
  const auto say = [reply](const Result<>& result) {
    wire::ClusterMessage answer;
    answer.mutable_done()->set_ok(result.has_value());
    answer.mutable_done()->set_message(result ? "" : result.error().message());
    reply(answer);
  };
  // Only the node where it runs decides about it.
  if (own == nullptr || own->place != asker) {
    say(fail(ErrorKind::kNotPossible, "node {} does not host it", asker));
    return;
  }
  // What people want of a process does not keep a node that is to be empty.
  if (message.reason().cause() != static_cast<uint32_t>(Cause::kDrain) &&
      !ProcessBook::why_immovable(*own).empty()) {
    say(fail(ErrorKind::kNotPossible, "{}", ProcessBook::why_immovable(*own)));
    return;
  }
  own->carried = from_wire(message.carried(), now);
  own->carried_is_told = true;
  placement::Decision decision = from_wire(message.reason(), now);
  decision.process = name.key();
  move_own(name, decision, [this, name, say](const Result<>& result) {
    if (!result) {
      if (OwnProcess* stays = book_->own(name.key())) {
        stays->carried_is_told = false;
      }
    }
    say(result);
  });
}

void Placer::moved_by_hand(pid_t pid, const std::string& node) {
  if (gossip_ == nullptr) {
    return;
  }
  update_book();
  OwnProcess* own = book_->own_by_pid(pid);
  if (own == nullptr) {
    return;
  }
  own->put_by_hand = true;
  placement::Decision decision;
  decision.at = Gossip::now();
  decision.process = own->name.key();
  decision.cause = Cause::kPerson;
  decision.process_name = own->command;
  decision.to = id_of(node);
  decision.to_name = node;
  decision.from_name = own->came_from.empty() ? options_.node_name : own->came_from;
  own_moved(own->name, decision, {});
  if (own->place != options_.node_name) {
    tell_facts(*own);
  }
}

// ---- at the target ----

wire::ClusterMessage Placer::answer_ask(const wire::PlaceAsk& message, const std::string& asker) {
  placement::Ask ask = from_wire(message);
  ask.from = id_of(asker);
  const Time now = Gossip::now();
  update_book();
  View view;
  take_view(view);
  const placement::Answer answer = admission_.ask(now, ask, view.local);
  wire::ClusterMessage reply;
  wire::PlaceAnswer& said = *reply.mutable_place_answer();
  said.set_granted(answer.granted);
  said.set_obstacle(static_cast<uint32_t>(answer.obstacle));
  *said.mutable_load() = to_wire(answer.load);
  return reply;
}

}  // namespace tess::node
