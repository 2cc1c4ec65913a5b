#include "node/placer.h"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "base/log.h"
#include "sys/files.h"

namespace tess::node {
namespace {

using cluster::MemberState;
using placement::Time;
using std::chrono::milliseconds;

constexpr milliseconds kRound{1000};
constexpr size_t kCandidates = 64;
constexpr milliseconds kExplainTimeout{10000};
constexpr unsigned kFactsEvery = 10;  // rounds

uint64_t seed() {
  uint64_t number = 0;
  (void)::getrandom(&number, sizeof number, 0);
  return number;
}

}  // namespace

Placer::Placer(net::Loop& loop, Options options, AgentHub& hub, Cluster& cluster)
    : loop_(loop),
      options_(std::move(options)),
      hub_(hub),
      cluster_(cluster),
      meter_(options_.state_dir),
      link_rates_(policy_),
      admission_(policy_),
      random_(seed()),
      timer_(loop),
      owner_rule_(options_.owner_rule) {
  std::error_code error;
  draining_ = std::filesystem::exists(options_.state_dir + "/draining", error);
}

Placer::~Placer() = default;

cluster::LoadRecord Placer::first_load() {
  load_ = meter_.measure();
  load_.draining = draining_;
  return load_;
}

void Placer::start(Gossip& gossip) {
  gossip_ = &gossip;
  book_ = std::make_unique<ProcessBook>(options_.node_name, gossip.id());
  balancer_ = std::make_unique<placement::Balancer>(policy_, seed());
  watch_owner();
  tick();
}

std::string Placer::note_of(const wire::Wishes& wishes) {
  return "m" + wishes.SerializeAsString();
}

cluster::NodeId Placer::id_of(const std::string& node) const {
  if (node == options_.node_name) {
    return gossip_->id();
  }
  cluster::NodeId found;
  for (const auto& member : gossip_->view().members) {
    if (member.name == node && member.id != gossip_->id()) {
      found = member.id;
      if (member.state == MemberState::kAlive) {
        break;
      }
    }
  }
  return found;
}

std::string Placer::name_now(const std::string& node, const std::string& id) const {
  const std::string now = name_of(ids()(node, id));
  return now.empty() ? node : now;
}

std::string Placer::name_of(const cluster::NodeId& id) const {
  const auto view = gossip_->view();
  const auto* member = view.find(id);
  return member == nullptr ? "" : member->name;
}

// Resolves names from one look at the cluster.
ProcessBook::IdOf Placer::ids() const {
  auto names = std::make_shared<std::map<std::string, cluster::NodeId>>();
  auto live = std::make_shared<std::set<cluster::NodeId>>();
  for (const auto& member : gossip_->view().members) {
    auto& known = (*names)[member.name];
    if (known.empty() || member.state == MemberState::kAlive) {
      known = member.id;
    }
    if (member.state == MemberState::kAlive || member.state == MemberState::kSuspect) {
      live->insert(member.id);
    }
  }
  (*names)[options_.node_name] = gossip_->id();
  return [names, live](const std::string& node, const std::string& id) {
    // Whoever had the name when it was said is meant, unless its machine is gone: then the one that
    // took its place.
    if (const cluster::NodeId meant = id_from_wire(id); live->contains(meant)) {
      return meant;
    }
    const auto found = names->find(node);
    return found == names->end() ? cluster::NodeId() : found->second;
  };
}

void Placer::on_status() {
  if (gossip_ == nullptr || std::exchange(update_posted_, true)) {
    return;
  }
  loop_.post([this] {
    update_posted_ = false;
    update_book();
  });
}

void Placer::update_book() {
  auto agents = hub_.all();
  if (manager_ != nullptr) {
    manager_->add_candidates(agents);
  }
  const ProcessBook::Changes changes = book_->update(agents, Gossip::now(), ids());
  for (const auto& key : changes.came) {
    admission_.arrived(key);
  }
  std::erase_if(early_log_, [this](const auto& item) {
    OwnProcess* own = book_->own(item.first);
    if (own != nullptr) {
      own->log.add(item.second);
    }
    return own != nullptr;
  });
  for (const auto& key : changes.moved) {
    if (const OwnProcess* own = book_->own(key); own->place != options_.node_name) {
      tell_facts(*own);
    }
  }
  if (!changes.came.empty() && draining_) {
    decide();
  }
}

// A host whose tessd has started anew knows nothing of its guests.
void Placer::tell_all_facts() {
  for (const auto& [key, own] : book_->owns()) {
    if (own.place != options_.node_name) {
      tell_facts(own);
    }
  }
}

void Placer::look() {
  const Time now = Gossip::now();
  load_ = meter_.measure();
  load_.link_mbit = own_link_mbit();
  book_->measure(now, meter_.core_speed());
  others_ = meter_.demand_of_others(now, book_->resident_pids());
  if (manager_ != nullptr) {
    manager_->look(now, meter_.wanted_ns());
  }
  memory_growth_ = meter_.memory_growth(now, load_.memory_free_bytes);
  load_.guests = static_cast<uint16_t>(std::min<size_t>(book_->guests(), UINT16_MAX));
  load_.draining = draining_;
  load_.reserved_permille = static_cast<uint16_t>(options_.reserve * 1000);
  look_for_owner();
}

void Placer::tick() {
  timer_.start(kRound, [this] { tick(); });
  rounds_again_ = 0;
  update_book();
  look();
  if (++rounds_ % kFactsEvery == 0) {
    tell_all_facts();
  }
  View view;
  take_view(view);
  gossip_->set_load(admission_.record(Gossip::now(), view.local));
  decide();
}

void Placer::take_view(View& view) const {
  const Time now = Gossip::now();
  view.cluster = gossip_->view();
  view.cluster_size = std::max(1u, gossip_->live_count());
  view.residents = book_->pictures(now, ids(), draining_);
  std::vector<cluster::NodeId> homes;
  for (const auto& resident : view.residents) {
    homes.push_back(resident.key.home);
  }
  placement::Random random = random_;
  view.candidates = placement::sample_candidates(view.cluster, homes, kCandidates, policy_, random);
  add_bandwidths(view.candidates);
  view.local.node.id = gossip_->id();
  view.local.node.name = options_.node_name;
  view.local.node.load = load_;
  view.local.unmanaged_runnable = others_;
  view.local.memory_growth = memory_growth_;
  view.local.residents = view.residents;
}

placement::Round Placer::round_of(const View& view) const {
  placement::Round round;
  round.now = Gossip::now();
  round.local = view.local;
  round.candidates = view.candidates;
  round.cluster_size = view.cluster_size;
  return round;
}

void Placer::decide() {
  if (!options_.balance && !draining_ && !load_.owner_active) {
    return;
  }
  (void)random_.next();  // another sample
  View view;
  take_view(view);
  const placement::Round round = round_of(view);
  for (const placement::PlannedMove& move : balancer_->decide(round)) {
    if (options_.balance || move.decision.cause == placement::Cause::kDrain ||
        move.decision.cause == placement::Cause::kOwner) {
      send(move);
    } else {
      balancer_->ended(round.now, move.decision.process, placement::MoveEnd::kVoid);
    }
  }
}

Result<> Placer::set_draining(bool on) {
  const std::string path = options_.state_dir + "/draining";
  if (on) {
    TESS_TRY(sys::write_file(path, ""));
  } else if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail_errno("remove {}", path);
  }
  draining_ = on;
  log::info("node", "event={}", on ? "draining" : "undrained");
  tick();  // the others are to know at once
  return {};
}

