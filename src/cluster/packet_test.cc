#include "cluster/packet.h"

#include <gtest/gtest.h>

#include "cluster/test_util.h"

namespace tess::cluster {
namespace {

struct Buffer {
  std::array<uint8_t, kDatagramMax> bytes{};
};

TEST(Packet, EverySectionComesBack) {
  Buffer buffer;
  PacketWriter out(buffer.bytes, Kind::kSync, 3, 77, 88, 99);
  AliveRecord record = alive_record(5, 9);
  record.profile.facts = {2500, 4, 8, uint64_t{16} << 30, uint64_t{2} << 30, 0xabcdef, 250, 1000};
  AliveRecord v6 = alive_record(6, 1);
  v6.profile.address = *Address::parse("[fe80::12]:7000");
  LoadNews load;
  load.short_key = 0x1234567890;
  load.version = 65535;
  load.age = std::chrono::milliseconds(1230);
  load.runnable = 3.5;
  load.cpu_pressure = 1;
  load.memory_free_mib = 70000;
  load.guests = 300;
  load.draining = true;
  load.accepting = false;
  load.distress = 7;
  ASSERT_TRUE(out.add_target(4711));
  ASSERT_TRUE(out.add_observed(record.profile.address));
  ASSERT_TRUE(out.add_link(100));
  ASSERT_TRUE(out.add_alive(record));
  ASSERT_TRUE(out.add_alive(v6));
  ASSERT_TRUE(out.add_verdict({1, 2, MemberState::kSuspect, 3}));
  ASSERT_TRUE(out.add_verdict({4, 5, MemberState::kDead, 0}));
  for (int i = 0; i < 15; ++i) {  // more than one section of them
    ASSERT_TRUE(out.add_load(load));
  }
  ASSERT_TRUE(out.add_wanted(42));
  ASSERT_TRUE(out.add_pull(43));
  ASSERT_TRUE(out.add_pulled(0));

  Packet in;
  ASSERT_TRUE(read_packet(out.plaintext(), in));
  EXPECT_EQ(in.kind, Kind::kSync);
  EXPECT_EQ(in.health, 3);
  EXPECT_EQ(in.sender, 77u);
  EXPECT_EQ(in.nonce, 88u);
  EXPECT_EQ(in.digest, 99u);
  EXPECT_EQ(in.target, 4711u);
  EXPECT_EQ(in.observed, record.profile.address);
  EXPECT_EQ(in.sender_link, 100u);
  ASSERT_EQ(in.alive.size(), 2u);
  EXPECT_EQ(in.alive[0].profile, record.profile);
  EXPECT_EQ(in.alive[0].incarnation, 9u);
  EXPECT_EQ(in.alive[1].profile, v6.profile);
  ASSERT_EQ(in.verdicts.size(), 2u);
  EXPECT_EQ(in.verdicts[0].from, 3u);
  EXPECT_EQ(in.verdicts[1].state, MemberState::kDead);
  ASSERT_EQ(in.loads.size(), 15u);
  EXPECT_EQ(in.loads[14].short_key, load.short_key);
  EXPECT_EQ(in.loads[14].age, load.age);
  EXPECT_EQ(in.loads[14].runnable, load.runnable);
  EXPECT_EQ(in.loads[14].memory_free_mib, load.memory_free_mib);
  EXPECT_TRUE(in.loads[14].draining);
  EXPECT_FALSE(in.loads[14].accepting);
  EXPECT_EQ(in.loads[14].distress, 7);
  EXPECT_EQ(in.wanted, std::vector<uint64_t>{42});
  EXPECT_EQ(in.pull_from, 43u);
  EXPECT_EQ(in.pulled_to, 0u);
}

TEST(Packet, RangesComeBack) {
  Buffer buffer;
  PacketWriter out(buffer.bytes, Kind::kSync, 0, 1, 0, 0);
  RangeEntries list{{1, 3}, true, {}};
  for (uint64_t i = 0; i < 60; ++i) {
    list.entries.push_back({uint64_t{3} << 59 | i, static_cast<uint32_t>(i), MemberState::kAlive});
  }
  ASSERT_TRUE(out.add_entries(list));
  RangeHashes hashes{{2, 33}, std::vector<uint32_t>(kRangeChildren, 7)};
  ASSERT_TRUE(out.add_hashes(hashes));
  Packet in;
  ASSERT_TRUE(read_packet(out.plaintext(), in));
  ASSERT_EQ(in.entries.size(), 1u);
  EXPECT_TRUE(in.entries[0].complete);
  EXPECT_EQ(in.entries[0].entries.size(), 60u);
  EXPECT_EQ(in.entries[0].entries[59].incarnation, 59u);
  ASSERT_EQ(in.hashes.size(), 1u);
  EXPECT_EQ(in.hashes[0].range, hashes.range);
  EXPECT_EQ(in.hashes[0].children, hashes.children);
}

TEST(Packet, WhatDoesNotFitIsRefusedAndAddsNothing) {
  Buffer buffer;
  PacketWriter out(std::span(buffer.bytes).first(kHeadSize + 40), Kind::kNews, 0, 1, 0, 0);
  const size_t size = out.size();
  EXPECT_FALSE(out.add_alive(alive_record(1, 1)));
  EXPECT_EQ(out.size(), size);
  EXPECT_TRUE(out.add_verdict({1, 2, MemberState::kSuspect, 3}));
}

// As the version before wrote them: the sections are the same but for the links.
TEST(Packet, ARecordWithoutALinkIsOneOfUnknownSpeed) {
  Buffer buffer;
  PacketWriter out(buffer.bytes, Kind::kAck, 0, 1, 0, 0);
  AliveRecord fast = alive_record(2, 1);
  fast.profile.facts.link_mbit = 10000;
  const size_t before = out.size();
  ASSERT_TRUE(out.add_alive(alive_record(1, 1)));
  const size_t old_size = out.size() - before;
  ASSERT_TRUE(out.add_alive(fast));
  EXPECT_EQ(out.size() - before, 2 * old_size + 6);
  Packet in;
  ASSERT_TRUE(read_packet(out.plaintext(), in));
  EXPECT_FALSE(in.sender_link);
  ASSERT_EQ(in.alive.size(), 2u);
  EXPECT_EQ(in.alive[0].profile.facts.link_mbit, 0u);
  EXPECT_EQ(in.alive[1].profile.facts.link_mbit, 10000u);

  PacketWriter small(std::span(buffer.bytes).first(kHeadSize + old_size), Kind::kAck, 0, 1, 0, 0);
  const size_t size = small.size();
  EXPECT_FALSE(small.add_alive(fast));  // not without its link
  EXPECT_EQ(small.size(), size);
}

TEST(Packet, EveryTruncationIsRefusedOrShorter) {
  Buffer buffer;
  PacketWriter out(buffer.bytes, Kind::kNews, 0, 1, 0, 0);
  out.add_alive(alive_record(1, 1));
  out.add_verdict({1, 2, MemberState::kSuspect, 3});
  Packet in;
  for (size_t size = 0; size < out.size(); ++size) {
    if (read_packet(out.plaintext().first(size), in)) {
      EXPECT_LT(in.alive.size() + in.verdicts.size(), 2u) << size;
    }
  }
}

TEST(Packet, UnknownSectionsOfANewerVersionAreSkipped) {
  Buffer buffer;
  PacketWriter out(buffer.bytes, Kind::kNews, 0, 1, 0, 0);
  std::vector<uint8_t> bytes(out.plaintext().begin(), out.plaintext().end());
  bytes.insert(bytes.end(), {200, 3, 1, 2, 3});
  PacketWriter more(buffer.bytes, Kind::kNews, 0, 1, 0, 0);
  more.add_wanted(5);
  bytes.insert(bytes.end(), more.plaintext().begin() + kHeadSize, more.plaintext().end());
  Packet in;
  ASSERT_TRUE(read_packet(bytes, in));
  EXPECT_EQ(in.wanted, std::vector<uint64_t>{5});
}

TEST(Packet, NonsenseIsRefused) {
  Buffer buffer;
  Packet in;
  const auto refused = [&](AliveRecord record) {
    PacketWriter out(buffer.bytes, Kind::kNews, 0, 1, 0, 0);
    out.add_alive(record);
    return !read_packet(out.plaintext(), in);
  };
  AliveRecord record = alive_record(1, 1);
  EXPECT_FALSE(refused(record));
  record.profile.name = "two words";
  EXPECT_TRUE(refused(record));
  record = alive_record(1, 0);
  EXPECT_TRUE(refused(record));
  record = alive_record(1, 1);
  record.profile.facts.speed = 0;
  EXPECT_TRUE(refused(record));
  record = alive_record(1, 1);
  record.profile.facts.threads = 0;
  EXPECT_TRUE(refused(record));
  const std::array<uint8_t, kHeadSize> unknown_kind{99};
  EXPECT_FALSE(read_packet(unknown_kind, in));
}

TEST(Address, TextAndBack) {
  for (const char* text : {"10.0.0.7:7117", "[fe80::1]:1", "255.255.255.255:65535"}) {
    EXPECT_EQ(Address::parse(text)->text(), text);
  }
  for (const char* text :
       {"", "10.0.0.7", "10.0.0.7:0", "10.0.0:1", "host:1", "[fe80::1:1", "1.2.3.4:70000"}) {
    EXPECT_FALSE(Address::parse(text)) << text;
  }
}

}  // namespace
}  // namespace tess::cluster
