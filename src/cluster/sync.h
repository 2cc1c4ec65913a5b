// Sync: anti-entropy. Pings carry a digest of the sender's live members; when two tables have
// differed for longer than gossip needs, one side sends hashes of 32 ranges of keys, the other
// answers with finer hashes or, of small ranges, with what it knows; then each sends what the other
// lacks. A joining node pulls everything, range by range. Each packet stands alone: a lost one is
// made up for by the next exchange. Answers are bounded by a budget. Part of Membership.
#pragma once

#include <optional>

#include "cluster/context.h"
#include "cluster/prober.h"

namespace tess::cluster {

class Sync {
 public:
  Sync(Context& context, Prober& prober) : context_(context), prober_(prober) {}

  void tick();
  Time deadline() const;

  // A live member told its digest.
  void on_digest(uint32_t digest);
  // Exchange tables with this member now.
  void begin(Slot slot);
  // Fetch all records, from this member first. Done when the event kReady comes.
  void pull(Slot slot);
  bool pulling() const { return pull_.has_value(); }

  // Another table has a member dead that is live in ours (not the node itself): let it object, and
  // see for ourselves.
  void on_doubt(const Verdict& verdict);
  // Sections of a packet of a member, whose own records have been taken in already.
  void on_packet(const Packet& packet, Slot from);

 private:
  struct Pull {
    uint64_t from_key = 0;
    Slot peer = kNoSlot;
    Time due;
    unsigned failures = 0;
  };

  void answer_hashes(const RangeHashes& theirs, Slot from, unsigned& packets);
  void answer_entries(const RangeEntries& theirs, Slot from);
  void answer_pull(uint64_t from_key, Slot to);
  void answer_wanted(const std::vector<uint64_t>& keys, Slot to);
  void send_records(std::span<const Slot> slots, Slot to);
  void on_pulled(uint64_t to_key, Slot from);
  void ask_pull();
  RangeEntries entries_in(const Range& range) const;
  // Spends what it allows.
  bool afford(size_t bytes);

  Context& context_;
  Prober& prober_;
  std::optional<Time> differ_since_;
  Time next_;
  std::optional<Pull> pull_;
};

}  // namespace tess::cluster
