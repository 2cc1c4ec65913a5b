// Config: the times and sizes of membership. The defaults are those of docs/scaling.md; a cluster
// has the same on all nodes, but nothing breaks if they differ. Plain value.
#pragma once

#include <cstddef>

#include "cluster/time.h"

namespace tess::cluster {

struct Config {
  using ms = std::chrono::milliseconds;

  // Failure detection. All are stretched by the local health score.
  Duration probe_interval = ms(400);  // one probe, in turns of the node's successor and of anyone
  Duration direct_timeout = ms(120);  // at least; four times the round trip if that is more
  Duration relay_timeout = ms(150);   // of each of two rounds through relays
  unsigned relays = 3;
  Duration suspicion_least = ms(1000);  // with enough evidence, in a small cluster
  Duration suspicion_decade = ms(420);  // times log10 of the members, if that is more
  unsigned suspicion_most = 4;          // times that without any evidence by others
  unsigned evidence_enough = 3;         // relays and other suspectors that cannot reach it either
  Duration suspicion_ping = ms(250);    // a suspect is asked again so often
  Duration late_tolerance = ms(60);     // beyond it, this node's own lateness counts

  // Asking the suspect's kernel (Effects::Knock).
  bool knock = true;
  Duration waiting_most =
      ms(5000);  // a node whose kernel holds its port is not even suspect for so long
  Duration knock_again = ms(1500);
  // For so long a process that holds its port and says nothing is only suspect.
  Duration knock_most = ms(120000);

  // Gossip.
  Duration gossip_interval = ms(60);
  unsigned gossip_fanout = 3;
  unsigned gossip_extra = 4;  // each news is told ln(members) + this many times by each node
  double gossip_rate = 1000;  // bytes a second
  double gossip_burst = 48000;

  // Load.
  Duration load_refresh = ms(5000);  // an unchanged load is published so often
  // Loads take what else is left of this many bytes a second, UDP and IP headers counted.
  double total_rate = 1850;
  double total_burst = 3000;
  unsigned load_extra = 3;  // each record is told ln(members) + this many times by each node
  size_t loads_each = 22;   // records in one packet at most
  size_t loads_kept = 1024;

  // Anti-entropy.
  Duration sync_after = ms(1500);     // tables have differed for so long
  Duration sync_interval = ms(2000);  // between two exchanges that this node begins
  double sync_rate = 8000;            // bytes a second, what it sends in answers
  double sync_burst = 1 << 20;
  // In answer to one request of a node that joins: with more, the loss of one would go unnoticed.
  size_t pull_packets = 1;
  Duration pull_timeout = ms(100);  // the first; then longer, as the network may be
  Duration pull_timeout_most = ms(600);
  size_t sync_inquiries = 16;  // members at once that others believe dead

  // Finding each other.
  Duration alone_interval = ms(1000);      // seeds are asked so often while this node is alone
  Duration seed_interval = ms(30000);      // and so often after that, those that are not members
  Duration reconnect_interval = ms(5000);  // somebody dead is asked whether it is back
  Duration beacon_interval = ms(2000);  // times the members: so often, all together, on one network
  bool beacons = true;
  Duration forget_after = std::chrono::hours(1);  // the dead and those that left are remembered
  Duration stale_packet = ms(2000);  // what lay in the queue for longer is dropped unread
};

}  // namespace tess::cluster
