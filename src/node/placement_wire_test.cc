#include "node/placement_wire.h"

#include <gtest/gtest.h>

#include <limits>

namespace tess::node {
namespace {

using cluster::NodeId;
using placement::Time;

NodeId node(uint8_t number) {
  NodeId id;
  id.bytes.fill(number);
  return id;
}

TEST(PlacementWire, LoadsAsksAndCarriedFactsComeBackAsTheyWere) {
  cluster::LoadRecord load;
  load.speed = 1234;
  load.cores = 3;
  load.threads = 6;
  load.memory_bytes = uint64_t{8} << 30;
  load.memory_free_bytes = 12345;
  load.runnable = 2.5F;
  load.guests = 7;
  load.draining = true;
  load.link_mbit = 2500;
  EXPECT_EQ(from_wire(to_wire(load)), load);
  wire::Load older = to_wire(load);
  older.clear_link_mbit();
  EXPECT_EQ(from_wire(older).link_mbit, 0u) << "of a version that does not say";

  placement::Ask ask;
  ask.from = node(2);
  ask.cause = placement::Cause::kTurn;
  ask.demand = 0.7;
  ask.memory_bytes = 99;
  ask.scale = {2.5, 8};
  wire::PlaceAsk message;
  to_wire(ask, message);
  message.mutable_process()->set_home(to_wire(node(1)));
  message.mutable_process()->set_job(0x1234567890abcdefU);
  message.mutable_process()->set_pid(42);
  const auto back = from_wire(message);
  EXPECT_EQ(back.process, process_key(node(1), 0x1234567890abcdefU, 42));
  EXPECT_EQ(back.from, node(2));
  EXPECT_EQ(back.cause, ask.cause);
  EXPECT_EQ(back.demand, ask.demand);
  EXPECT_EQ(back.scale.limit, 8);

  const Time now(std::chrono::seconds(100));
  Carried carried;
  carried.cpu_used = 3;
  carried.wanted = 5;
  carried.moves = 2;
  carried.note_left(node(3), now - std::chrono::seconds(4));
  const Time there(std::chrono::seconds(9000));  // another machine's clock
  const auto arrived = from_wire(to_wire(carried, now), there);
  EXPECT_EQ(arrived.cpu_used, 3);
  EXPECT_EQ(arrived.moves, 2u);
  ASSERT_EQ(arrived.left.size(), 1u);
  EXPECT_EQ(arrived.left[0].node, node(3));
  EXPECT_EQ(there - arrived.left[0].at, std::chrono::seconds(4));
}

TEST(PlacementWire, NonsenseIsBounded) {
  wire::Load load;
  load.set_runnable(std::numeric_limits<float>::quiet_NaN());
  load.set_cores(1'000'000);
  const auto record = from_wire(load);
  EXPECT_EQ(record.runnable, 0);
  EXPECT_EQ(record.speed, 1u);
  EXPECT_EQ(record.cores, UINT16_MAX);
  wire::MoveReason reason;
  reason.set_cause(77);
  reason.set_memory_free(1e300);
  EXPECT_FALSE(from_wire(reason, Time()).text().empty());
  wire::Carried carried;
  carried.set_cpu_used(-1);
  for (int i = 0; i < 100; ++i) {
    carried.add_left()->set_ago_us(std::numeric_limits<uint64_t>::max());
  }
  const auto back = from_wire(carried, Time());
  EXPECT_EQ(back.cpu_used, 0);
  EXPECT_LE(back.left.size(), 6u);
}

TEST(PlacementWire, KeysOfDifferentJobsAndHomesDiffer) {
  EXPECT_NE(process_key(node(1), 1, 42), process_key(node(1), 2, 42));
  EXPECT_NE(process_key(node(1), 1, 42), process_key(node(2), 1, 42));
  EXPECT_TRUE(id_from_wire("short").empty());
}

}  // namespace
}  // namespace tess::node
