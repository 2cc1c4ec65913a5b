#include "node/process_book.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "node/placer.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using placement::Time;

constexpr uint64_t kJob = 0x100000001;

cluster::NodeId id(uint8_t number) {
  cluster::NodeId id;
  id.bytes.fill(number);
  return id;
}

cluster::NodeId id_of(const std::string& node, const std::string& meant) {
  if (meant == "who was n2") {
    return id(2);
  }
  return node.size() == 2 && node[0] == 'n' ? id(static_cast<uint8_t>(node[1] - '0'))
                                            : cluster::NodeId();
}

class ProcessBookTest : public ::testing::Test {
 protected:
  static std::shared_ptr<Agent> agent(wire::Register::Role role, const std::string& home) {
    auto agent = std::make_shared<Agent>();
    agent->job = kJob;
    agent->role = role;
    agent->home_node = home;
    return agent;
  }
  // Sets the one process of an agent's job.
  static void say(Agent& agent, const std::string& node, const std::string& state) {
    agent.status.clear_process();
    wire::JobProcess& process = *agent.status.add_process();
    process.set_pid(::getpid());  // one whose /proc is there
    process.set_inner_pid(42);
    process.set_node(node);
    process.set_state(state);
    process.set_command("/usr/bin/prog -x");
  }
  ProcessBook::Changes update(const std::shared_ptr<Agent>& agent, std::chrono::seconds at) {
    return book_.update({agent}, Time(at), id_of);
  }

  ProcessBook book_{"n1", id(1)};
  const placement::ProcessKey own_{process_key(id(1), kJob, 42)};
  const placement::ProcessKey guest_{process_key(id(2), kJob, 42)};
};

TEST_F(ProcessBookTest, OnlyJobsThatTheClusterMayMoveAreMovableAndTheirWishesAreKept) {
  const auto home = agent(wire::Register::HOME, "n1");
  say(*home, "n1", "native");
  update(home, 1s);
  book_.measure(Time(1s), 1000);
  auto pictures = book_.pictures(Time(1s), id_of, false);
  ASSERT_EQ(pictures.size(), 1u);
  EXPECT_FALSE(pictures[0].movable);
  EXPECT_FALSE(pictures[0].immovable_because.empty());

  ProcessBook other("n1", id(1));
  wire::Wishes wishes;
  wishes.add_avoid("n3");
  wishes.set_cpu_bound(true);
  home->note = Placer::note_of(wishes);
  other.update({home}, Time(1s), id_of);
  pictures = other.pictures(Time(1s), id_of, false);
  ASSERT_EQ(pictures.size(), 1u);
  EXPECT_TRUE(pictures[0].movable);
  EXPECT_TRUE(pictures[0].wishes.cpu_bound);
  EXPECT_EQ(pictures[0].wishes.avoid, std::vector{id(3)});

  // A node that has got another name since is still the one that was meant.
  ProcessBook third("n1", id(1));
  wishes.add_on("n2");
  wishes.add_on("old");
  wishes.add_on("n4");
  wishes.add_on_id("");
  wishes.add_on_id("who was n2");
  home->note = Placer::note_of(wishes);
  third.update({home}, Time(1s), id_of);
  pictures = third.pictures(Time(1s), id_of, false);
  ASSERT_EQ(pictures.size(), 1u);
  EXPECT_EQ(pictures[0].wishes.on, (std::vector{id(2), id(2), id(4)}));
  EXPECT_EQ(pictures[0].name, "prog");
}

TEST_F(ProcessBookTest, AProcessThatLeavesTakesItsPastAlongAndGetsItBack) {
  const auto home = agent(wire::Register::HOME, "n1");
  home->note = Placer::note_of({});
  say(*home, "n1", "native");
  update(home, 1s);
  book_.measure(Time(1s), 2000);
  say(*home, "n2", "deputy");
  const auto changes = update(home, 3s);
  EXPECT_EQ(changes.moved, std::vector{own_});
  EXPECT_EQ(book_.resident(own_), nullptr) << "its deputy does not run";
  OwnProcess* own = book_.own(own_);
  ASSERT_NE(own, nullptr);
  EXPECT_GT(own->carried.cpu_used, 0);
  EXPECT_EQ(own->came_from, "n1");

  own->carried.cpu_used = 70;
  own->carried_is_told = true;
  say(*home, "n1", "native");
  update(home, 9s);
  Resident* back = book_.resident(own_);
  ASSERT_NE(back, nullptr);
  EXPECT_EQ(back->carried.cpu_used, 70);
  EXPECT_EQ(back->since, Time(9s));
}

TEST_F(ProcessBookTest, AGuestIsMovedOnlyOnceItsHomeHasSpokenAndADrainOverridesWhatIsWanted) {
  const auto host = agent(wire::Register::HOST, "n2");
  say(*host, "n1", "guest");
  EXPECT_EQ(update(host, 1s).came, std::vector{guest_});
  EXPECT_EQ(book_.guests(), 1u);
  EXPECT_FALSE(book_.pictures(Time(1s), id_of, false)[0].movable);
  EXPECT_FALSE(book_.pictures(Time(1s), id_of, true)[0].movable);

  OwnProcess there;
  there.name = {id(2), kJob, 42};
  there.managed = true;
  there.carried.cpu_used = 5;
  there.carried.note_left(id(2), Time(100s));
  book_.set_facts(ProcessBook::facts_of(there, Time(130s)), Time(2s));
  const auto picture = book_.pictures(Time(2s), id_of, false)[0];
  EXPECT_TRUE(picture.movable);
  EXPECT_EQ(picture.cpu_used, 5);
  ASSERT_EQ(picture.recently_left.size(), 1u);
  EXPECT_EQ(picture.recently_left[0].ago, 30s);

  there.put_by_hand = true;
  book_.set_facts(ProcessBook::facts_of(there, Time(131s)), Time(3s));
  EXPECT_FALSE(book_.pictures(Time(3s), id_of, false)[0].movable);
  EXPECT_TRUE(book_.pictures(Time(3s), id_of, true)[0].movable);
}

TEST_F(ProcessBookTest, FactsThatComeBeforeTheGuestAreKeptForIt) {
  OwnProcess there;
  there.name = {id(2), kJob, 42};
  there.managed = true;
  book_.set_facts(ProcessBook::facts_of(there, Time(1s)), Time(1s));
  const auto host = agent(wire::Register::HOST, "n2");
  say(*host, "n1", "guest");
  update(host, 2s);
  EXPECT_TRUE(book_.pictures(Time(2s), id_of, false)[0].movable);
  book_.update({}, Time(3s), id_of);
  EXPECT_EQ(book_.guests(), 0u);
}

}  // namespace
}  // namespace tess::node
