// Discovery: finds other nodes and brings tables together that know nothing of each other: seed
// addresses, beacons on the local network, and now and then a member that is believed dead. A
// stranger is asked with a packet that anyone with the cluster's key can open (kJoin); nothing in
// such a packet is believed. The answer (kWelcome) is sealed for the asker's session and repeats
// its nonce, so it is new; the asker then shows itself in a packet sealed for the other's session.
// Part of Membership.
#pragma once

#include <array>
#include <vector>

#include "cluster/context.h"

namespace tess::cluster {

class Discovery {
 public:
  explicit Discovery(Context& context);

  void start(std::vector<Address> seeds);
  void set_seeds(std::vector<Address> seeds) { seeds_ = std::move(seeds); }
  void tick();
  Time deadline() const;

  // Somebody unknown, or known under another session, is at this address, or somebody who takes
  // this node for its earlier start.
  void introduce(const Address& to);
  // A member talks under another session than the one known here. Perhaps it started anew and does
  // not know what is believed of its earlier start: it is told, so that it can outbid that. Perhaps
  // its news has not come here: it is asked.
  void settle_session(Slot slot, uint64_t session, const Address& at);
  // Answers a kJoin or looks at a kBeacon; neither is believed. `session` sealed the packet.
  void on_open(const Packet& packet, uint64_t session, const Address& from);
  // Whether a kWelcome answers a question of ours.
  bool expected(uint32_t nonce) const;

 private:
  void ask(const Address& to);
  void beacon();
  void reconnect();
  bool is_member(const Address& address) const;

  Context& context_;
  std::vector<Address> seeds_;
  std::array<uint32_t, 2> nonces_{};  // the current one and the one before
  Time renew_nonce_;
  Time next_seed_;
  Time next_beacon_;
  Time next_reconnect_;
  Time next_introduction_;
  bool started_ = false;
};

}  // namespace tess::cluster