void Placer::set_policy(const placement::Policy& policy) {
  policy_ = policy;
  admission_.set_policy(policy);
  link_rates_.set_policy(policy);
  if (balancer_ != nullptr) {
    balancer_->set_policy(policy);
  }
}

// Empty: it could be told.
std::string Placer::explain_here(const placement::ProcessKey& key, Told& told) const {
  View view;
  take_view(view);
  const auto found = std::find_if(view.residents.begin(), view.residents.end(),
                                  [&](const auto& p) { return p.key == key; });
  if (found == view.residents.end()) {
    return fmt::format("node {} does not have it", options_.node_name);
  }
  const auto explanation = placement::explain(*balancer_, round_of(view), *found, nullptr);
  told.why_here = explanation.why_here;
  told.would_move = explanation.would_move;
  if (!options_.balance) {
    told.would_move.insert(told.would_move.begin(),
                           fmt::format("balancing is off on {}", options_.node_name));
  }
  return {};
}

void Placer::explain(pid_t pid, std::function<void(const Told&)> then) {
  Told told;
  const OwnProcess* own = gossip_ == nullptr ? nullptr : book_->own_by_pid(pid);
  if (own == nullptr) {
    then(told);
    return;
  }
  told.last_moves = own->log.texts(Gossip::now());
  if (own->place == options_.node_name) {
    (void)explain_here(own->name.key(), told);
    then(told);
    return;
  }
  wire::ClusterMessage ask;
  *ask.mutable_ask_explain()->mutable_process() = to_wire(own->name);
  cluster_.ask(own->place, std::move(ask), kExplainTimeout,
               [told, then](Result<wire::ClusterMessage> answer) mutable {
                 if (answer && answer->has_explained()) {
                   told.why_here.assign(answer->explained().why_here().begin(),
                                        answer->explained().why_here().end());
                   told.would_move.assign(answer->explained().would_move().begin(),
                                          answer->explained().would_move().end());
                 } else if (!answer) {
                   told.why_here.push_back(answer.error().message());
                 }
                 then(told);
               });
}

