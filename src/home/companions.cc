// Who moves together, and the main thread's part in what is shared.
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <optional>
#include <sstream>

#include "base/log.h"
#include "home/home_agent.h"
#include "memory/address_space.h"
#include "migrate/eligibility.h"
#include "migrate/sharing.h"
#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/process.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

constexpr std::chrono::seconds kShareTimeout{120};

struct Kin {
  pid_t parent = 0;
  std::string users;  // all its user ids
};

std::optional<Kin> read_kin(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  if (!status || status->field("Uid").empty()) {
    return std::nullopt;
  }
  return Kin{status->pid_field("PPid"), std::string(status->field("Uid"))};
}

// About to end: it has given its memory back.
bool has_no_memory(pid_t pid) {
  const auto sizes = sys::read_file("/proc/" + std::to_string(pid) + "/statm");
  return !sizes || sizes->starts_with("0 ");
}

bool is_zombie(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  return !status || status->state() == 'Z' || status->state() == 'X';
}

// Parent, child or sibling, and whoever may move the one may move the other: root, or the user of
// both.
bool related(pid_t one, pid_t other, bool by_root) {
  const auto a = read_kin(one);
  const auto b = read_kin(other);
  return a && b && (by_root || a->users == b->users) &&
         (a->parent == other || b->parent == one || (a->parent == b->parent && a->parent > 1));
}

// Seconds since it was forked; a large number if it is gone.
double age_of(pid_t pid) {
  const auto start = sys::process_start_time(pid);
  const auto uptime = sys::read_file("/proc/uptime");
  return start && uptime
             ? std::atof(uptime->c_str()) -
                   static_cast<double>(*start) / static_cast<double>(::sysconf(_SC_CLK_TCK))
             : 1e9;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  for (const pid_t thread : trace::list_threads(pid)) {
    const auto list = sys::read_file(fmt::format("/proc/{}/task/{}/children", pid, thread));
    std::istringstream numbers(list.value_or(""));
    for (pid_t child = 0; numbers >> child;) {
      children.push_back(child);
    }
  }
  return children;
}

constexpr std::chrono::seconds kYoung(2);

// Who has just been forked and executes a program that may map the same file again: moved out with
// the others it finds their memory; left here it would find the file alone. Later it is too late.
bool about_to_share(pid_t pid) {
  return age_of(pid) < static_cast<double>(kYoung.count());
}

// The same of one that comes home to map what is used there, or has just come.
bool about_to_share(const Managed& process, const std::set<ObjectKey>& keys) {
  return process.wish && keys.contains(process.wish->first) &&
         (process.busy || std::chrono::steady_clock::now() - process.wish->second < kYoung);
}

// Of what the one only reads the other may be the writer.
bool writes_to_any(pid_t pid, const std::vector<SharedMapping>& objects) {
  return std::ranges::any_of(shared_mappings(pid), [&](const SharedMapping& mapping) {
    return mapping.written &&
           std::ranges::find(objects, mapping.key, &SharedMapping::key) != objects.end();
  });
}

bool shares_a_file(pid_t pid) {
  const auto mappings = shared_mappings(pid);
  return std::any_of(mappings.begin(), mappings.end(),
                     [](const SharedMapping& m) { return m.written && !m.anonymous; });
}

}  // namespace

