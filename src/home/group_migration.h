// One migration of a process and of all that share memory with it: the coordinator says what is
// next, and every step is made for each member before the next one begins. So they all move or all
// stay, and at every instant one side owns all of them. On a worker thread of its own.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "home/managed.h"
#include "home/migration.h"
#include "migrate/coordinator.h"

namespace tess::home {

class GroupMigration {
 public:
  // The processes are busy for as long as this runs; the first is the one that somebody asked for.
  // `node` empty: back home.
  GroupMigration(MainServices& services, std::vector<std::shared_ptr<Managed>> processes,
                 std::string node);
  // An error says why all stayed. A warning says what went wrong although they moved.
  Result<> run();
  const std::string& warning() const { return warning_; }
  // It stayed because somebody with whom it shares was on the way: a moment later it may go.
  bool unsettled() const { return unsettled_; }
  // All that took part; more may have joined than were given.
  std::vector<std::shared_ptr<Managed>> processes() const;

 private:
  Result<> step(migrate::Step step);
  Result<> forward(migrate::Step step);
  Result<> backward(migrate::Step step);
  Result<> freeze();
  Result<MainServices::Share> begin_share();
  Result<> died_at_rest(const Migration& member);
  Result<> join(std::vector<std::shared_ptr<Managed>> more);
  Result<> decide();
  Result<> switch_over(Result<> allowed);
  Result<> each(migrate::Step step);
  // One step of one member. One that is no longer there leaves the group, unless it is the first.
  Result<> one(size_t index, migrate::Step step);
  bool has_left(const Migration& member, const Error& error);
  void remove_left();
  void end_share(bool committed);
  std::set<pid_t> pids() const;
  std::vector<std::shared_ptr<Managed>> at_rest() const;  // the members
  void write_journal(const std::string& state);

  MainServices& services_;
  const std::string node_;
  std::vector<std::unique_ptr<Migration>> members_;
  std::vector<std::unique_ptr<Migration>> left_;  // have ended, or executed another program
  std::set<const Migration*> leaving_;
  migrate::Coordinator coordinator_;
  std::optional<uint64_t> share_;
  std::string warning_;
  bool unsettled_ = false;
};

}  // namespace tess::home