wire::ClusterMessage Placer::answer_explain(const wire::ProcessRef& process) {
  Told told;
  wire::ClusterMessage reply;
  const std::string missing = explain_here(from_wire(process).key(), told);
  for (const auto& line : told.why_here) {
    reply.mutable_explained()->add_why_here(line);
  }
  for (const auto& line : told.would_move) {
    reply.mutable_explained()->add_would_move(line);
  }
  if (!missing.empty()) {
    reply.mutable_explained()->add_why_here(missing);
  }
  return reply;
}

bool Placer::answer(const wire::ClusterMessage& message, const std::string& asker,
                    const Reply& reply) {
  wire::ClusterMessage done;
  done.mutable_done()->set_ok(true);
  if (gossip_ == nullptr) {
    return false;
  }
  switch (message.body_case()) {
    case wire::ClusterMessage::kPlaceAsk:
      reply(answer_ask(message.place_ask(), asker));
      return true;
    case wire::ClusterMessage::kCallOff:
      admission_.called_off(from_wire(message.call_off().process()).key());
      reply(done);
      return true;
    case wire::ClusterMessage::kMoveGuest:
      answer_move(message.move_guest(), asker, reply);
      return true;
    case wire::ClusterMessage::kGuestFacts:
      // Only its home speaks for a process.
      if (id_from_wire(message.guest_facts().process().home()) == id_of(asker)) {
        book_->set_facts(message.guest_facts(), Gossip::now());
      }
      reply(done);
      return true;
    case wire::ClusterMessage::kAskLoad: {
      View view;
      take_view(view);
      wire::ClusterMessage load;
      *load.mutable_load_now()->mutable_load() =
          to_wire(admission_.record(Gossip::now(), view.local));
      reply(load);
      return true;
    }
    case wire::ClusterMessage::kAskExplain:
      reply(answer_explain(message.ask_explain().process()));
      return true;
    case wire::ClusterMessage::kSetDrain:
      if (const auto set = set_draining(message.set_drain().on()); !set) {
        done.mutable_done()->set_ok(false);
        done.mutable_done()->set_message(set.error().message());
      }
      reply(done);
      return true;
    default:
      return false;
  }
}

}  // namespace tess::node
