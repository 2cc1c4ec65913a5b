// The state machine against a small model of the world: for each kind of migration, each step and
// each way of failing (the step had its effect or not), and each crash of the coordinator, exactly
// one copy of the process lives on.
#include "migrate/coordinator.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tess::migrate {
namespace {

// What is where. A body without a deputy to talk to can compute but not act.
struct World {
  enum class Home { kNative, kParkedNative, kDeputy, kParkedDeputy } home = Home::kNative;
  enum class Copy { kNone, kRestored, kRunning, kFrozen } source = Copy::kNone;
  Copy target = Copy::kNone;
  enum class Peer {
    kNone,
    kSource,
    kTarget
  } peer = Peer::kNone;  // whom the deputy's channels reach
  bool journal = false;

  explicit World(Kind kind) {
    if (kind != Kind::kOut) {
      home = Home::kDeputy;
      source = Copy::kRunning;
      peer = Peer::kSource;
    }
  }

  // Copies that can act on the world or will by themselves.
  int live() const {
    int count = home == Home::kNative ? 1 : 0;
    if (home == Home::kDeputy) {
      count += source == Copy::kRunning && peer == Peer::kSource ? 1 : 0;
      count += target == Copy::kRunning && peer == Peer::kTarget ? 1 : 0;
    }
    return count;
  }

  void perform(Kind kind, Step step) {
    switch (step) {
      case Step::kReserve:
      case Step::kConnect:
        break;
      case Step::kFreeze:
        home = kind == Kind::kOut ? Home::kParkedNative : Home::kParkedDeputy;
        source = source == Copy::kRunning ? Copy::kFrozen : source;
        break;
      case Step::kTransfer:
        target = Copy::kRestored;
        break;
      case Step::kRunTarget:
        target = Copy::kRunning;
        break;
      case Step::kJournal:
        journal = true;
        break;
      case Step::kSwitch:
        if (kind == Kind::kBack) {
          home = Home::kNative;
          peer = Peer::kNone;
        } else {
          home = Home::kDeputy;
          peer = Peer::kTarget;
        }
        break;
      case Step::kDropSource:
        source = Copy::kNone;
        break;
      case Step::kDropTarget:
        target = Copy::kNone;
        break;
      case Step::kThawSource:
        source = source == Copy::kFrozen ? Copy::kRunning : source;
        break;
      case Step::kReleaseHome:
        home = home == Home::kParkedNative   ? Home::kNative
               : home == Home::kParkedDeputy ? Home::kDeputy
                                             : home;
        break;
    }
  }

  // The coordinator dies: links close, so hosts kill their bodies; what is parked without its agent
  // goes on as the stub says.
  void crash() {
    source = Copy::kNone;
    target = Copy::kNone;
    if (home == Home::kParkedNative) {
      home = Home::kNative;
    }
  }
};

void run(Coordinator& coordinator, World& world) {
  while (const auto step = coordinator.next()) {
    world.perform(coordinator.kind(), *step);
    EXPECT_LE(world.live(), 1) << name(*step);
    coordinator.done();
  }
}

class EachKind : public ::testing::TestWithParam<Kind> {};

TEST_P(EachKind, MovesWhenNothingFails) {
  Coordinator coordinator(GetParam());
  World world(GetParam());
  run(coordinator, world);
  EXPECT_EQ(coordinator.outcome(), Outcome::kMoved);
  EXPECT_EQ(world.live(), 1);
  EXPECT_EQ(world.source, World::Copy::kNone);
  EXPECT_EQ(world.home == World::Home::kNative, GetParam() == Kind::kBack);
  EXPECT_TRUE(world.journal);
}

TEST_P(EachKind, EveryFailureLeavesOneCopy) {
  for (int fail_at = 0; fail_at < 9; ++fail_at) {
    for (const bool had_effect : {false, true}) {
      Coordinator coordinator(GetParam());
      World world(GetParam());
      int at = 0;
      bool failed = false;
      bool was_committed = false;
      Step failed_step{};
      while (const auto step = coordinator.next()) {
        const bool fails = at++ == fail_at;
        if (!fails || had_effect) {
          world.perform(coordinator.kind(), *step);
        }
        EXPECT_LE(world.live(), 1) << name(*step);
        if (fails) {
          failed = true;
          failed_step = *step;
          was_committed = coordinator.committed();
          coordinator.failed("because");
        } else {
          coordinator.done();
        }
      }
      if (!failed) {
        continue;
      }
      SCOPED_TRACE(std::string(name(failed_step)) + (had_effect ? " after" : " before"));
      EXPECT_EQ(coordinator.reason(), "because");
      if (!was_committed) {
        EXPECT_EQ(coordinator.outcome(), Outcome::kStayed);
        EXPECT_EQ(world.live(), 1);
        EXPECT_EQ(world.target == World::Copy::kRunning, false);
        EXPECT_EQ(world.home == World::Home::kNative, GetParam() == Kind::kOut);
      } else if (failed_step != Step::kSwitch || had_effect) {
        EXPECT_EQ(coordinator.outcome(), Outcome::kMoved);
        EXPECT_EQ(world.live(), 1);
      } else {
        // Only the death of the process at home can make the switch fail.
        EXPECT_LE(world.live(), 1);
      }
    }
  }
}

TEST_P(EachKind, ACrashBeforeTheSwitchNeverLeavesTwo) {
  for (int crash_at = 0; crash_at < 9; ++crash_at) {
    Coordinator coordinator(GetParam());
    World world(GetParam());
    int at = 0;
    bool switched = false;
    while (const auto step = coordinator.next()) {
      if (at++ == crash_at) {
        break;
      }
      world.perform(coordinator.kind(), *step);
      switched = switched || *step == Step::kSwitch;
      coordinator.done();
    }
    world.crash();
    EXPECT_LE(world.live(), 1);
    if (GetParam() == Kind::kOut && !switched) {
      EXPECT_EQ(world.live(), 1) << "a process that had not left must go on at home";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Migration, EachKind,
                         ::testing::Values(Kind::kOut, Kind::kHop, Kind::kBack),
                         [](const auto& parameter) { return std::string(name(parameter.param)); });

TEST(FaultPoints, AreNamedByKindAndStep) {
  const auto points = fault_points();
  EXPECT_EQ(points.size(), 2u * (7 + 8 + 5));
  EXPECT_NE(std::find(points.begin(), points.end(), "out.before_transfer"), points.end());
  EXPECT_NE(std::find(points.begin(), points.end(), "back.after_journal"), points.end());
}

}  // namespace
}  // namespace tess::migrate
