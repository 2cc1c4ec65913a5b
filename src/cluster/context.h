// Context: what the parts of one node's membership share: its table, its queues, and the way out
// for packets. Parts (Prober, Sync, Discovery) hold a reference to it and to nothing of each other
// but what Membership passes on. Built and owned by Membership; one thread.
#pragma once

#include <array>
#include <cmath>
#include <deque>
#include <unordered_map>

#include "cluster/attention.h"
#include "cluster/budget.h"
#include "cluster/config.h"
#include "cluster/effects.h"
#include "cluster/envelope.h"
#include "cluster/load_board.h"
#include "cluster/member_table.h"
#include "cluster/news.h"

namespace tess::cluster {

// What happened, for metrics, and for tests that must not miss a rare branch.
enum class Count : uint8_t {
  kPacketsIn,
  kPacketsOut,
  kBytesOut,
  kProbes,
  kProbesRelayed,
  kSuspicions,     // begun here
  kDeathsSaid,     // verdicts of this node
  kRefutations,    // of this node
  kVerdictsHeld,   // spared because its kernel answered
  kRefusedKnocks,  // dead at once: its process has gone
  kNacks,          // sent as a relay
  kSyncs,          // begun here
  kSyncPushes,
  kSyncInquiries,
  kPulls,
  kReconnects,
  kBeacons,
  kIntroductions,  // asked an unknown sender who it is
  kStaleTalk,      // statements older than what is known
  kCount,
};
inline constexpr size_t kCountCount = static_cast<size_t>(Count::kCount);
const char* to_text(Count count);

// Who says that a live member is suspect; kept while it is.
struct Suspicion {
  uint32_t incarnation = 0;
  std::vector<uint64_t> from;
  Time fallback;  // in attention time: look again yourself
};
inline constexpr size_t kSuspectorsKept = 4;
inline constexpr size_t kRecentKept = 6;

struct Context {
  Context(const Config& settings, Directory& directory, Cipher& cipher, KeyRing ring,
          uint32_t cluster, const Profile& self, Random seeded, Time start)
      : config(settings),
        random(seeded),
        table(directory, self.id),
        board(settings.loads_kept),
        attention(start, settings.late_tolerance),
        envelope(cipher, std::move(ring), cluster, self.session),
        gossip_budget(start, settings.gossip_rate, settings.gossip_burst),
        total_budget(start, settings.total_rate, settings.total_burst),
        sync_budget(start, settings.sync_rate, settings.sync_burst),
        heard(start),
        now(start) {}

  const Config config;
  Random random;
  MemberTable table;
  News news;
  LoadBoard board;
  Attention attention;
  Envelope envelope;
  Budget gossip_budget;
  Budget total_budget;
  Budget sync_budget;
  std::unordered_map<Slot, Suspicion> suspicions;
  std::unordered_map<Slot, Duration> round_trips;
  std::unordered_map<Slot, std::pair<unsigned, Time>>
      unwell;                           // what their packets said of their own health, and when
  std::unordered_map<Slot, Time> gone;  // dead or left, since when
  std::deque<std::pair<Slot, Time>> recently_gone;
  std::deque<std::pair<Slot, Time>> recently_changed;  // whichever way, if others were told
  std::array<uint64_t, kCountCount> counts{};
  std::array<uint64_t, kDropCount> drops{};
  std::array<uint64_t, kKindEnd> sent{};  // packets by kind
  Time heard;                             // a member, last
  Time now;
  Effects* out = nullptr;  // of the call in progress

  uint64_t self_key() const { return table.key(table.self()); }
  void count(Count what) { ++counts[static_cast<size_t>(what)]; }
  void drop(Drop why) { ++drops[static_cast<size_t>(why)]; }
  void event(EventKind kind, Slot slot) {
    out->events.push_back({kind, table.profile(slot).id, table.incarnation(slot)});
  }
  // How badly off a member is by what it said itself, 0 to Attention::kMost.
  unsigned distress(Slot slot) const;
  void note_health(Slot slot, unsigned score);
  // After the table took it for dead or left.
  void note_gone(Slot slot) {
    gone[slot] = now;
    recently_gone.emplace_back(slot, now);
    if (recently_gone.size() > kRecentKept) {
      recently_gone.pop_front();
    }
    suspicions.erase(slot);
    round_trips.erase(slot);
    unwell.erase(slot);
    board.forget(slot);
  }
  // Who has gone lately. One that starves drops most of what it is sent, so news that is told a few
  // times may never reach it: between it and others every packet repeats these.
  void add_recent(PacketWriter& packet, Slot peer);
  // For one whose table differs: what it is likely to have missed.
  void add_missed(PacketWriter& packet);
  double log_members() const { return std::log(1.0 + table.live_count()); }
  uint32_t fresh_nonce() { return static_cast<uint32_t>(random.next() >> 32); }

  // A packet for `slot` at its address, or for whoever is at `to` (then with `session` 0 it is not
  // bound). `fill` adds the packet's own sections; what is left carries news and loads, if the
  // receiver is a member.
  template <typename Fill>
  void send(Kind kind, uint32_t nonce, Slot slot, Fill fill) {
    send(kind, nonce, table.profile(slot).address, table.profile(slot).session,
         [&](PacketWriter& packet) {
           fill(packet);
           add_recent(packet, slot);
         });
  }
  template <typename Fill>
  void send(Kind kind, uint32_t nonce, const Address& to, uint64_t session, Fill fill) {
    ++sent[static_cast<size_t>(kind)];
    PacketWriter packet = begin(kind, nonce);
    fill(packet);
    // A welcome stays small: its address may be a lie.
    finish(packet, to, session, session != 0 && kind != Kind::kWelcome);
  }
  void send(Kind kind, uint32_t nonce, Slot slot) {
    send(kind, nonce, slot, [](PacketWriter&) {});
  }

  // What is known about a member, as a section: for those who have its profile.
  bool add_record(PacketWriter& packet, Slot slot);
  // The same for those who may not.
  bool add_whole(PacketWriter& packet, Slot slot);
  bool add_self(PacketWriter& packet) {
    return packet.add_alive(table.incarnation(table.self()), table.profile(table.self()));
  }
  // To those who ask directly; so they know it, whoever told them the rest.
  void add_own_link(PacketWriter& packet) {
    if (const uint32_t mbit = table.profile(table.self()).facts.link_mbit; mbit != 0) {
      packet.add_link(mbit);
    }
  }
  // If a member is thought to be gone or suspect: say so to it, so that it can object.
  void add_doubt(PacketWriter& packet, Slot slot);

  // Everyone is to hear about this member.
  void tell(Slot slot) {
    news.add(slot, static_cast<unsigned>(std::ceil(log_members())) + config.gossip_extra);
    std::erase_if(recently_changed, [slot](const auto& one) { return one.first == slot; });
    recently_changed.emplace_back(slot, now);
    if (recently_changed.size() > kRecentKept) {
      recently_changed.pop_front();
    }
  }
  // Most are to hear that it is suspect: a verdict or an objection follows, and is told to all.
  void tell_suspicion(Slot slot) {
    news.add(slot, static_cast<unsigned>(std::ceil(log_members() / 2)) + 2);
  }

  PacketWriter begin(Kind kind, uint32_t nonce);
  void finish(PacketWriter& packet, const Address& to, uint64_t session, bool piggyback);
  void finish_beacon(PacketWriter& packet);

 private:
  void add_news(PacketWriter& packet);
  void add_loads(PacketWriter& packet);
  void put_out(std::vector<Effects::Send>& into, const Address& to, Bytes datagram);
};

}  // namespace tess::cluster
