// Datagrams from strangers and from members that make no sense. Built with libFuzzer
// (TESS_LIBFUZZER) it is a fuzz target of the packet reader and of what follows it; otherwise a
// test that mutates real datagrams with a fixed seed. A member that is fed with it never crashes,
// never grows beyond its bounds, and keeps its own place in its table.
#include <gtest/gtest.h>

#include "cluster/membership.h"
#include "cluster/test_util.h"

namespace tess::cluster {
namespace {

const Time kStart = Time(std::chrono::hours(1));

// Seals whatever it is given, so that the reader behind the seal is reached.
class Target {
 public:
  Target()
      : sender_(*cipher_, KeyRing(CipherKey{}), 5, kPeer.session),
        member_(Config{}, identity(), LoadRecord{}, KeyRing(CipherKey{}), *cipher_, directory_,
                Random(1), kStart) {
    AliveRecord peer;
    peer.profile = kPeer;
    member_.remember(kStart, std::span(&peer, 1));
    member_.start(kStart, {}, out_);
  }

  static Identity identity() {
    Identity self;
    self.id = node_id(1);
    self.session = 4711;
    self.name = "self";
    self.address = Address::v4(0x7f000001, 1);
    self.cluster = 5;
    return self;
  }

  // As a peer's packet: its head is made right.
  void feed_sealed(Bytes plaintext, bool bound) {
    const auto room = sender_.plaintext_room();
    const size_t size = std::min(plaintext.size(), room.size());
    std::copy_n(plaintext.begin(), size, room.begin());
    if (size >= kHeadSize) {
      ByteWriter head(room.subspan(2, 8));
      head.u64(kPeer.id.key());
    }
    feed(sender_.seal(size, bound ? 4711 : 0));
  }
  void feed(Bytes datagram) {
    now_ += std::chrono::milliseconds(7);
    out_.clear();
    member_.receive(now_, Duration(0), kPeer.address, datagram, out_);
    if (member_.deadline() <= now_) {
      member_.tick(now_, out_);
    }
    MemberState state{};
    uint32_t incarnation = 0;
    if (!member_.knows(node_id(1), state, incarnation) || state != MemberState::kAlive ||
        out_.bytes.size() > 64 * kDatagramMax) {
      __builtin_trap();
    }
  }
  Membership& member() { return member_; }

 private:
  inline static const Profile kPeer = alive_record(2, 1).profile;
  std::unique_ptr<Cipher> cipher_ = make_openssl_cipher();
  Directory directory_;
  Envelope sender_;
  Membership member_;
  Effects out_;
  Time now_ = kStart;
};

}  // namespace
}  // namespace tess::cluster

#ifdef TESS_LIBFUZZER
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static tess::cluster::Target target;
  if (size > 1) {
    target.feed_sealed(tess::cluster::Bytes(data + 1, size - 1), data[0] % 4 != 0);
  }
  return 0;
}
#else
namespace tess::cluster {
namespace {

std::vector<uint8_t> sample(uint64_t seed) {
  std::array<uint8_t, kDatagramMax> buffer{};
  Random random(seed);
  PacketWriter out(buffer, static_cast<Kind>(1 + random.below(9)), 0, 2, 3, 4);
  for (int i = 0; i < 6; ++i) {
    const uint64_t key = node_id(1 + random.below(6)).key();
    switch (random.below(10)) {
      case 0:
        out.add_alive(alive_record(1 + random.below(9), 1 + random.below(4)));
        break;
      case 1:
        out.add_verdict(
            {key, 1 + random.below(4), static_cast<MemberState>(1 + random.below(3)), 9});
        break;
      case 2: {
        LoadNews load;
        load.short_key = NodeId::shorten(key);
        out.add_load(load);
        break;
      }
      case 3:
        out.add_hashes({{static_cast<uint8_t>(random.below(3)), 0}, std::vector<uint32_t>(32, 1)});
        break;
      case 4:
        out.add_entries({{0, 0}, true, {{key, 1 + random.below(3), MemberState::kDead}}});
        break;
      case 5:
        out.add_wanted(key);
        break;
      case 6:
        out.add_pull(random.next());
        break;
      case 7:
        out.add_target(key);
        break;
      case 8:
        out.add_link(static_cast<uint32_t>(random.next()));
        break;
      default:
        out.add_observed(Address::v4(random.below(99), 7));
        break;
    }
  }
  return {out.plaintext().begin(), out.plaintext().end()};
}

TEST(DatagramFuzz, MutatedPacketsOfAMember) {
  Target target;
  for (uint64_t round = 1; round <= 15000; ++round) {
    Random random(round);
    auto plaintext = sample(round);
    for (uint32_t i = random.below(5); i > 0; --i) {
      plaintext[random.below(static_cast<uint32_t>(plaintext.size()))] =
          static_cast<uint8_t>(random.next());
    }
    if (random.chance(0.2)) {
      plaintext.resize(random.below(static_cast<uint32_t>(plaintext.size()) + 1));
    }
    target.feed_sealed(plaintext, random.chance(0.8));
  }
  EXPECT_GT(target.member().dropped(Drop::kMalformed), 1000u);
  EXPECT_GT(target.member().count(Count::kRefutations), 5u);
}

TEST(DatagramFuzz, RandomBytes) {
  Target target;
  Random random(7);
  for (int round = 0; round < 20000; ++round) {
    std::vector<uint8_t> bytes(random.below(200));
    for (uint8_t& byte : bytes) {
      byte = static_cast<uint8_t>(random.next());
    }
    if (!bytes.empty() && random.chance(0.7)) {
      bytes[0] = 0xc7;
    }
    target.feed(bytes);
  }
  EXPECT_GT(target.member().dropped(Drop::kForeign), 0u);
  EXPECT_GT(target.member().dropped(Drop::kTruncated), 0u);
  EXPECT_EQ(target.member().live_count() >= 1, true);
}

}  // namespace
}  // namespace tess::cluster
#endif