// All that share something writable with these, and with those in turn; without the group itself.
// A process at home takes its kin along, one that is away those of the job that are there with it.
HomeAgent::Companions HomeAgent::look_for_companions(const std::vector<pid_t>& group,
                                                     const Managed* first, bool by_root) {
  Companions found;
  const bool away = first != nullptr && first->state == Managed::State::kDeputy;
  std::vector<pid_t> all = group;
  for (size_t i = 0; i < all.size(); ++i) {
    const auto shared = shared_mappings(all[i]);
    if (shared.empty()) {
      continue;  // most processes; the closer look takes its time where there is much memory
    }
    for (const auto& [pid, process] : processes_) {
      if (!away && process->state == Managed::State::kNative &&
          std::find(all.begin(), all.end(), pid) == all.end() && writes_to_any(pid, shared)) {
        all.push_back(pid);
      }
    }
    const auto mappings = memory::read_address_space(all[i]);
    if (!mappings) {
      continue;
    }
    for (const migrate::Sharer& sharer : migrate::find_mapping_sharers(all[i], *mappings)) {
      if (std::find(all.begin(), all.end(), sharer.pid) != all.end()) {
        continue;
      }
      const Managed* const known = find(sharer.pid);
      const bool known_away = known != nullptr && known->state == Managed::State::kDeputy;
      const bool joins =
          away ? known_away && known->host == first->host
               : !known_away && (known != nullptr || related(all[i], sharer.pid, by_root));
      if (joins) {
        all.push_back(sharer.pid);
      } else if (!away && known_away) {
        found.elsewhere = sharer.pid;
      }
    }
  }
  for (size_t i = 0; !away && i < all.size(); ++i) {
    for (const pid_t child : shares_a_file(all[i]) ? children_of(all[i]) : std::vector<pid_t>()) {
      const Managed* const known = find(child);
      if (std::find(all.begin(), all.end(), child) == all.end() && about_to_share(child) &&
          (known == nullptr || known->busy || known->state == Managed::State::kNative) &&
          related(all[i], child, by_root) &&
          ((known != nullptr && known->busy) ||
           migrate::check_eligibility(child, {.own_tracer = ::getpid()}).empty())) {
        all.push_back(child);
      }
    }
  }
  if (!away) {
    add_those_who_wish(all, found);
  }
  found.pids.assign(all.begin() + static_cast<ptrdiff_t>(group.size()), all.end());
  return found;
}

void HomeAgent::add_those_who_wish(std::vector<pid_t>& all, Companions& found) {
  if (std::ranges::none_of(processes_,
                           [](const auto& one) { return one.second->wish.has_value(); })) {
    return;
  }
  std::set<ObjectKey> keys;
  for (const pid_t pid : all) {
    for (const SharedMapping& mapping : shared_mappings(pid)) {
      keys.insert(mapping.key);
    }
  }
  for (const auto& [pid, process] : processes_) {
    if (!about_to_share(*process, keys) || std::find(all.begin(), all.end(), pid) != all.end()) {
      continue;
    }
    if (process->state == Managed::State::kDeputy && !process->busy) {
      found.elsewhere = pid;
    } else {
      all.push_back(pid);
    }
  }
}

Result<HomeAgent::Group> HomeAgent::find_companions(const Group& group, const std::string& node) {
  after_events();  // children that have just been made are among the processes then
  std::vector<pid_t> pids;
  for (const auto& process : group) {
    pids.push_back(process->pid);
  }
  const Managed& first = *group.front();
  const Companions looked = look_for_companions(pids, &first, first.by_root);
  const std::vector<pid_t>& found = looked.pids;
  if (const Managed* const other = looked.elsewhere ? find(*looked.elsewhere) : nullptr;
      other != nullptr && other->where() != node) {
    return fail(ErrorKind::kRetry, "process {}, which shares memory with process {}, is on {}",
                other->pid, group.front()->pid, other->where());
  }
  pids.insert(pids.end(), found.begin(), found.end());
  for (const pid_t pid : pids) {
    if (home_watch_.keeps_any(pid)) {
      return fail(ErrorKind::kRetry, "process {} waits for memory that is on its way home", pid);
    }
  }
  for (const pid_t pid : found) {
    if (const Managed* const process = find(pid); process != nullptr && process->busy) {
      return fail(ErrorKind::kRetry,
                  "process {}, which shares memory with process {}, is moving already; try again "
                  "when it has arrived",
                  pid, group.front()->pid);
    }
  }
  Group companions;
  for (const pid_t pid : found) {
    const std::shared_ptr<Managed> process = make_process(pid);
    process->busy = true;
    process->by_root = first.by_root;
    process->moving_to = node;
    companions.push_back(process);
    log::info("home", "event=moves_along pid={} with={}", pid, group.front()->pid);
  }
  return companions;
}

