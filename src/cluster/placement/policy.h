// Policy: every number that placement decides by, in one plain struct that can be changed while the
// cluster runs. The defaults are those that docs/placement.md was measured with. Nodes may differ
// in policy: a node's own policy rules what leaves it and what it takes in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cluster/time.h"

namespace tess::placement {

using cluster::Duration;

struct Policy {
  // A second hardware thread of a core adds this much of what the first gives.
  double smt_gain = 0.3;
  // A place must be cheaper by this share than the present one (opportunity cost). Without it,
  // noise in the measured loads would move processes.
  double hysteresis = 0.12;
  // Threads by which the load of either node may be other than recorded: what daemons do now and
  // then, and who has just stopped or begun. A place must be cheaper then, too: else two nodes, one
  // of which has a process more, would hand it to and fro.
  double load_error = 0.3;

  // What a move costs the process that moves: a fixed part, and its memory over the network for as
  // much of the transfer as it stands still.
  Duration move_fixed = std::chrono::milliseconds(150);
  // What an end of a link gives that does not say how fast it is. Of one that does: this share of
  // its nominal speed, and no more than a node can read, seal and send.
  double bandwidth_bytes_per_s = 110e6;
  double link_share = 0.9;
  double stream_bytes_per_s = 700e6;
  // How transfers that were measured are remembered (LinkRates): none smaller than this, no more
  // than so many bytes of a peer, half of it after so long; weighed as if so many bytes more had
  // been as fast as the link should be.
  double rate_least_bytes = 1 << 20;
  double rate_kept_bytes = 256 << 20;
  Duration rate_half_life = std::chrono::minutes(10);
  double rate_prior_bytes = 2 << 20;
  double stopped_share = 1.0;
  // The seconds saved must be this many times the seconds spent.
  double price_margin = 1.5;
  // How much more work a process is expected to do: as much as it has done so far (half of the
  // processes that have lived for T live for another T), within these limits.
  Duration min_expected_work = std::chrono::seconds(1);
  Duration max_expected_work = std::chrono::hours(4);

  // A process is let alone this long where it is, longer with every move that it has made for
  // balance.
  Duration residency = std::chrono::seconds(2);
  double residency_growth = 1.5;
  Duration max_residency = std::chrono::seconds(60);
  // It does not go back to a node that it left less than this ago, unless that costs less than
  // half.
  Duration no_return = std::chrono::seconds(30);
  double return_share = 0.5;

  // Moves under way from one node for balance, in number and in seconds that their transfers take
  // its link. The first is always allowed; those that must leave (an owner is back) are not
  // limited.
  size_t max_outgoing = 64;
  Duration max_queued_transfer = std::chrono::milliseconds(1500);
  // A node that has this much on its way in already takes no more, unless it must.
  Duration max_incoming_transfer = std::chrono::seconds(4);
  // A node that has become slower than the asker believed by this much refuses, though it might
  // still be better: the asker, now knowing that, may know of a better one.
  double disappointment = 0.25;
  // What is known about a node that is older than this is not acted upon.
  Duration max_age = std::chrono::seconds(15);
  // A promise of a place is kept this long, plus the expected transfer.
  Duration promise = std::chrono::seconds(10);
  // A node that refused is not asked again for this long, doubling with every refusal in a row.
  Duration refused_pause = std::chrono::seconds(1);
  Duration max_refused_pause = std::chrono::seconds(16);

  // One system call carried home, apart from the round trip.
  Duration home_call_overhead = std::chrono::microseconds(40);
  // The round trip where none has been measured.
  Duration default_round_trip = std::chrono::microseconds(250);

  // Memory, as shares of the machine's. Below `memory_low` (now, or by its growth within the time
  // that a move takes) processes are moved out until `memory_high` is free. A guest must leave
  // `memory_reserve` free.
  double memory_low = 0.08;
  double memory_high = 0.14;
  double memory_reserve = 0.14;
  // How far ahead growth is looked at, besides the transfer itself.
  Duration memory_horizon = std::chrono::seconds(8);
  // How far ahead a place must have room for a process that moves for other reasons than memory.
  Duration memory_outlook = std::chrono::seconds(30);

  // At exec: nodes that are asked for their load of this moment, and what a move of a fresh image
  // costs.
  size_t exec_choices = 5;
  Duration exec_price = std::chrono::milliseconds(15);
  // Work of a program that nothing is known about.
  Duration exec_expected_work = std::chrono::milliseconds(500);

  // Turns: where loads cannot be made equal (nine processes on eight nodes) the slow places are
  // taken in turn. A process is due when it lags behind one elsewhere by this share of its age, and
  // by this many prices of a move.
  bool turns = true;
  double turn_lag = 0.08;
  double turn_prices = 4;
  // And only where the other place is faster by this much: three or four on a core even out by
  // themselves as they end.
  double turn_gain = 0.3;
};

}  // namespace tess::placement
