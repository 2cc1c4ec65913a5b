// Prober: finds out who does not answer any more (SWIM with Lifeguard's refinements, and two of our
// own). An inquiry about a member: ping it; ask relays to ping it, twice, different ones; call it
// suspect, tell everyone, and go on asking; call it dead when it has had its time to object. A node
// only says "dead" of a member that it asked itself and that was silent while the node was awake
// (attention time), and whose kernel does not hold its port for it (knock). The time to object is
// shorter the more others cannot reach it either, longer if this node or the suspect runs late.
// Part of Membership.
#pragma once

#include <vector>

#include "cluster/context.h"

namespace tess::cluster {

class Prober {
 public:
  explicit Prober(Context& context);

  void tick();
  // When tick() is to be called next, in real time.
  Time deadline() const;

  // Begins an inquiry, unless one is under way. It ends early if enough others suspect the member
  // already, unless `insist`.
  void inquire(Slot slot, bool insist = false);
  // Its kernel has ended a connection: an inquiry that asks its kernel at once, and believes it
  // that no process is left.
  void doubt(Slot slot);
  size_t inquiries() const { return inquiries_.size(); }

  void on_ack(const Packet& packet, Slot from, Duration queued);
  void on_nack(const Packet& packet, Slot from);
  void on_indirect(const Packet& packet, Slot from, const Address& at);
  void on_knocked(Slot slot, KnockAnswer answer);
  // The table took a statement about `slot`. The first that says "suspect" opens its suspicion.
  void on_suspected(Slot slot, uint64_t from);
  // It is alive under a newer incarnation, or gone, or forgotten: whatever is under way about it
  // ends.
  void on_settled(Slot slot);

 private:
  enum class Stage : uint8_t {
    kDirect,        // pinged
    kKnocked,       // its kernel is asked (only if knocks are on)
    kWaiting,       // its kernel holds its port: it is slow, and is left in peace for a while
    kRelayed,       // others ping it
    kRelayedAgain,  // and others still
    kSuspect,       // everyone is told
  };
  struct Inquiry {
    Slot slot;
    uint32_t nonce;
    Stage stage = Stage::kDirect;
    Time began;         // real: for the round trip
    Time due;           // attention: next step
    Time suspected;     // attention
    Time extended;      // attention: no verdict before, whatever the evidence
    Time knocked;       // attention
    Time knock_at;      // real: its kernel is asked, whatever our attention
    Duration pause{0};  // between pings of a suspect
    bool insist = false;
    bool held = false;  // its kernel has spared it
    bool knocking = false;
    unsigned silences = 0;  // knocks in a row that its kernel has not answered
    Time doubted;           // real: suspect since
    KnockAnswer answer = KnockAnswer::kSilent;
    std::vector<Slot> relays;
    std::vector<Slot> nacks;
  };
  struct Relay {
    uint32_t nonce;  // of our ping
    uint32_t origin_nonce;
    Slot origin;
    Address origin_at;
    Slot target;
    Time due;  // attention
  };

  Time spent() const { return context_.attention.spent(context_.now); }
  Duration direct_timeout(Slot slot) const;
  unsigned distress(Slot slot) const;
  // Enough others have said that it does not answer them either.
  bool well_suspected(Slot slot) const;
  void start_relays(Inquiry& inquiry);
  Time verdict_time(const Inquiry& inquiry) const;
  void next_probe();
  void ping(Slot slot, uint32_t nonce);
  void ask_relays(Inquiry& inquiry, unsigned count);
  // False if the inquiry is over.
  bool advance(Inquiry& inquiry);
  void suspect(Inquiry& inquiry);
  bool judge(Inquiry& inquiry);
  // When (real) it is dead beyond doubt because its machine is: a kernel answers whatever its
  // processes, or ours, lack. Time::max() if that is not known.
  Time unpowered_at(const Inquiry& inquiry) const;
  Duration suspicion_least() const;
  void say_dead(Slot slot);
  void knock(Inquiry& inquiry);
  void on_silence(Inquiry& inquiry);
  void relays_tick();
  void fallbacks_tick();

  Context& context_;
  std::vector<Inquiry> inquiries_;
  std::vector<Relay> relays_;
  Time next_probe_;
  Time next_fallback_;
  bool successor_turn_ = true;
};

}  // namespace tess::cluster