// Somebody who shares with it but is not in its group yet: joins when the group is at rest, if it
// may.
bool HomeAgent::may_join(const Managed& process, pid_t sharer) {
  if (related(process.pid, sharer, process.by_root) || is_zombie(sharer)) {
    return true;
  }
  bool known = false;
  (void)on_main([&]() -> Result<> {
    known = find(sharer) != nullptr;
    return {};
  });
  return known;
}

// Those that have no memory left, and so are no companions, though their end is not seen yet.
void HomeAgent::note_dying(const std::string& node) {
  for (const auto& [pid, process] : processes_) {
    if (process->state == Managed::State::kDeputy && process->where() == node &&
        has_no_memory(pid)) {
      note_ending_body(*process);
    }
  }
}

bool HomeAgent::any_ending_body(const std::string& node) {
  constexpr std::chrono::seconds kLongest(2);
  const auto given_up = std::chrono::steady_clock::now() - kLongest;
  std::erase_if(ending_bodies_, [&](const auto& body) {
    const bool silent = body.second < given_up;
    if (silent) {
      log::warn("home", "event=body_given_up pid={} node={}", body.first.second, body.first.first);
    }
    return silent;
  });
  return std::ranges::any_of(ending_bodies_,
                             [&](const auto& body) { return body.first.first == node; });
}

bool HomeAgent::bodies_are_ending(const std::string& node) {
  bool ending = false;
  (void)on_main([&]() -> Result<> {
    after_events();
    ending = any_ending_body(node);
    return {};
  });
  return ending;
}

void HomeAgent::body_dropped(const std::string& node, const Managed& process) {
  (void)on_main([&]() -> Result<> {
    ending_bodies_.erase({node, process.inner_pid});
    return {};
  });
}

// It has ended, or is about to: it has given its memory back.
bool HomeAgent::is_gone(const Managed& process) {
  const auto it = processes_.find(process.pid);
  return it == processes_.end() || it->second.get() != &process || is_zombie(process.pid) ||
         has_no_memory(process.pid);
}

bool HomeAgent::has_left(const Managed& process) {
  bool left = false;
  (void)on_main([&]() -> Result<> {
    after_events();
    left = process.executed_meanwhile || is_gone(process);
    if (left && find(process.pid) == &process) {
      note_ending_body(process);
    }
    return {};
  });
  return left;
}

// ---- shared memory ----

Result<HomeAgent::Share> HomeAgent::begin_share(const Group& group, const std::string& node,
                                                const std::shared_ptr<HostLink>& target,
                                                bool patient) {
  const auto flushed = std::make_shared<std::promise<void>>();
  auto future = flushed->get_future();
  Share share;
  TESS_TRY(on_main([&]() -> Result<> {
    // In one turn: nobody can come to share what moves between the look and the lock. Who comes
    // between the look and the move is seen.
    bool shares = false;
    bool reachable = false;
    for (const auto& process : group) {
      for (const SharedMapping& mapping : shared_mappings(process->pid)) {
        shares = true;
        reachable = reachable || (mapping.written && !mapping.inherited);
      }
    }
    if (target != nullptr && reachable) {
      home_watch_.begin();
    }
    TESS_TRY_ASSIGN(share.more, find_companions(group, node));
    const std::string from = group.front()->where();
    if (patient && !from.empty() && shares) {
      note_dying(from);
      share.bodies_end = any_ending_body(from);
    }
    if (share.more.empty() && !share.bodies_end) {
      std::vector<pid_t> pids;
      for (const auto& process : group) {
        pids.push_back(process->pid);
      }
      share.number = shared_.begin_move(pids, target, [flushed] { flushed->set_value(); });
    }
    return {};
  }));
  if (share.number != 0 && future.wait_for(kShareTimeout) != std::future_status::ready) {
    end_share(share.number, false);
    return fail(ErrorKind::kRetry, "what process {} shares does not come home", group[0]->pid);
  }
  return share;
}

