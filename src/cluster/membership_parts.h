// The inside of Membership, shared by its two source files: what it owns, and how each call is
// framed. Private.
#pragma once

#include <set>

#include "cluster/discovery.h"
#include "cluster/membership.h"
#include "cluster/prober.h"
#include "cluster/sync.h"

namespace tess::cluster {

struct Membership::Parts {
  Parts(const Config& config, const Identity& identity, const LoadRecord& load, KeyRing keys,
        Cipher& cipher, Directory& directory, Random random, Time now);

  Context context;
  Prober prober;
  Sync sync;
  Discovery discovery;
  Time promised;  // the deadline that the caller was told
  Time next_gossip;
  Time next_housekeeping;
  Packet packet;  // the one being read; keeps its memory

  LoadRecord load;  // as measured last
  Time load_set;
  LoadNews load_told;
  Time load_told_at;

  bool leaving = false;
  unsigned good_byes = 0;  // still to be said
  Time next_good_bye;

  struct AddressVote {
    uint64_t from;
    Address seen;
    Time at;
  };
  std::vector<AddressVote> address_votes;
  std::set<NodeId> shut_out;
  unsigned clashes = 0;
  Time clashes_since;

  // membership.cc: driven by time and by this node's own changes.
  Time next_deadline() const;
  void tick();
  void gossip();
  void say_good_bye();
  void housekeeping();
  void announce(uint32_t incarnation, const Profile& profile);
  void publish_load(bool must);

  // membership_receive.cc: driven by what others say.
  void receive(Duration queued, const Address& from, Bytes datagram);
  void on_bound(const Envelope::Opened& opened, Duration queued, const Address& from);
  void on_kind(Slot sender, Duration queued, const Address& from, bool doubted);
  void take_alive(const AliveRecord& record);
  void take_verdict(const Verdict& verdict, Slot sender);
  // The table took it for dead or left: whatever is under way about it ends, and others are told.
  void gone(MemberTable::Change how, Slot slot);
  void take_own_record(const AliveRecord& record);
  void refute(uint32_t incarnation);
  void on_observed(const Address& seen, uint64_t from);
  void want(uint64_t key, Slot from);
};

// Around each public call: sets the time and where effects go, notes lateness, and settles the next
// deadline at the end.
struct Membership::Call {
  Call(Parts& of, Time now, Duration queued, Effects& out) : parts(of) {
    Context& context = parts.context;
    context.attention.observe(now, parts.promised, queued);
    context.now = std::max(context.now, now);
    context.out = &out;
  }
  ~Call() {
    parts.context.out = nullptr;
    parts.promised = parts.next_deadline();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  Parts& parts;
};

}  // namespace tess::cluster
