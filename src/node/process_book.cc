#include "node/process_book.h"

#include <algorithm>

#include "cluster/load.h"

namespace tess::node {
namespace {

using placement::Duration;
using placement::ProcessKey;
using placement::Time;

constexpr double kSmoothing = 0.5;
constexpr double kShortest = 0.25;  // seconds between two measurements that mean something
constexpr size_t kEarlyMost = 4096;

double seconds_of(uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

uint64_t more(uint64_t now, uint64_t before) {
  return now > before ? now - before : 0;  // a thread that ended takes its part along
}

std::string first_word(const std::string& command) {
  const std::string word = command.substr(0, command.find(' '));
  return word.substr(word.rfind('/') + 1);
}

}  // namespace

wire::ProcessRef to_wire(const ProcessName& name) {
  wire::ProcessRef ref;
  ref.set_home(to_wire(name.home));
  ref.set_job(name.job);
  ref.set_pid(name.inner_pid);
  return ref;
}

void resolve_nodes(const wire::Wishes& wishes, const ProcessBook::IdOf& of,
                   placement::Wishes& out) {
  const auto resolve = [&of](const auto& names, const auto& ids) {
    std::vector<cluster::NodeId> nodes;
    for (int i = 0; i < names.size(); ++i) {
      nodes.push_back(of(names.Get(i), i < ids.size() ? ids.Get(i) : std::string()));
    }
    return nodes;
  };
  out.on = resolve(wishes.on(), wishes.on_id());
  out.avoid = resolve(wishes.avoid(), wishes.avoid_id());
}

ProcessName from_wire(const wire::ProcessRef& ref) {
  return {id_from_wire(ref.home()), ref.job(), ref.pid()};
}

ProcessBook::Changes ProcessBook::update(const std::vector<std::shared_ptr<Agent>>& agents,
                                         Time now, const IdOf& id_of) {
  Changes changes;
  seen_.clear();
  for (const auto& agent : agents) {
    for (const auto& process : agent->status.process()) {
      if (process.inner_pid() == 0) {
        continue;
      }
      if (agent->role == wire::Register::HOME) {
        update_home(*agent, process, now, changes);
      } else {
        update_guest(*agent, process, now, id_of, changes);
      }
    }
  }
  const auto gone = [this](const auto& item) { return !seen_.contains(item.first); };
  std::erase_if(owns_, gone);
  std::erase_if(residents_, [&](const auto& item) {
    const auto own = owns_.find(item.first);
    const bool left = own != owns_.end() && own->second.place != node_name_;
    return gone(item) || left;
  });
  return changes;
}

void ProcessBook::update_home(const Agent& agent, const wire::JobProcess& process, Time now,
                              Changes& changes) {
  const ProcessName name{self_, agent.job, process.inner_pid()};
  const ProcessKey key = name.key();
  seen_[key] = true;
  auto [at, is_new] = owns_.try_emplace(key);
  OwnProcess& own = at->second;
  if (is_new) {
    own.name = name;
    own.place = node_name_;
    own.place_since = now;
    (void)own.wishes.ParseFromString(agent.note.substr(std::min<size_t>(agent.note.size(), 1)));
  }
  own.managed = !agent.note.empty();
  own.pid = process.pid();
  own.command = process.command();
  own.moving = process.state() == "moving";
  const std::string place = process.node().empty() ? node_name_ : process.node();
  if (place != own.place) {
    if (auto* here = resident(key); here != nullptr && own.place == node_name_) {
      own.carried = carried_now(*here);
    } else if (!std::exchange(own.carried_is_told, false)) {
      // Somebody fetched it: what it used is known, how long it waited is not.
      own.carried.cpu_used += seconds_of(more(process.cpu_hosts_ns(), own.cpu_hosts_ns));
      own.carried.wanted += placement::seconds(now - own.place_since);
    }
    own.cpu_hosts_ns = process.cpu_hosts_ns();
    own.came_from = std::exchange(own.place, place);
    own.place_since = now;
    changes.moved.push_back(key);
  }
  if (own.place != node_name_) {
    return;
  }
  auto [here, came] = residents_.try_emplace(key);
  Resident& resident = here->second;
  if (came) {
    resident.name = name;
    resident.home_node = node_name_;
    resident.since = now;
    resident.carried = own.carried;
    resident.facts_known = true;
  }
  resident.pid = own.pid;
  resident.command = first_word(own.command);
  resident.moving = own.moving;
  resident.wishes = own.wishes;
  resident.immovable_because = why_immovable(own);
  resident.movable = resident.immovable_because.empty();
}

void ProcessBook::update_guest(const Agent& agent, const wire::JobProcess& process, Time now,
                               const IdOf& id_of, Changes& changes) {
  const cluster::NodeId home = id_of(agent.home_node, "");
  if (home.empty()) {
    return;  // not known to the cluster (yet)
  }
  const ProcessName name{home, agent.job, process.inner_pid()};
  const ProcessKey key = name.key();
  seen_[key] = true;
  auto [at, is_new] = residents_.try_emplace(key);
  Resident& guest = at->second;
  guest.pid = process.pid();
  if (!is_new) {
    return;
  }
  guest.name = name;
  guest.guest = true;
  guest.home_node = agent.home_node;
  guest.command = process.command();
  guest.since = now;
  guest.immovable_because = "its home has not said yet what is wished for it";
  changes.came.push_back(key);
  if (const auto early = early_facts_.extract(key); !early.empty()) {
    set_facts(early.mapped(), now);
  }
}

void ProcessBook::measure(Time now, uint32_t speed) {
  for (auto& [key, resident] : residents_) {
    measure_one(resident, now, speed);
  }
}

void ProcessBook::measure_one(Resident& resident, Time now, uint32_t speed) {
  const auto use = process_use(resident.pid);
  if (!use) {
    return;
  }
  const bool first = resident.measured_at == Time();
  const double elapsed = placement::seconds(now - resident.measured_at);
  if (!first && elapsed < kShortest) {
    return;
  }
  const double pace = static_cast<double>(speed) / cluster::kReferenceSpeed;
  if (first) {
    resident.first = *use;
    if (!resident.guest && resident.carried.wanted == 0) {
      // It has always been here: all that it used counts.
      resident.carried.cpu_used = seconds_of(use->ran_ns) * pace;
      resident.carried.wanted = seconds_of(use->ran_ns + use->waited_ns);
    }
  } else {
    const ProcessUse& last = resident.last;
    const double ran = seconds_of(more(use->ran_ns, last.ran_ns));
    const double wanted = ran + seconds_of(more(use->waited_ns, last.waited_ns));
    const uint64_t calls =
        resident.guest ? more(use->switches, last.switches) : more(use->calls, last.calls);
    resident.cpu_here += ran * pace;
    resident.wanted_here += wanted;
    resident.demand += kSmoothing * (wanted / elapsed - resident.demand);
    resident.work += kSmoothing * (ran * pace / elapsed - resident.work);
    resident.cores += kSmoothing * (ran / elapsed - resident.cores);
    resident.calls += kSmoothing * (static_cast<double>(calls) / elapsed - resident.calls);
    const double grown =
        static_cast<double>(use->memory_bytes) - static_cast<double>(last.memory_bytes);
    resident.growth += kSmoothing * (grown / elapsed - resident.growth);
  }
  resident.last = *use;
  resident.measured_at = now;
}

std::vector<placement::ProcessPicture> ProcessBook::pictures(Time now, const IdOf& id_of,
                                                             bool draining) const {
  std::vector<placement::ProcessPicture> pictures;
  pictures.reserve(residents_.size());
  constexpr double kLeastWork = 0.02;  // below it, calls per work say nothing
  for (const auto& [key, resident] : residents_) {
    placement::ProcessPicture p;
    p.key = key;
    p.name = resident.command;
    p.demand = resident.demand;
    p.memory_bytes = resident.last.memory_bytes;
    p.memory_growth = resident.growth;
    const Carried carried = carried_now(resident);
    p.cpu_used = carried.cpu_used;
    p.wanted = carried.wanted;
    p.moves = carried.moves;
    for (const auto& left : carried.left) {
      p.recently_left.push_back({left.node, now - left.at});
    }
    p.home_calls = resident.calls / std::max(resident.work, kLeastWork);
    p.here_for = now - resident.since;
    p.moving = resident.moving;
    const bool waits = now < resident.not_before;
    const bool sent_away = draining && resident.guest && resident.facts_known;
    p.movable = (resident.movable || sent_away) && !waits;
    p.immovable_because = waits ? resident.failed_because : resident.immovable_because;
    resolve_nodes(resident.wishes, id_of, p.wishes);
    p.wishes.home = resident.wishes.home();
    p.wishes.stay = resident.wishes.stay();
    p.wishes.cpu_bound = resident.wishes.cpu_bound();
    p.wishes.memory_bytes = resident.wishes.memory_bytes();
    pictures.push_back(std::move(p));
  }
  return pictures;
}

Resident* ProcessBook::resident(const ProcessKey& key) {
  const auto found = residents_.find(key);
  return found == residents_.end() ? nullptr : &found->second;
}

OwnProcess* ProcessBook::own(const ProcessKey& key) {
  const auto found = owns_.find(key);
  return found == owns_.end() ? nullptr : &found->second;
}

OwnProcess* ProcessBook::own_by_pid(pid_t pid) {
  for (auto& [key, own] : owns_) {
    if (own.pid == pid) {
      return &own;
    }
  }
  return nullptr;
}

std::unordered_map<pid_t, bool> ProcessBook::resident_pids() const {
  std::unordered_map<pid_t, bool> pids;
  for (const auto& [key, resident] : residents_) {
    pids[resident.pid] = true;
  }
  return pids;
}

size_t ProcessBook::guests() const {
  return static_cast<size_t>(std::count_if(residents_.begin(), residents_.end(),
                                           [](const auto& item) { return item.second.guest; }));
}

Carried ProcessBook::carried_now(const Resident& resident) const {
  Carried carried = resident.carried;
  carried.cpu_used += resident.cpu_here;
  carried.wanted += resident.wanted_here;
  return carried;
}

void ProcessBook::set_facts(const wire::GuestFacts& facts, Time now) {
  const ProcessKey key = from_wire(facts.process()).key();
  Resident* guest = resident(key);
  if (guest == nullptr) {
    if (early_facts_.size() >= kEarlyMost) {
      early_facts_.clear();  // of processes that ended on their way
    }
    early_facts_[key] = facts;
    return;
  }
  if (!guest->guest) {
    return;
  }
  if (!guest->facts_known) {
    guest->carried = from_wire(facts.carried(), now);
    guest->facts_known = true;
  }
  guest->wishes = facts.wishes();
  guest->movable = facts.movable();
  guest->immovable_because = facts.immovable_because();
  if (!facts.name().empty()) {
    guest->command = facts.name();
  }
}

wire::GuestFacts ProcessBook::facts_of(const OwnProcess& process, Time now) {
  wire::GuestFacts facts;
  *facts.mutable_process() = to_wire(process.name);
  *facts.mutable_carried() = to_wire(process.carried, now);
  *facts.mutable_wishes() = process.wishes;
  const std::string why = why_immovable(process);
  facts.set_movable(why.empty());
  facts.set_immovable_because(why);
  facts.set_name(first_word(process.command));
  return facts;
}

std::string ProcessBook::why_immovable(const OwnProcess& process) {
  if (process.put_by_hand) {
    return "somebody put it there by hand, and there it stays";
  }
  if (!process.managed) {
    return "it was not started by `tess run` and no rule of `tess manage` covers it: only people "
           "move it";
  }
  return {};
}

}  // namespace tess::node