// It wants to share what is held on another node: it goes there, then asks again. False: it cannot.
bool HomeAgent::gather(pid_t pid, const std::string& node, const ObjectKey& wish) {
  constexpr uint32_t kAttempts = 20;
  constexpr uint32_t kAtOnce = 3;
  constexpr std::chrono::milliseconds kPause(100);  // others move, too, or are just ending
  Managed* const process = find(pid);
  if (process == nullptr || finishing_) {
    return false;
  }
  if (process->busy || process->gathers) {
    return true;
  }
  if (++process->gatherings > kAttempts) {
    process->gatherings = 0;
    return false;
  }
  if (node.empty()) {
    process->wish.emplace(wish, std::chrono::steady_clock::now());
  }
  process->gathers = true;
  const auto timer = std::make_shared<net::Timer>(loop_);
  const bool at_once = process->gatherings <= kAtOnce;
  timer->start(at_once ? std::chrono::milliseconds(0) : kPause,
               [this, timer, pid, node] { begin_gathering(pid, node); });
  return true;
}

void HomeAgent::begin_gathering(pid_t pid, const std::string& node) {
  Managed* const process = find(pid);
  if (process == nullptr) {
    return;
  }
  process->gathers = false;
  migrate(pid, node, [this, pid](const Result<>& moved) {
    Managed* const gone = find(pid);
    if (gone != nullptr && !moved) {
      gone->wish.reset();
    } else if (gone != nullptr) {
      gone->gatherings = 0;
      if (gone->wish) {
        gone->wish->second = std::chrono::steady_clock::now();
      }
    }
  });
}

void HomeAgent::end_share(uint64_t move, bool committed) {
  (void)on_main([&]() -> Result<> {
    shared_.end_move(move, committed);
    return {};
  });
}

Result<std::set<ObjectKey>> HomeAgent::shared_objects() {
  std::set<ObjectKey> keys;
  TESS_TRY(on_main([&]() -> Result<> {
    keys = shared_.live_objects();
    // Also what those that are just moving have mapped for writing.
    for (const auto& [pid, process] : processes_) {
      if (process->busy) {
        for (const SharedMapping& mapping : shared_mappings(pid)) {
          if (mapping.written) {
            keys.insert(mapping.key);
          }
        }
      }
    }
    return {};
  }));
  return keys;
}

void HomeAgent::write_shared_table(const Managed& process) {
  if (process.session == nullptr) {
    return;
  }
  const std::vector<stub::SharedFile>& table = shared_.table();
  const uint64_t at = process.placement.region_base + stub::kSharedTableOffset;
  const stub::RemoteMemory& memory = process.session->memory();
  // Entries first: a deputy may be reading. A process that has ended needs none.
  Result<> written;
  if (!table.empty()) {
    written =
        memory.write(at + offsetof(stub::SharedTable, files), std::as_bytes(std::span(table)));
  }
  if (written) {
    written =
        memory.put(at + offsetof(stub::SharedTable, count), static_cast<uint32_t>(table.size()));
  }
  if (!written) {
    log::debug("home", "event=table_not_written pid={} reason=\"{}\"", process.pid,
               written.error().message());
  }
}

void HomeAgent::shared_call(pid_t pid, const stub::MailboxNote& note,
                            const stub::SharedCall& call) {
  shared_.call(pid, static_cast<stub::SharedMoment>(note.value), call, [this, pid, id = note.id] {
    const Managed* const process = find(pid);
    if (process != nullptr && process->session != nullptr) {
      stub::ChannelAnswer answer{};
      answer.id = id;
      (void)process->session->answer_channel(answer, {});
    }
  });
}

std::shared_ptr<HostLink> HomeAgent::link_of(const std::string& node) {
  const std::lock_guard lock(links_mutex_);
  const auto it = links_.find(node);
  return it == links_.end() ? nullptr : it->second;
}

// From a body there, or for one that is being made there.
void HomeAgent::shared_open(const std::string& node, const wire::LinkMessage& message) {
  const auto link = link_of(node);
  if (link == nullptr) {
    return;
  }
  pid_t meant = 0;
  for (const auto& [pid, process] : processes_) {
    if (process->inner_pid == message.pid() &&
        (process->where() == node || (process->busy && process->moving_to == node))) {
      meant = pid;
    }
  }
  shared_.open(link, meant, message);
}

}  // namespace tess::home
