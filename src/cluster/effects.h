// Effects: what Membership wants done. The caller owns one, passes it to each call, carries out
// what was appended, and clears it (its memory is kept).
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/address.h"
#include "cluster/load.h"

namespace tess::cluster {

// What the kernel of a node says when its TCP port (Profile::address) is tried; it answers even
// when the node's processes get no CPU at all.
enum class KnockAnswer : uint8_t {
  kHolds,    // connected: a process still has the port
  kRefused,  // no process has the port any more
  kSilent,   // nothing came back within half a second
};

enum class EventKind : uint8_t {
  kJoined,   // a node that was not known, or that had been dead or had left
  kChanged,  // a new address, name or machine
  kSuspected,
  kCleared,  // not suspect any more
  kDied,
  kLeft,
  kRefuted,         // this node was thought suspect or dead, and objected
  kIdentityClash,   // another machine uses this node's key; `node` is this node
  kAddressChanged,  // others see this node at another address; it uses that from now on
  kReady,           // has joined: knows all members that its peer knew
};
const char* to_text(EventKind kind);

struct Event {
  EventKind kind;
  NodeId node;
  uint32_t incarnation = 0;
};

struct Effects {
  struct Send {
    Address to;
    uint32_t offset = 0;
    uint32_t size = 0;
  };
  // Try to connect to this TCP port and report by Membership::knocked.
  struct Knock {
    NodeId node;
    Address at;
  };

  std::vector<Send> sends;
  std::vector<Send> beacons;  // to the multicast group; `to` is empty
  std::vector<Knock> knocks;
  std::vector<Event> events;
  std::vector<uint8_t> bytes;

  Bytes datagram(const Send& send) const { return Bytes(bytes).subspan(send.offset, send.size); }
  void clear() {
    sends.clear();
    beacons.clear();
    knocks.clear();
    events.clear();
    bytes.clear();
  }
};

}  // namespace tess::cluster
