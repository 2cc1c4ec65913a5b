#include "cluster/membership.h"

#include <algorithm>
#include <cmath>

#include "cluster/membership_parts.h"

namespace tess::cluster {
namespace {

constexpr Duration kHousekeeping = std::chrono::seconds(1);
constexpr Duration kGoodByeGap = std::chrono::milliseconds(100);
constexpr Duration kTickGap = std::chrono::milliseconds(1);
constexpr unsigned kGoodByes = 3;
constexpr unsigned kSpared = 4;  // of the health score
constexpr unsigned kGoodByeFanout = 4;
constexpr Duration kLoadGap = std::chrono::milliseconds(500);
constexpr uint64_t kMiB = 1 << 20;

MachineFacts facts_of(const LoadRecord& load) {
  MachineFacts facts;
  facts.speed = std::max(1u, load.speed);
  facts.cores = std::max<uint16_t>(1, load.cores);
  facts.threads = std::max(facts.cores, load.threads);
  facts.memory_bytes = load.memory_bytes / kMiB * kMiB;  // as it travels
  facts.swap_bytes = load.swap_bytes / kMiB * kMiB;
  facts.cpu_features = load.cpu_features;
  facts.reserved_permille = std::min<uint16_t>(load.reserved_permille, 1000);
  facts.link_mbit = load.link_mbit;
  return facts;
}

LoadNews news_of(const LoadRecord& load, uint64_t key, unsigned distress) {
  LoadNews news;
  news.short_key = NodeId::shorten(key);
  news.runnable = load.runnable;
  news.cpu_pressure = load.cpu_pressure;
  news.memory_pressure = load.memory_pressure;
  news.memory_free_mib =
      static_cast<uint32_t>(std::min<uint64_t>(load.memory_free_bytes / kMiB, 0xffffff));
  news.swap_used_mib =
      static_cast<uint32_t>(std::min<uint64_t>(load.swap_used_bytes / kMiB, 0xffffff));
  news.guests = load.guests;
  news.incoming = static_cast<uint8_t>(std::min<uint16_t>(load.incoming, 255));
  news.owner_active = load.owner_active;
  news.draining = load.draining;
  news.accepting = load.accepting;
  news.distress = static_cast<uint8_t>(distress);
  return news;
}

LoadRecord record_of(const MachineFacts& facts, const LoadNews& news) {
  LoadRecord load;
  load.speed = facts.speed;
  load.cores = facts.cores;
  load.threads = facts.threads;
  load.memory_bytes = facts.memory_bytes;
  load.swap_bytes = facts.swap_bytes;
  load.cpu_features = facts.cpu_features;
  load.reserved_permille = facts.reserved_permille;
  load.link_mbit = facts.link_mbit;
  load.runnable = news.runnable;
  load.cpu_pressure = news.cpu_pressure;
  load.memory_pressure = news.memory_pressure;
  load.memory_free_bytes = news.memory_free_mib * kMiB;
  load.swap_used_bytes = news.swap_used_mib * kMiB;
  load.guests = news.guests;
  load.incoming = news.incoming;
  load.owner_active = news.owner_active;
  load.draining = news.draining;
  load.accepting = news.accepting;
  return load;
}

// What others must know at once, because it forbids or asks for moves.
bool flags_differ(const LoadNews& a, const LoadNews& b) {
  return a.owner_active != b.owner_active || a.draining != b.draining || a.accepting != b.accepting;
}

bool differs(const LoadNews& a, const LoadNews& b, uint64_t memory_mib) {
  const auto apart = [](double x, double y, double least) { return std::abs(x - y) > least; };
  const double memory_step = std::max(16.0, static_cast<double>(memory_mib) / 50);
  return flags_differ(a, b) ||
         apart(a.runnable, b.runnable, std::max(0.2, 0.1 * static_cast<double>(b.runnable))) ||
         apart(a.cpu_pressure, b.cpu_pressure, 0.05) ||
         apart(a.memory_pressure, b.memory_pressure, 0.02) ||
         apart(a.memory_free_mib, b.memory_free_mib, memory_step) ||
         apart(a.swap_used_mib, b.swap_used_mib, memory_step) || a.guests != b.guests ||
         a.incoming != b.incoming || apart(a.distress, b.distress, 1);
}

Profile profile_of(const Identity& identity, const LoadRecord& load) {
  Profile profile;
  profile.id = identity.id;
  profile.session = identity.session;
  profile.address = identity.address;
  profile.name = identity.name;
  profile.facts = facts_of(load);
  profile.version = kFormatMajor << 4 | kFormatMinor;
  return profile;
}

}  // namespace

Membership::Parts::Parts(const Config& config, const Identity& identity,
                         const LoadRecord& first_load, KeyRing keys, Cipher& cipher,
                         Directory& directory, Random random, Time now)
    : context(config, directory, cipher, std::move(keys), identity.cluster,
              profile_of(identity, first_load), random, now),
      prober(context),
      sync(context, prober),
      discovery(context),
      promised(now + kHousekeeping),
      next_gossip(now),
      next_housekeeping(now + kHousekeeping),
      load(first_load),
      load_set(now) {
  TESS_CHECK(identity.id.key() != 0, "a node without an identity");
  TESS_CHECK(!identity.name.empty() && identity.name.size() <= kNameMax, "a name of {} bytes",
             identity.name.size());
  context.table.apply(AliveRecord{1, profile_of(identity, first_load)});
  load_told.version = static_cast<uint16_t>(context.random.next());
  publish_load(true);
}

Time Membership::Parts::next_deadline() const {
  if (leaving) {
    return good_byes > 0 || context.now < next_good_bye ? next_good_bye : Time::max();
  }
  Time next =
      std::min({prober.deadline(), sync.deadline(), discovery.deadline(), next_housekeeping});
  if (!context.news.empty()) {
    next = std::min(next, next_gossip);
  }
  return next;
}

void Membership::Parts::tick() {
  if (leaving) {
    say_good_bye();
    return;
  }
  if (context.attention.distress(context.now) > load_told.distress + 1u) {
    publish_load(true);  // before they wonder
  }
  prober.tick();
  sync.tick();
  discovery.tick();
  if (context.now >= next_housekeeping) {
    next_housekeeping = context.now + kHousekeeping;
    housekeeping();
  }
  if (!context.news.empty() && context.now >= next_gossip) {
    gossip();
  }
}

void Membership::Parts::gossip() {
  const Config& config = context.config;
  constexpr double kWorthwhile = 200;
  next_gossip = context.now + config.gossip_interval;
  std::vector<Slot> chosen;
  // One that comes to its turn rarely tells as many as it would have told by now: writing is
  // cheaper than reading.
  const unsigned fanout = config.gossip_fanout + context.attention.score();
  for (unsigned i = 0; i < fanout && !context.news.empty(); ++i) {
    if (context.gossip_budget.available(context.now) < kWorthwhile) {
      next_gossip = std::max(next_gossip, context.gossip_budget.when(context.now, kWorthwhile));
      return;
    }
    Slot slot = context.table.random_live(context.random, chosen);
    if (slot != kNoSlot && context.distress(slot) >= kSpared && context.random.chance(0.75)) {
      slot = context.table.random_live(context.random, chosen);  // that one has enough to read
    }
    if (slot == kNoSlot) {
      break;
    }
    chosen.push_back(slot);
    context.send(Kind::kNews, 0, slot);
    context.gossip_budget.spend(kHeaderSize + kTagSize + kHeadSize);
  }
  if (chosen.empty()) {  // alone: there is nobody to tell
    next_gossip = context.now + kHousekeeping;
  }
}

void Membership::Parts::say_good_bye() {
  if (good_byes == 0 || context.now < next_good_bye) {
    return;
  }
  --good_byes;
  next_good_bye = context.now + kGoodByeGap;
  std::vector<Slot> chosen;
  for (unsigned i = 0; i < kGoodByeFanout; ++i) {
    const Slot slot = context.table.random_live(context.random, chosen);
    if (slot == kNoSlot) {
      return;
    }
    chosen.push_back(slot);
    const MemberTable& table = context.table;
    const Verdict bye{context.self_key(), table.incarnation(table.self()), MemberState::kLeft,
                      context.self_key()};
    context.send(Kind::kNews, 0, slot, [&](PacketWriter& out) { out.add_verdict(bye); });
  }
}

void Membership::Parts::housekeeping() {
  std::vector<Slot> forgotten;
  for (const auto& [slot, since] : context.gone) {
    if (context.now - since > context.config.forget_after) {
      forgotten.push_back(slot);
    }
  }
  for (const Slot slot : forgotten) {
    prober.on_settled(slot);
    context.news.drop(slot);
    context.gone.erase(slot);
    context.table.forget(slot);
  }
  if (context.envelope.sessions() > 2 * size_t{context.table.end()} + 1024) {
    std::unordered_map<uint64_t, bool> current;
    for (Slot slot = 0; slot < context.table.end(); ++slot) {
      if (context.table.known(slot)) {
        current[context.table.profile(slot).session] = true;
      }
    }
    context.envelope.prune([&](uint64_t session) { return current.contains(session); });
  }
  if (clashes > 0 && context.now - clashes_since > std::chrono::minutes(1)) {
    clashes = 0;
  }
  publish_load(false);
}

// The node speaks of itself anew.
void Membership::Parts::announce(uint32_t incarnation, const Profile& profile) {
  context.table.apply(AliveRecord{incarnation, profile});
  context.tell(context.table.self());
}

void Membership::Parts::publish_load(bool must) {
  const Slot self = context.table.self();
  LoadNews news = news_of(load, context.self_key(), context.attention.distress(context.now));
  const Duration since = context.now - load_told_at;
  const bool worse = news.distress > load_told.distress + 1;
  const bool due = must || worse || since >= context.config.load_refresh ||
                   flags_differ(news, load_told) ||
                   (since >= kLoadGap && differs(news, load_told, load.memory_bytes / kMiB));
  if (!due) {
    return;
  }
  news.version = static_cast<uint16_t>(load_told.version + 1);
  news.age = std::max(context.now - load_set, Duration(0));
  if (news.age > context.config.load_refresh) {
    news.age = Duration(0);  // nobody measured since; the health score in it is new
  }
  load_told = news;
  load_told_at = context.now;
  context.board.put(self, news, context.now);
}

Membership::Membership(const Config& config, const Identity& identity, const LoadRecord& load,
                       KeyRing keys, Cipher& cipher, Directory& directory, Random random, Time now)
    : parts_(std::make_unique<Parts>(config, identity, load, std::move(keys), cipher, directory,
                                     random, now)) {}

Membership::~Membership() = default;

void Membership::start(Time now, std::vector<Address> seeds, Effects& out) {
  parts_->promised = std::max(parts_->promised, now);
  const Call call(*parts_, now, Duration(0), out);
  parts_->discovery.start(std::move(seeds));
}

void Membership::receive(Time now, Duration queued, const Address& from, Bytes datagram,
                         Effects& out) {
  const Call call(*parts_, now, queued, out);
  if (!parts_->leaving) {
    parts_->receive(queued, from, datagram);
  }
}

void Membership::tick(Time now, Effects& out) {
  {
    const Call call(*parts_, now, Duration(0), out);
    parts_->tick();
  }
  // Whatever is due has been done: asking to be called again at once would only burn CPU.
  parts_->promised = std::max(parts_->promised, now + kTickGap);
}

Time Membership::deadline() const {
  return parts_->promised;
}

void Membership::knocked(Time now, const NodeId& node, KnockAnswer answer, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  const Slot slot = parts_->context.table.find(node.key());
  if (slot != kNoSlot && !parts_->leaving) {
    parts_->prober.on_knocked(slot, answer);
  }
}

void Membership::lost_connection(Time now, const NodeId& node, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  const Slot slot = parts_->context.table.find(node.key());
  if (slot != kNoSlot && parts_->context.table.live(slot) && !parts_->leaving) {
    parts_->prober.doubt(slot);
  }
}

void Membership::leave(Time now, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  if (parts_->leaving) {
    return;
  }
  Context& context = parts_->context;
  const Slot self = context.table.self();
  context.table.apply(Verdict{context.self_key(), context.table.incarnation(self),
                              MemberState::kLeft, context.self_key()});
  parts_->leaving = true;
  parts_->good_byes = kGoodByes;
  parts_->next_good_bye = context.now;
  parts_->say_good_bye();
}

bool Membership::departed(Time now) const {
  return parts_->leaving && parts_->good_byes == 0 && now >= parts_->next_good_bye;
}

void Membership::set_load(Time now, const LoadRecord& load, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  if (parts_->leaving) {
    return;
  }
  parts_->load = load;
  parts_->load_set = parts_->context.now;
  MemberTable& table = parts_->context.table;
  Profile profile = table.profile(table.self());
  if (!(profile.facts == facts_of(load))) {
    profile.facts = facts_of(load);
    parts_->announce(table.incarnation(table.self()) + 1, profile);
  }
  parts_->publish_load(false);
}

void Membership::set_address(Time now, const Address& address, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  MemberTable& table = parts_->context.table;
  Profile profile = table.profile(table.self());
  if (!parts_->leaving && profile.address != address) {
    profile.address = address;
    parts_->announce(table.incarnation(table.self()) + 1, profile);
  }
}

void Membership::set_name(Time now, std::string name, Effects& out) {
  TESS_CHECK(!name.empty() && name.size() <= kNameMax, "a name of {} bytes", name.size());
  const Call call(*parts_, now, Duration(0), out);
  MemberTable& table = parts_->context.table;
  Profile profile = table.profile(table.self());
  if (!parts_->leaving && profile.name != name) {
    profile.name = std::move(name);
    parts_->announce(table.incarnation(table.self()) + 1, profile);
  }
}

void Membership::set_seeds(std::vector<Address> seeds) {
  parts_->discovery.set_seeds(std::move(seeds));
}

void Membership::set_keys(KeyRing keys) {
  parts_->context.envelope.set_keys(std::move(keys));
}

void Membership::shut_out(Time now, std::span<const NodeId> nodes, Effects& out) {
  const Call call(*parts_, now, Duration(0), out);
  Context& context = parts_->context;
  for (const NodeId& node : nodes) {
    const Slot slot = context.table.find(node.key());
    if (slot == context.table.self()) {
      continue;  // whoever is expelled itself does not hear of it
    }
    parts_->shut_out.insert(node);
    if (slot != kNoSlot && context.table.profile(slot).id == node) {
      const auto change = context.table.apply(
          Verdict{node.key(), context.table.incarnation(slot), MemberState::kLeft, node.key()});
      if (change == MemberTable::Change::kLeft) {
        parts_->gone(change, slot);
      }
    }
  }
}

void Membership::remember(Time now, std::span<const AliveRecord> records) {
  Context& context = parts_->context;
  context.now = std::max(context.now, now);
  for (const AliveRecord& record : records) {
    if (record.profile.id.key() != context.self_key()) {
      context.table.apply(record);
    }
  }
}

ClusterView Membership::view(Time now) const {
  const Context& context = parts_->context;
  const MemberTable& table = context.table;
  ClusterView out;
  out.self = table.profile(table.self()).id;
  out.members.reserve(table.live_count());
  for (Slot slot = 0; slot < table.end(); ++slot) {
    if (!table.known(slot)) {
      continue;
    }
    const Profile& profile = table.profile(slot);
    MemberView member;
    member.id = profile.id;
    member.name = profile.name;
    member.address = profile.address.text();
    member.state = table.state(slot);
    if (slot == table.self()) {
      member.has_load = true;
      member.load = parts_->load;
      member.age = std::max(now - parts_->load_set, Duration(0));
    } else if (const LoadBoard::Item* item = context.board.find(slot)) {
      member.has_load = true;
      member.load = record_of(profile.facts, item->news);
      member.age = std::max(now - item->measured, Duration(0));
    }
    if (const auto at = context.round_trips.find(slot); at != context.round_trips.end()) {
      member.round_trip = at->second;
    }
    out.members.push_back(std::move(member));
  }
  std::sort(out.members.begin(), out.members.end(),
            [](const MemberView& a, const MemberView& b) { return a.id < b.id; });
  return out;
}

bool Membership::knows(const NodeId& node, MemberState& state, uint32_t& incarnation) const {
  const MemberTable& table = parts_->context.table;
  const Slot slot = table.find(node.key());
  if (slot == kNoSlot) {
    return false;
  }
  state = table.state(slot);
  incarnation = table.incarnation(slot);
  return true;
}

unsigned Membership::live_count() const {
  return parts_->context.table.live_count();
}

uint32_t Membership::digest() const {
  return parts_->context.table.digest();
}

unsigned Membership::health_score() const {
  return parts_->context.attention.score();
}

AliveRecord Membership::self() const {
  const MemberTable& table = parts_->context.table;
  return {table.incarnation(table.self()), table.profile(table.self())};
}

uint64_t Membership::count(Count what) const {
  return parts_->context.counts[static_cast<size_t>(what)];
}

uint64_t Membership::dropped(Drop why) const {
  return parts_->context.drops[static_cast<size_t>(why)];
}

uint64_t Membership::sent(Kind kind) const {
  return parts_->context.sent[static_cast<size_t>(kind)];
}

std::optional<Duration> Membership::load_age(Time now, const NodeId& node) const {
  const Context& context = parts_->context;
  const Slot slot = context.table.find(node.key());
  const LoadBoard::Item* item = slot == kNoSlot ? nullptr : context.board.find(slot);
  if (item == nullptr) {
    return std::nullopt;
  }
  return now - item->measured;
}

}  // namespace tess::cluster
