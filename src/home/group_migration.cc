#include "home/group_migration.h"

#include <chrono>
#include <thread>

#include "base/log.h"

namespace tess::home {
namespace {

using migrate::Step;

// Each round may find processes that the last one's members have made before they came to rest.
constexpr int kRounds = 8;

}  // namespace

GroupMigration::GroupMigration(MainServices& services,
                               std::vector<std::shared_ptr<Managed>> processes, std::string node)
    : services_(services),
      node_(std::move(node)),
      coordinator_(kind_of(*processes.front(), node_)) {
  for (auto& process : processes) {
    members_.push_back(std::make_unique<Migration>(services, std::move(process), node_));
  }
}

std::vector<std::shared_ptr<Managed>> GroupMigration::processes() const {
  std::vector<std::shared_ptr<Managed>> all;
  for (const auto& member : members_) {
    all.push_back(member->process());
  }
  for (const auto& member : left_) {
    all.push_back(member->process());
  }
  return all;
}

std::vector<std::shared_ptr<Managed>> GroupMigration::at_rest() const {
  std::vector<std::shared_ptr<Managed>> all;
  for (const auto& member : members_) {
    all.push_back(member->process());
  }
  return all;
}

std::set<pid_t> GroupMigration::pids() const {
  std::set<pid_t> all;
  for (const auto& member : members_) {
    all.insert(member->process()->pid);
  }
  return all;
}

void GroupMigration::write_journal(const std::string& state) {
  for (const auto& member : members_) {
    (void)services_.journal().write(member->journal_entry(state));
  }
}

Result<> GroupMigration::run() {
  TESS_TRY(services_.journal().write(members_.front()->journal_entry("begun")));
  while (const auto next = coordinator_.next()) {
    const Result<> result = step(*next);
    if (result) {
      coordinator_.done();
    } else {
      unsettled_ =
          unsettled_ || (*next == Step::kReserve && result.error().kind() == ErrorKind::kRetry);
      coordinator_.failed(result.error().message());
    }
  }
  const bool moved = coordinator_.outcome() == migrate::Outcome::kMoved;
  end_share(moved);
  for (const auto& member : members_) {
    member->forget();
  }
  write_journal(moved ? "moved" : "stayed");
  if (!moved) {
    return fail(ErrorKind::kFailed, "{}", coordinator_.reason());
  }
  warning_ = coordinator_.reason();
  return {};
}

Result<> GroupMigration::step(Step step) {
  auto allowed = services_.faults().at(migrate::fault_point(coordinator_.kind(), false, step));
  if (step == Step::kSwitch) {
    TESS_TRY(switch_over(std::move(allowed)));
    return services_.faults().at(migrate::fault_point(coordinator_.kind(), true, step));
  }
  TESS_TRY(allowed);
  const bool undo =
      step == Step::kDropTarget || step == Step::kThawSource || step == Step::kReleaseHome;
  TESS_TRY(undo ? backward(step) : forward(step));
  return services_.faults().at(migrate::fault_point(coordinator_.kind(), true, step));
}

Result<> GroupMigration::one(size_t index, Step step) {
  Migration& member = *members_[index];
  if (leaving_.contains(&member)) {
    return {};
  }
  auto result = member.perform(step, pids());
  if (result || index == 0 || !has_left(member, result.error())) {
    return result;
  }
  if (share_) {
    return died_at_rest(member);
  }
  log::info("home", "event=left_group pid={} step={} reason=\"{}\"", member.process()->pid,
            migrate::name(step), result.error().message());
  // Its body must not rest for ever: without a deputy it ends when it goes on.
  if (member.undoes(Step::kThawSource) && coordinator_.kind() != migrate::Kind::kOut) {
    (void)member.perform(Step::kThawSource, {});
  }
  leaving_.insert(&member);
  return {};
}

// A signal has ended it. Its body must end where the others' memory is, and that is still where
// they come from: there the kernel gives its robust locks to those who wait for them.
Result<> GroupMigration::died_at_rest(const Migration& member) {
  unsettled_ = true;
  return fail(ErrorKind::kRetry, "process {} ended while it moved with others",
              member.process()->pid);
}

// One whose memory has gone is about to end, or to be seen executing; nothing tells of the moment.
bool GroupMigration::has_left(const Migration& member, const Error& error) {
  constexpr std::chrono::seconds kLongest(2);
  constexpr std::chrono::milliseconds kLook(2);
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  while (!services_.has_left(*member.process())) {
    if (error.kind() != ErrorKind::kDisconnected || std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

void GroupMigration::remove_left() {
  for (auto it = members_.begin(); it != members_.end();) {
    if (leaving_.contains(it->get())) {
      left_.push_back(std::move(*it));
      it = members_.erase(it);
    } else {
      ++it;
    }
  }
  leaving_.clear();
}

Result<> GroupMigration::each(Step step) {
  for (size_t i = 0; i < members_.size(); ++i) {
    TESS_TRY(one(i, step));
  }
  remove_left();
  return {};
}

Result<> GroupMigration::forward(Step step) {
  switch (step) {
    case Step::kFreeze:
      return freeze();
    case Step::kJournal:
      return decide();
    case Step::kDropSource: {
      Result<> all;
      for (const auto& member : members_) {
        if (auto one = member->perform(step, {}); !one) {
          all = std::move(one);
        }
        services_.body_dropped(member->from(), *member->process());
      }
      return all;
    }
    default:
      return each(step);
  }
}

// Whatever happens to one of them, the others are brought back too.
Result<> GroupMigration::backward(Step step) {
  if (step != Step::kDropTarget) {
    end_share(false);  // before anybody runs who may want to share something new
  }
  Result<> all;
  for (const auto& member : members_) {
    if (!member->undoes(step)) {
      continue;
    }
    if (auto one = member->perform(step, {}); !one) {
      all = std::move(one);
    }
  }
  return all;
}

// Members may have made children, or mapped something, until they came to rest: whoever shares with
// them by then comes along.
Result<> GroupMigration::freeze() {
  size_t frozen = 0;
  for (int round = 0; round < kRounds; ++round) {
    for (; frozen < members_.size(); ++frozen) {
      TESS_TRY(one(frozen, Step::kFreeze));
    }
    remove_left();
    frozen = members_.size();
    auto share = begin_share();
    if (!share) {
      unsettled_ = share.error().kind() == ErrorKind::kRetry;
      return tl::unexpected(std::move(share.error()));
    }
    if (share->more.empty()) {
      share_ = share->number;
      return {};
    }
    TESS_TRY(join(std::move(share->more)));
  }
  return fail(ErrorKind::kRetry, "process {} makes processes that share its memory all the time",
              members_.front()->process()->pid);
}

// The kernel of a body that ends tells by memory who waits for a lock that it holds (robust list).
// That memory is about to be taken away.
Result<MainServices::Share> GroupMigration::begin_share() {
  constexpr std::chrono::milliseconds kLook(1);  // hosts tell the main thread
  constexpr std::chrono::seconds kLongest(3);    // others of the job may end all the time
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  while (true) {
    const bool patient = std::chrono::steady_clock::now() < deadline;
    auto share = services_.begin_share(at_rest(), node_, members_.front()->target(), patient);
    if (!share || !share->more.empty() || !share->bodies_end) {
      return share;
    }
    do {
      std::this_thread::sleep_for(kLook);
    } while (services_.bodies_are_ending(members_.front()->from()) &&
             std::chrono::steady_clock::now() < deadline);
  }
}

// On the main thread, where they are seen to execute: one that has done so by now is no longer
// where the others are.
Result<> GroupMigration::join(std::vector<std::shared_ptr<Managed>> more) {
  const size_t before = members_.size();
  TESS_TRY(services_.on_main([&]() -> Result<> {
    for (auto& process : more) {
      auto member = std::make_unique<Migration>(services_, std::move(process), node_);
      auto& to = member->can_begin(coordinator_.kind()) ? members_ : left_;
      to.push_back(std::move(member));
    }
    return {};
  }));
  for (size_t i = before; i < members_.size() && coordinator_.kind() != migrate::Kind::kBack; ++i) {
    TESS_TRY(one(i, Step::kReserve));
  }
  remove_left();
  return {};
}

// One decision for all: that of the first, which is on disk when this returns.
Result<> GroupMigration::decide() {
  for (size_t i = 1; i < members_.size(); ++i) {
    if (services_.has_left(*members_[i]->process())) {
      return died_at_rest(*members_[i]);
    }
  }
  for (size_t i = 1; i < members_.size(); ++i) {
    TESS_TRY(services_.journal().write(members_[i]->journal_entry("decided")));
  }
  return services_.journal().decided(members_.front()->journal_entry("decided"));
}

// The decision has been made: what fails here is tried once more.
Result<> GroupMigration::switch_over(Result<> allowed) {
  // All have arrived before the first goes on: it may kill another, whose robust locks are then
  // told where the memory is, and whose body's end is told by where it is.
  for (const auto& member : members_) {
    (void)(allowed ? member->arrive() : allowed);  // an error shows once more below
  }
  Result<> all;
  for (const auto& member : members_) {
    Result<> one = allowed ? member->perform(Step::kSwitch, {}) : allowed;
    if (!one) {
      one = member->insist_on_switch(std::move(one));
    }
    if (!one) {
      all = std::move(one);
    }
  }
  end_share(true);
  return all;
}

void GroupMigration::end_share(bool committed) {
  if (share_) {
    services_.end_share(*share_, committed);
    share_.reset();
  }
}

}  // namespace tess::home
