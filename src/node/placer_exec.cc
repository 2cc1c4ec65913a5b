// Where a new program belongs: a few nodes are asked for their load of this moment.

#include "node/placer.h"
#include "node/proc_info.h"
#include "sys/proc_status.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLoadTimeout{500};
constexpr milliseconds kAskTimeout{1000};
constexpr double kWaits = 0.05;  // threads that a process wants that waits at this moment

// Its pid as it sees it itself: the last of NSpid.
int32_t inner_pid(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  const int32_t inner = status ? status->innermost_id() : 0;
  return inner != 0 ? inner : pid;
}

}  // namespace

struct Placer::Gathering {
  double work = 0;  // reference seconds that it is expected to take; 0: not known
  ProcessName name;
  wire::Wishes wishes;
  placement::ProcessPicture process;
  std::map<std::string, placement::NodePicture> asked;  // by name, with the load that is known
  std::vector<placement::NodePicture> fresh;
  size_t missing = 1;
  std::function<void(const std::string&)> then;
};

void Placer::place_new(uint64_t job, pid_t pid, const wire::Wishes& wishes,
                       std::function<void(const std::string& node)> then) {
  if (gossip_ == nullptr || !options_.balance || wishes.stay() || wishes.home()) {
    then("");
    return;
  }
  const auto gathering = std::make_shared<Gathering>();
  gathering->name = {gossip_->id(), job, inner_pid(pid)};
  gathering->wishes = wishes;
  gathering->then = std::move(then);
  update_book();
  gather(gathering);
}

// What runs at this moment, not on average over the last seconds: most processes of a build are
// younger than that, and most of them wait for another.
void Placer::look_closely(View& view) {
  for (placement::ProcessPicture& picture : view.residents) {
    const Resident* resident = book_->resident(picture.key);
    if (resident == nullptr) {
      continue;
    }
    if (resident->measured_at == placement::Time()) {
      const auto facts = process_facts(resident->pid);
      const bool busy = facts && *facts && ((*facts)->state == 'R' || (*facts)->state == 'D');
      picture.demand = busy ? 1 : kWaits;
    }
  }
  view.local.residents = view.residents;
}

void Placer::place_program(const Agent& agent, const wire::PlaceProgram& ask,
                           std::function<void(const std::string& node)> then) {
  if (gossip_ == nullptr || !options_.balance) {
    then("");
    return;
  }
  update_book();
  View view;
  take_view(view);
  look_closely(view);
  wire::Wishes wishes;
  if (agent.note.starts_with("m")) {
    (void)wishes.ParseFromString(agent.note.substr(1));
  }
  const auto gathering = std::make_shared<Gathering>();
  gathering->name = {gossip_->id(), agent.job, inner_pid(ask.pid())};
  gathering->wishes = wishes;
  gathering->work =
      static_cast<double>(ask.work_ns()) / 1e9 * meter_.core_speed() / cluster::kReferenceSpeed;
  gathering->then = std::move(then);
  // Itself is among those that run here.
  const placement::ProcessKey key = gathering->name.key();
  std::erase_if(view.residents, [&](const auto& picture) { return picture.key == key; });
  view.local.residents = view.residents;
  if (!draining_ && view.local.runnable() + 0.5 < load_.cores) {
    gathering->then("");
    return;
  }
  gather(gathering);
}

void Placer::gather(const std::shared_ptr<Gathering>& gathering) {
  const wire::Wishes& wishes = gathering->wishes;
  placement::ProcessPicture& process = gathering->process;
  process.key = gathering->name.key();
  process.name = "a new program";
  resolve_nodes(wishes, ids(), process.wishes);
  process.wishes.cpu_bound = wishes.cpu_bound();
  process.wishes.memory_bytes = wishes.memory_bytes();

  View view;
  take_view(view);
  std::vector<placement::NodePicture> known;
  for (const auto& node : view.candidates) {
    if (cluster_.check_up(std::string(node.name))) {
      known.push_back(node);
    }
  }
  for (const auto& id : placement::exec_candidates(known, process, policy_, random_)) {
    for (const auto& node : known) {
      if (node.id == id) {
        gathering->asked[std::string(node.name)] = node;
      }
    }
  }
  const auto one_done = [this, gathering] {
    if (--gathering->missing == 0) {
      choose(gathering);
    }
  };
  gathering->missing += gathering->asked.size();
  for (auto& [name, node] : gathering->asked) {
    node.name = name;  // its own copy: the view is gone by then
    wire::ClusterMessage ask;
    ask.mutable_ask_load();
    cluster_.ask(name, std::move(ask), kLoadTimeout,
                 [gathering, one_done, picture = node](const Result<wire::ClusterMessage>& answer) {
                   if (answer && answer->has_load_now()) {
                     gathering->fresh.push_back(picture);
                     gathering->fresh.back().load = from_wire(answer->load_now().load());
                     gathering->fresh.back().age = cluster::Duration(0);
                   }
                   one_done();
                 });
  }
  one_done();
}

void Placer::choose(const std::shared_ptr<Gathering>& gathering) {
  update_book();
  View view;
  take_view(view);
  look_closely(view);
  const placement::ProcessKey key = gathering->name.key();
  std::erase_if(view.residents, [&](const auto& picture) { return picture.key == key; });
  // It is about to run here, like those that are measured already.
  view.residents.push_back(gathering->process);
  view.local.residents = view.residents;
  placement::ProgramHint hint;
  if (gathering->work > 0) {
    hint.work = gathering->work;
  }
  hint.memory_bytes = gathering->wishes.memory_bytes();
  if (gathering->wishes.cpus() > 0) {
    hint.demand = gathering->wishes.cpus();
  }
  const auto move = placement::choose_at_exec(Gossip::now(), view.local, gathering->fresh,
                                              gathering->process, hint, view.cluster_size, policy_);
  if (!move) {
    gathering->then("");
    return;
  }
  wire::ClusterMessage ask;
  to_wire(move->ask, *ask.mutable_place_ask());
  *ask.mutable_place_ask()->mutable_process() = to_wire(gathering->name);
  const std::string node = move->decision.to_name;
  cluster_.ask(node, std::move(ask), kAskTimeout,
               [this, gathering, decision = move->decision,
                node](const Result<wire::ClusterMessage>& answer) {
                 const bool granted = answer && answer->place_answer().granted();
                 if (granted) {
                   own_moved(gathering->name, decision, {});
                 }
                 gathering->then(granted ? node : "");
               });
}

}  // namespace tess::node
