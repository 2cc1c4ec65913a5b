#include "cluster/member_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <variant>

#include "cluster/test_util.h"

namespace tess::cluster {
namespace {

using Statement = std::variant<AliveRecord, Verdict>;

void hear(MemberTable& table, const Statement& statement) {
  std::visit([&](const auto& s) { table.apply(s); }, statement);
}

// The same statements, each heard at least once in any order, lead to the same table.
TEST(MemberTable, OrderDoesNotMatter) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Random random(seed);
    std::vector<Statement> statements;
    for (uint64_t n = 1; n <= 8; ++n) {
      statements.emplace_back(alive_record(n, 1));
    }
    const size_t joins = statements.size();
    for (int i = 0; i < 60; ++i) {
      const uint64_t n = 1 + random.below(8);
      const uint32_t incarnation = 1 + random.below(4);
      if (random.chance(0.4)) {
        statements.emplace_back(alive_record(n, incarnation));
      } else {
        // Verdicts only about incarnations that were alive: nobody can suspect what was never said.
        statements.emplace_back(alive_record(n, incarnation));
        statements.emplace_back(Verdict{node_id(n).key(), incarnation,
                                        static_cast<MemberState>(1 + random.below(3)), 1});
      }
    }
    Directory directory;
    MemberTable first(directory, node_id(100));
    MemberTable second(directory, node_id(101));
    for (MemberTable* table : {&first, &second}) {
      for (size_t i = 0; i < joins; ++i) {
        hear(*table, statements[i]);
      }
      std::vector<Statement> shuffled(statements);
      for (size_t i = shuffled.size(); i > 1; --i) {
        std::swap(shuffled[i - 1], shuffled[random.below(static_cast<uint32_t>(i))]);
      }
      for (int round = 0; round < 2; ++round) {  // what was ahead of its profile is heard again
        for (const Statement& statement : shuffled) {
          hear(*table, statement);
        }
      }
    }
    EXPECT_EQ(first.digest(), second.digest());
    EXPECT_EQ(first.live_count(), second.live_count());
    for (uint64_t n = 1; n <= 8; ++n) {
      const Slot slot = directory.find(node_id(n).key());
      EXPECT_EQ(first.state(slot), second.state(slot)) << n;
      EXPECT_EQ(first.incarnation(slot), second.incarnation(slot)) << n;
    }
  }
}

TEST(MemberTable, TheDeadComeBackOnlyUnderAHigherIncarnation) {
  Directory directory;
  MemberTable table(directory, node_id(0));
  table.apply(alive_record(1, 3));
  const uint64_t key = node_id(1).key();
  EXPECT_EQ(table.apply(Verdict{key, 3, MemberState::kDead, 0}), MemberTable::Change::kDied);
  EXPECT_EQ(table.live_count(), 0u);
  EXPECT_EQ(table.apply(alive_record(1, 3)), MemberTable::Change::kNone);
  EXPECT_EQ(table.apply(alive_record(1, 2)), MemberTable::Change::kNone);
  EXPECT_EQ(table.apply(alive_record(1, 4)), MemberTable::Change::kRevived);
  EXPECT_EQ(table.apply(Verdict{key, 3, MemberState::kLeft, 0}), MemberTable::Change::kNone);
  EXPECT_EQ(table.apply(Verdict{key, 5, MemberState::kSuspect, 0}), MemberTable::Change::kAhead);
  EXPECT_EQ(table.apply(Verdict{key, 4, MemberState::kSuspect, 0}),
            MemberTable::Change::kSuspected);
  EXPECT_EQ(table.live_count(), 1u);
  EXPECT_EQ(table.apply(alive_record(1, 5)), MemberTable::Change::kCleared);
}

TEST(MemberTable, AnotherNodeWithTheSameKeyIsNotTakenForIt) {
  Directory directory;
  MemberTable table(directory, node_id(0));
  table.apply(alive_record(1, 1));
  AliveRecord other = alive_record(1, 9);
  other.profile.id.bytes[15] ^= 1;
  EXPECT_EQ(table.apply(other), MemberTable::Change::kNone);
}

