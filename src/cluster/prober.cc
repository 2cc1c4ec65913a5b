#include "cluster/prober.h"

#include <algorithm>
#include <cmath>

namespace tess::cluster {
namespace {
constexpr Duration kFallbackCheck = std::chrono::milliseconds(500);
constexpr Duration kKnockWait = std::chrono::milliseconds(500);
constexpr Duration kKnockAfter = std::chrono::milliseconds(600);
constexpr Duration kKnockGap = std::chrono::milliseconds(150);
constexpr unsigned kSilencesSuspect = 2;
// At 10% loss one knock in five goes unanswered: so many in a row, one in 4,000.
constexpr unsigned kSilencesEnough = 5;
constexpr unsigned kConfirmationTold = 2;
constexpr size_t kRelaysMost = 64;  // jobs of others at once
constexpr size_t kRoundTripsKept = 1024;
}  // namespace

Prober::Prober(Context& context) : context_(context) {
  // Nodes that start together do not probe together.
  next_probe_ = context.now + std::chrono::duration_cast<Duration>(context.config.probe_interval *
                                                                   context.random.unit());
  next_fallback_ = context.now + kFallbackCheck;
}

Time Prober::deadline() const {
  Time next = next_probe_;
  for (const Inquiry& inquiry : inquiries_) {
    next = std::min({next, context_.attention.real(inquiry.due), unpowered_at(inquiry)});
    if (context_.config.knock && !inquiry.knocking) {
      next = std::min(next, inquiry.knock_at);
    }
  }
  for (const Relay& relay : relays_) {
    next = std::min(next, context_.attention.real(relay.due));
  }
  if (!context_.suspicions.empty()) {
    next = std::min(next, next_fallback_);
  }
  return next;
}

void Prober::tick() {
  for (size_t i = 0; i < inquiries_.size();) {
    if (context_.now >= inquiries_[i].knock_at) {
      // Real time: this needs no attention, and brings the truth about a killed process to those
      // who starve.
      knock(inquiries_[i]);
    }
    const bool unpowered = context_.now >= unpowered_at(inquiries_[i]);
    if (!unpowered && (spent() < inquiries_[i].due || advance(inquiries_[i]))) {
      ++i;
      continue;
    }
    if (unpowered) {
      say_dead(inquiries_[i].slot);
    }
    inquiries_.erase(inquiries_.begin() + static_cast<ptrdiff_t>(i));
  }
  relays_tick();
  if (context_.now >= next_probe_) {
    next_probe();
  }
  if (context_.now >= next_fallback_) {
    next_fallback_ = context_.now + kFallbackCheck;
    fallbacks_tick();
  }
}

void Prober::next_probe() {
  const double jitter = 0.9 + 0.2 * context_.random.unit();
  next_probe_ =
      context_.now + std::chrono::duration_cast<Duration>(
                         context_.attention.stretched(context_.config.probe_interval) * jitter);
  const Slot slot =
      successor_turn_ ? context_.table.successor() : context_.table.next_in_turn(context_.random);
  successor_turn_ = !successor_turn_;
  if (slot != kNoSlot) {
    context_.count(Count::kProbes);
    inquire(slot);
  }
}

void Prober::inquire(Slot slot, bool insist) {
  if (slot == context_.table.self()) {
    return;
  }
  for (const Inquiry& inquiry : inquiries_) {
    if (inquiry.slot == slot) {
      return;
    }
  }
  Inquiry inquiry{};
  inquiry.slot = slot;
  inquiry.insist = insist;
  inquiry.nonce = context_.fresh_nonce();
  inquiry.began = context_.now;
  inquiry.due = spent() + context_.attention.patience(direct_timeout(slot));
  inquiry.knock_at = context_.now + kKnockAfter;
  inquiries_.push_back(inquiry);
  ping(slot, inquiry.nonce);
}

void Prober::doubt(Slot slot) {
  inquire(slot, true);
  for (Inquiry& inquiry : inquiries_) {
    if (inquiry.slot == slot) {
      inquiry.knock_at = context_.now;
      knock(inquiry);
    }
  }
}

void Prober::ping(Slot slot, uint32_t nonce) {
  context_.send(Kind::kPing, nonce, slot,
                [&](PacketWriter& packet) { context_.add_doubt(packet, slot); });
}

Duration Prober::direct_timeout(Slot slot) const {
  const auto at = context_.round_trips.find(slot);
  const Duration measured = at == context_.round_trips.end() ? Duration(0) : 4 * at->second;
  // Who runs late gets more time, but not so much that its death would go unseen.
  const Duration allowed = context_.config.direct_timeout * (2 + std::min(distress(slot), 6u)) / 2;
  return std::max(allowed, measured);
}

Duration Prober::suspicion_least() const {
  const Config& config = context_.config;
  return std::max(
      config.suspicion_least,
      std::chrono::duration_cast<Duration>(config.suspicion_decade *
                                           std::log10(std::max(1u, context_.table.live_count()))));
}

Time Prober::unpowered_at(const Inquiry& inquiry) const {
  if (!context_.config.knock || inquiry.silences < kSilencesEnough ||
      inquiry.stage != Stage::kSuspect) {
    return Time::max();
  }
  return inquiry.doubted + suspicion_least();
}

bool Prober::well_suspected(Slot slot) const {
  const auto at = context_.suspicions.find(slot);
  return at != context_.suspicions.end() &&
         at->second.from.size() >= std::max(1u, context_.config.evidence_enough);
}

unsigned Prober::distress(Slot slot) const {
  return context_.distress(slot);
}

void Prober::ask_relays(Inquiry& inquiry, unsigned count) {
  std::vector<Slot> avoid = inquiry.relays;
  avoid.push_back(inquiry.slot);
  for (unsigned i = 0; i < count; ++i) {
    Slot relay = context_.table.random_live(context_.random, avoid);
    if (relay == kNoSlot) {  // a small cluster: the same ones again
      relay = context_.table.random_live(context_.random, std::span(&inquiry.slot, 1));
    }
    if (relay == kNoSlot) {
      return;
    }
    avoid.push_back(relay);
    inquiry.relays.push_back(relay);
    context_.send(Kind::kIndirect, inquiry.nonce, relay, [&](PacketWriter& packet) {
      packet.add_target(context_.table.key(inquiry.slot));
      context_.add_doubt(packet, inquiry.slot);
    });
  }
}

void Prober::start_relays(Inquiry& inquiry) {
  context_.count(Count::kProbesRelayed);
  inquiry.stage = Stage::kRelayed;
  ping(inquiry.slot, inquiry.nonce);
  ask_relays(inquiry, context_.config.relays);
  inquiry.due = spent() + context_.attention.patience(std::max(context_.config.relay_timeout,
                                                               direct_timeout(inquiry.slot)));
}

bool Prober::advance(Inquiry& inquiry) {
  const Config& config = context_.config;
  const auto later = [&](Duration d) { inquiry.due = spent() + context_.attention.patience(d); };
  switch (inquiry.stage) {
    case Stage::kDirect:
      if (!inquiry.insist && well_suspected(inquiry.slot)) {
        return false;  // enough others look after it
      }
      if (!config.knock) {
        start_relays(inquiry);
        return true;
      }
      inquiry.stage = Stage::kKnocked;
      knock(inquiry);
      ping(inquiry.slot, inquiry.nonce);
      later(direct_timeout(inquiry.slot) / 2);
      return true;
    case Stage::kKnocked:
      start_relays(inquiry);
      return true;
    case Stage::kWaiting:
      // The worse it is off by its own word, the longer.
      if (context_.now >= inquiry.began + config.waiting_most * (2 + distress(inquiry.slot)) / 2) {
        suspect(inquiry);
        return true;
      }
      ping(inquiry.slot, inquiry.nonce);
      inquiry.pause = std::min(2 * inquiry.pause, config.knock_again);
      later(inquiry.pause);
      return true;
    case Stage::kRelayed:
      inquiry.stage = Stage::kRelayedAgain;
      ping(inquiry.slot, inquiry.nonce);
      ask_relays(inquiry, config.relays);
      later(std::max(config.relay_timeout, direct_timeout(inquiry.slot)));
      return true;
    case Stage::kRelayedAgain:
      if (inquiry.nacks.empty() && context_.heard < inquiry.began) {
        context_.attention.charge(1);  // nobody at all was heard meanwhile: it may be us
      }
      if (inquiry.answer == KnockAnswer::kRefused) {
        context_.count(Count::kRefusedKnocks);
        say_dead(inquiry.slot);
        return false;
      }
      suspect(inquiry);
      return true;
    case Stage::kSuspect:
      if (spent() >= verdict_time(inquiry)) {
        return judge(inquiry);
      }
      ping(inquiry.slot, inquiry.nonce);
      if (!inquiry.held) {
        ask_relays(inquiry, 1);
      }
      inquiry.due = std::min(spent() + context_.attention.patience(inquiry.pause),
                             std::max(verdict_time(inquiry), spent() + Duration(1000)));
      return true;
  }
  return false;
}

void Prober::suspect(Inquiry& inquiry) {
  context_.count(Count::kSuspicions);
  inquiry.stage = Stage::kSuspect;
  inquiry.pause = context_.config.suspicion_ping;
  inquiry.suspected = spent();
  inquiry.doubted = context_.now;
  inquiry.extended = spent();
  inquiry.due = spent() + context_.attention.patience(context_.config.suspicion_ping);
  const Slot slot = inquiry.slot;
  const auto change =
      context_.table.apply(Verdict{context_.table.key(slot), context_.table.incarnation(slot),
                                   MemberState::kSuspect, context_.self_key()});
  if (change == MemberTable::Change::kSuspected) {
    context_.event(EventKind::kSuspected, slot);
  }
  on_suspected(slot, context_.self_key());
}

Time Prober::verdict_time(const Inquiry& inquiry) const {
  const Config& config = context_.config;
  std::vector<uint64_t> against;
  for (const Slot slot : inquiry.nacks) {
    against.push_back(context_.table.key(slot));
  }
  if (const auto at = context_.suspicions.find(inquiry.slot); at != context_.suspicions.end()) {
    for (const uint64_t key : at->second.from) {
      if (key != context_.self_key() &&
          std::find(against.begin(), against.end(), key) == against.end()) {
        against.push_back(key);
      }
    }
  }
  // With few members there cannot be much evidence.
  const unsigned enough =
      std::min(config.evidence_enough, std::max(2u, context_.table.live_count()) - 2);
  const double share = enough == 0
                           ? 1.0
                           : std::min(1.0, std::log(1.0 + static_cast<double>(against.size())) /
                                               std::log(1.0 + enough));
  const double factor = config.suspicion_most - (config.suspicion_most - 1) * share;
  const Duration wait = std::chrono::duration_cast<Duration>(suspicion_least() * factor) *
                        (2 + std::max(context_.attention.score(), 2 * distress(inquiry.slot))) / 2;
  return std::max(inquiry.suspected + wait, inquiry.extended);
}

// The suspect has had its time.
bool Prober::judge(Inquiry& inquiry) {
  const Config& config = context_.config;
  if (config.knock && inquiry.answer == KnockAnswer::kHolds &&
      spent() < inquiry.suspected + config.knock_most) {
    // A process has its port: it is starved or stopped, not gone. Look again soon.
    context_.count(Count::kVerdictsHeld);
    inquiry.knocking = false;
    inquiry.answer = KnockAnswer::kSilent;
    knock(inquiry);
    inquiry.held = true;
    inquiry.pause = std::min(2 * inquiry.pause, config.knock_again);  // it has enough to do
    inquiry.extended = spent() + config.knock_again;
    inquiry.due = spent() + inquiry.pause;
    return true;
  }
  if (config.knock && (!inquiry.knocking || spent() > inquiry.knocked + 2 * config.knock_again) &&
      spent() < inquiry.suspected + config.knock_most) {
    // The last look at its kernel is too old to bury it on.
    inquiry.knocking = false;
    knock(inquiry);
    inquiry.extended = spent() + kKnockWait;
    inquiry.due = inquiry.extended;
    return true;
  }
  say_dead(inquiry.slot);
  return false;
}

void Prober::say_dead(Slot slot) {
  const auto change =
      context_.table.apply(Verdict{context_.table.key(slot), context_.table.incarnation(slot),
                                   MemberState::kDead, context_.self_key()});
  if (change != MemberTable::Change::kDied) {
    return;
  }
  context_.count(Count::kDeathsSaid);
  context_.note_gone(slot);
  context_.event(EventKind::kDied, slot);
  context_.tell(slot);
}

void Prober::knock(Inquiry& inquiry) {
  if (!context_.config.knock || inquiry.knocking) {
    return;
  }
  inquiry.knocking = true;
  inquiry.knocked = spent();
  const Profile& profile = context_.table.profile(inquiry.slot);
  context_.out->knocks.push_back({profile.id, profile.address});
}

void Prober::on_knocked(Slot slot, KnockAnswer answer) {
  for (size_t i = 0; i < inquiries_.size(); ++i) {
    Inquiry& inquiry = inquiries_[i];
    if (inquiry.slot != slot || !inquiry.knocking) {
      continue;
    }
    inquiry.answer = answer;
    inquiry.silences = answer == KnockAnswer::kSilent ? inquiry.silences + 1 : 0;
    if (answer == KnockAnswer::kSilent) {
      on_silence(inquiry);
    }
    if (answer == KnockAnswer::kHolds && inquiry.stage != Stage::kSuspect &&
        inquiry.stage != Stage::kWaiting) {
      context_.count(Count::kVerdictsHeld);
      inquiry.stage = Stage::kWaiting;
      inquiry.pause = context_.config.suspicion_ping;
      inquiry.due = spent() + inquiry.pause;
    }
    // That its process has gone does not depend on how we are ourselves. (Only, an early answer
    // waits for the relays: the node may have moved to another address.)
    if (answer == KnockAnswer::kRefused &&
        (inquiry.stage == Stage::kSuspect || context_.now >= inquiry.knock_at)) {
      context_.count(Count::kRefusedKnocks);
      inquiries_.erase(inquiries_.begin() + static_cast<ptrdiff_t>(i));
      say_dead(slot);
    }
    return;
  }
}

void Prober::on_silence(Inquiry& inquiry) {
  if (inquiry.silences < kSilencesEnough) {
    inquiry.knocking = false;
    inquiry.knock_at = context_.now + kKnockGap;
  }
  if (inquiry.silences >= kSilencesSuspect && inquiry.stage != Stage::kSuspect) {
    suspect(inquiry);
  }
}

void Prober::on_suspected(Slot slot, uint64_t from) {
  const uint32_t incarnation = context_.table.incarnation(slot);
  const auto [at, fresh] = context_.suspicions.try_emplace(slot);
  Suspicion& suspicion = at->second;
  const auto unreached = [&] {
    return spent() + context_.config.suspicion_least * (2 * context_.config.suspicion_most);
  };
  if (fresh || suspicion.incarnation != incarnation) {
    suspicion = {incarnation, {from}, unreached()};
    context_.tell_suspicion(slot);
    // A few others look for themselves: to confirm, or to let it know another way.
    if (from != context_.self_key() &&
        context_.random.chance(3.0 / std::max(1u, context_.table.live_count()))) {
      inquire(slot);
    }
    return;
  }
  auto& all = suspicion.from;
  if (all.size() < kSuspectorsKept && std::find(all.begin(), all.end(), from) == all.end()) {
    all.push_back(from);
    context_.news.add_detail(slot, kConfirmationTold);
  }
}

void Prober::on_settled(Slot slot) {
  context_.suspicions.erase(slot);
  std::erase_if(inquiries_, [&](const Inquiry& inquiry) { return inquiry.slot == slot; });
}

void Prober::on_ack(const Packet& packet, Slot from, Duration queued) {
  const auto relay = std::find_if(relays_.begin(), relays_.end(), [&](const Relay& r) {
    return r.nonce == packet.nonce && r.target == from;
  });
  if (relay != relays_.end()) {
    const Slot target = relay->target;
    if (context_.table.known(relay->origin)) {
      context_.send(Kind::kAck, relay->origin_nonce, relay->origin_at,
                    context_.table.profile(relay->origin).session, [&](PacketWriter& out) {
                      out.add_target(context_.table.key(target));
                      context_.add_record(out, target);  // perhaps its objection
                    });
    }
    relays_.erase(relay);
    return;
  }
  const auto at = std::find_if(inquiries_.begin(), inquiries_.end(),
                               [&](const Inquiry& i) { return i.nonce == packet.nonce; });
  if (at == inquiries_.end()) {
    return;
  }
  const bool direct = packet.target == 0;
  if (direct ? from != at->slot : packet.target != context_.table.key(at->slot)) {
    return;
  }
  if (direct && at->stage == Stage::kDirect) {
    if (context_.round_trips.size() < kRoundTripsKept || context_.round_trips.contains(from)) {
      const Duration sample = std::max(context_.now - queued - at->began, Duration(1));
      Duration& smooth = context_.round_trips[from];
      smooth = smooth == Duration(0) ? sample : (7 * smooth + sample) / 8;
    }
    context_.attention.credit();
  }
  if (context_.table.state(at->slot) == MemberState::kSuspect) {
    // It answers and has not objected yet (it may not know): ask again with the doubt in the
    // packet.
    at->stage = Stage::kSuspect;
    at->silences = 0;
    at->suspected = spent();
    at->doubted = context_.now;
    at->extended = spent();
    at->pause = context_.config.suspicion_ping;
    at->due = spent() + context_.attention.patience(context_.config.suspicion_ping);
    ping(at->slot, at->nonce);
    return;
  }
  inquiries_.erase(at);
}

void Prober::on_nack(const Packet& packet, Slot from) {
  for (Inquiry& inquiry : inquiries_) {
    if (inquiry.nonce == packet.nonce &&
        std::find(inquiry.relays.begin(), inquiry.relays.end(), from) != inquiry.relays.end() &&
        std::find(inquiry.nacks.begin(), inquiry.nacks.end(), from) == inquiry.nacks.end()) {
      inquiry.nacks.push_back(from);
    }
  }
}

void Prober::on_indirect(const Packet& packet, Slot from, const Address& at) {
  const Slot target = context_.table.find(packet.target);
  if (target == kNoSlot || target == context_.table.self() || relays_.size() >= kRelaysMost) {
    return;
  }
  // Sooner than the asker gives up, so that it learns whether it was us or the target.
  const Duration wait = context_.config.relay_timeout * 8 / 10;
  const Relay relay{context_.fresh_nonce(), packet.nonce, from, at, target, spent() + wait};
  relays_.push_back(relay);
  ping(target, relay.nonce);
}

void Prober::relays_tick() {
  for (size_t i = 0; i < relays_.size();) {
    const Relay relay = relays_[i];
    if (spent() < relay.due) {
      ++i;
      continue;
    }
    relays_.erase(relays_.begin() + static_cast<ptrdiff_t>(i));
    if (context_.table.known(relay.origin) &&
        !context_.attention.late_within(context_.now, context_.config.relay_timeout)) {
      context_.count(Count::kNacks);
      context_.send(Kind::kNack, relay.origin_nonce, relay.origin_at,
                    context_.table.profile(relay.origin).session, [](PacketWriter&) {});
    }
  }
}

// Suspicions that nobody settled: their author may be gone, or the verdict was lost. A few look for
// themselves.
void Prober::fallbacks_tick() {
  std::vector<Slot> due;
  for (auto& [slot, suspicion] : context_.suspicions) {
    if (spent() >= suspicion.fallback) {
      suspicion.fallback = spent() + context_.config.suspicion_least * 4;
      if (context_.random.chance(8.0 / std::max(1u, context_.table.live_count()))) {
        due.push_back(slot);
      }
    }
  }
  std::sort(due.begin(), due.end());  // not in the order of a hash table
  for (const Slot slot : due) {
    inquire(slot, true);
  }
}

}  // namespace tess::cluster
