// Membership: one node's part in keeping the cluster's list of members and its load picture.
// Sans-I/O: every call brings the time, appends what is to be done to an Effects, and leaves a new
// deadline(); nothing here opens, waits or reads a clock. The caller (tessd's loop, the simulator):
//   - reads its clock once a turn, gives all packets that have come to receive(), and only then
//   calls tick() if
//     deadline() has passed, so that answers that came in time are heard before their absence is
//     judged;
//   - says how long a packet waited on this machine (SO_TIMESTAMPNS), and calls tick() late rather
//   than never: lateness is
//     noticed and makes this node careful instead of making others dead;
//   - sends datagrams to Effects' addresses, knocks, and hands on events.
// One thread owns it.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cluster/cipher.h"
#include "cluster/config.h"
#include "cluster/context.h"
#include "cluster/directory.h"
#include "cluster/effects.h"
#include "cluster/load.h"

namespace tess::cluster {

struct Identity {
  NodeId id;
  uint64_t session = 0;  // 64 random bits, drawn at this start, not 0
  std::string name;      // 1–63 printable characters
  Address address;       // may be empty: then as others see it
  uint32_t cluster = 0;  // tells clusters apart: the first bytes of the CA's fingerprint
};

class Membership {
 public:
  // `cipher` and `directory` outlive it.
  Membership(const Config& config, const Identity& identity, const LoadRecord& load, KeyRing keys,
             Cipher& cipher, Directory& directory, Random random, Time now);
  ~Membership();

  // Begins to look for others: seeds, and the beacon if it is on.
  void start(Time now, std::vector<Address> seeds, Effects& out);
  // `queued`: how long the datagram waited on this machine before this call.
  void receive(Time now, Duration queued, const Address& from, Bytes datagram, Effects& out);
  void tick(Time now, Effects& out);
  Time deadline() const;
  void knocked(Time now, const NodeId& node, KnockAnswer answer, Effects& out);
  // A connection with it that was in use has ended, and nobody here wanted that: it is looked at
  // now.
  void lost_connection(Time now, const NodeId& node, Effects& out);

  // Says good-bye; to be followed by ticks until departed(), at most half a second.
  void leave(Time now, Effects& out);
  bool departed(Time now) const;

  // A new measurement; told to others if it differs enough from the last one told, or that is old.
  void set_load(Time now, const LoadRecord& load, Effects& out);
  void set_address(Time now, const Address& address, Effects& out);
  void set_name(Time now, std::string name, Effects& out);
  void set_seeds(std::vector<Address> seeds);
  void set_keys(KeyRing keys);
  // Those that were expelled: gone at once, whatever their kernels answer, and whatever anybody
  // says of them from now on.
  void shut_out(Time now, std::span<const NodeId> nodes, Effects& out);
  // Takes over a list of members, as after a restart: they are believed until they do not answer.
  void remember(Time now, std::span<const AliveRecord> records);

  ClusterView view(Time now) const;
  // Cheaper than a view, for one member. nullptr-like: false if unknown.
  bool knows(const NodeId& node, MemberState& state, uint32_t& incarnation) const;
  unsigned live_count() const;
  uint32_t digest() const;
  // How badly off this node is itself, 0 to Attention::kMost.
  unsigned health_score() const;
  AliveRecord self() const;
  uint64_t count(Count what) const;
  uint64_t dropped(Drop why) const;
  uint64_t sent(Kind kind) const;
  // Age of what is known of a member's load; nullopt if nothing is.
  std::optional<Duration> load_age(Time now, const NodeId& node) const;

 private:
  struct Parts;
  struct Call;

  std::unique_ptr<Parts> parts_;
};

}  // namespace tess::cluster