TEST(MemberTable, TurnsVisitEachLiveMemberOnce) {
  Directory directory;
  MemberTable table(directory, node_id(0));
  table.apply(alive_record(0, 1));
  for (uint64_t n = 1; n <= 50; ++n) {
    table.apply(alive_record(n, 1));
  }
  for (uint64_t n = 1; n <= 50; n += 5) {
    table.apply(Verdict{node_id(n).key(), 1, MemberState::kDead, 0});
  }
  Random random(4);
  for (int round = 0; round < 3; ++round) {
    std::set<Slot> seen;
    for (int i = 0; i < 40; ++i) {
      const Slot slot = table.next_in_turn(random);
      EXPECT_TRUE(table.live(slot));
      EXPECT_NE(slot, table.self());
      seen.insert(slot);
    }
    EXPECT_EQ(seen.size(), 40u);
  }
}

// Through any changes, each live member has exactly one other that watches it.
TEST(MemberTable, SuccessorsFormOneCircle) {
  Directory directory;
  constexpr uint64_t kNodes = 12;
  std::vector<std::unique_ptr<MemberTable>> tables;
  for (uint64_t n = 1; n <= kNodes; ++n) {
    tables.push_back(std::make_unique<MemberTable>(directory, node_id(n)));
  }
  Random random(9);
  std::vector<uint32_t> incarnation(kNodes + 1, 1);
  std::vector<bool> live(kNodes + 1, true);
  for (auto& table : tables) {
    for (uint64_t n = 1; n <= kNodes; ++n) {
      table->apply(alive_record(n, 1));
    }
  }
  for (int step = 0; step < 200; ++step) {
    const uint64_t n = 1 + random.below(kNodes);
    if (live[n] && std::count(live.begin() + 1, live.end(), true) <= 2) {
      continue;
    }
    live[n] = !live[n];
    for (uint64_t t = 1; t <= kNodes; ++t) {
      if (live[n]) {
        tables[t - 1]->apply(alive_record(n, incarnation[n] + 1));
      } else if (t != n) {
        tables[t - 1]->apply(Verdict{node_id(n).key(), incarnation[n], MemberState::kDead, 0});
      }
    }
    incarnation[n] += live[n] ? 1 : 0;
    std::set<Slot> watched;
    for (uint64_t t = 1; t <= kNodes; ++t) {
      if (live[t]) {
        watched.insert(tables[t - 1]->successor());
      }
    }
    EXPECT_EQ(watched.size(), static_cast<size_t>(std::count(live.begin() + 1, live.end(), true)));
  }
}

TEST(MemberTable, RangesAddUpToTheDigest) {
  Directory directory;
  MemberTable table(directory, node_id(0));
  for (uint64_t n = 1; n <= 300; ++n) {
    table.apply(alive_record(n, 1));
  }
  const RangeHashes all = table.hashes(Range{});
  uint32_t sum = 0;
  for (const uint32_t hash : all.children) {
    sum ^= hash;
  }
  EXPECT_EQ(sum, table.digest());
  uint32_t child_sum = 0;
  for (const uint32_t hash : table.hashes(Range{1, 7}).children) {
    child_sum ^= hash;
  }
  EXPECT_EQ(child_sum, all.children[7]);
}

TEST(Directory, SlotsAndProfilesAreReused) {
  Directory directory;
  for (int round = 0; round < 3; ++round) {
    MemberTable a(directory, node_id(0));
    MemberTable b(directory, node_id(1));
    for (uint64_t n = 0; n < 20; ++n) {
      a.apply(alive_record(n, 1));
      b.apply(alive_record(n, 1));
    }
    a.forget(a.find(node_id(7).key()));
    EXPECT_EQ(a.find(node_id(7).key()), kNoSlot);
    EXPECT_NE(b.find(node_id(7).key()), kNoSlot);
    EXPECT_LE(directory.end(), 20u);
  }
  EXPECT_EQ(directory.find(node_id(3).key()), kNoSlot);
}

}  // namespace
}  // namespace tess::cluster
