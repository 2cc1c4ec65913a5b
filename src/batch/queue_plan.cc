// Queue::plan: what is to be started now.
//
// Every node is a bin: its CPUs less the threads that the load picture shows there or, where that
// is more, what our own tasks there have asked for; its free memory less what our own have been
// promised. Tasks too young to show in the picture are taken off beforehand. Then users take turns,
// the one who has the fewest CPUs first; within a user's jobs priority and then age decide. What
// does not fit lets others pass, until it has waited for `patience`: from then on the node that can
// have room first is kept free for it. A queue of which nothing runs may always start one task:
// load that is not ours must not stop it for ever.
#include <algorithm>
#include <set>

#include "batch/queue.h"

namespace tess::batch {

struct Queue::Bin {
  const NodeRoom* node = nullptr;
  double cpus_free = 0;
  double memory_free = 0;
  bool kept = false;  // for somebody who waits
};

struct Queue::Candidate {
  Job* job = nullptr;
  bool operator<(const Candidate& other) const {
    return std::pair(-job->spec.priority, job->id) <
           std::pair(-other.job->spec.priority, other.job->id);
  }
};

std::vector<Queue::Bin> Queue::bins(Time now, std::span<const NodeRoom> nodes) const {
  std::vector<Bin> bins;
  struct Ours {
    double settled = 0, young = 0, memory = 0, young_memory = 0;
  };
  std::map<std::string, Ours> ours;
  std::vector<const Job*> nowhere;  // young ones that have no place yet
  for (const auto& [id, busy] : active_) {
    const Job& job = jobs_.at(id.job);
    const TaskInfo& info = job.info.at(id.task);
    const bool young = now - info.started < policy_.settle || info.state == TaskState::kStarting;
    if (info.node.empty()) {
      nowhere.push_back(&job);
      continue;
    }
    Ours& there = ours[info.node];
    const auto memory = static_cast<double>(job.spec.memory_bytes);
    (young ? there.young : there.settled) += job.spec.cpus;
    (young ? there.young_memory : there.memory) += memory;
  }
  for (const NodeRoom& node : nodes) {
    if (!node.usable) {
      continue;
    }
    const Ours& there = ours[node.name];
    Bin bin{&node, 0, 0, false};
    bin.cpus_free = node.cpus - std::max(node.runnable, there.settled) - there.young;
    const double most = static_cast<double>(node.memory_bytes) * (1 - policy_.memory_reserve) -
                        there.memory - there.young_memory;
    const double free = static_cast<double>(node.memory_free_bytes) -
                        static_cast<double>(node.memory_bytes) * policy_.memory_reserve -
                        there.young_memory;
    bin.memory_free = std::min(most, free);
    bins.push_back(bin);
  }
  // Where they will go is not known; most likely to where there is room.
  for (const Job* job : nowhere) {
    Bin* roomiest = nullptr;
    for (Bin& bin : bins) {
      if (may_use(job->spec, bin) && (roomiest == nullptr || bin.cpus_free > roomiest->cpus_free)) {
        roomiest = &bin;
      }
    }
    if (roomiest != nullptr) {
      roomiest->cpus_free -= job->spec.cpus;
      roomiest->memory_free -= static_cast<double>(job->spec.memory_bytes);
    }
  }
  return bins;
}

bool Queue::may_use(const JobSpec& spec, const Bin& bin) {
  const NodeRoom& node = *bin.node;
  const bool here = spec.home || spec.node == "home";
  const bool named = spec.node == node.name || (!spec.node_id.empty() && spec.node_id == node.id);
  return (!here || node.home) && (here || spec.node.empty() || named) &&
         std::find(spec.avoid.begin(), spec.avoid.end(), node.name) == spec.avoid.end();
}

// The one with most room among those where it fits.
Queue::Bin* Queue::fitting(const JobSpec& spec, std::vector<Bin>& bins) const {
  Bin* best = nullptr;
  for (Bin& bin : bins) {
    // A node that is wholly idle may have any whole task of its size, whatever the picture's noise.
    const bool fits = bin.cpus_free + policy_.slack >= spec.cpus &&
                      spec.cpus <= bin.node->cpus + policy_.slack &&
                      bin.memory_free >= static_cast<double>(spec.memory_bytes);
    if (!bin.kept && fits && may_use(spec, bin) &&
        (best == nullptr || bin.cpus_free > best->cpus_free)) {
      best = &bin;
    }
  }
  return best;
}

// What there is too little of, in words.
std::string Queue::lack(const JobSpec& spec, const std::vector<Bin>& bins) {
  double cpus = 0;
  double memory = 0;
  double most_cpus = 0;
  double most_memory = 0;
  bool any = false;
  for (const Bin& bin : bins) {
    if (may_use(spec, bin)) {
      any = true;
      cpus = std::max(cpus, bin.cpus_free);
      memory = std::max(memory, bin.memory_free);
      most_cpus = std::max(most_cpus, bin.node->cpus);
      most_memory = std::max(most_memory, static_cast<double>(bin.node->memory_bytes));
    }
  }
  const double wanted = static_cast<double>(spec.memory_bytes) / (1 << 20);
  if (!any) {
    return "no node that it may use is there";
  }
  if (spec.cpus > most_cpus + 0.5) {
    return fmt::format("it needs {:g} CPUs on one node; the largest has {:g}", spec.cpus,
                       most_cpus);
  }
  if (static_cast<double>(spec.memory_bytes) > most_memory) {
    return fmt::format("it needs {:.0f} MiB on one node; the largest has {:.0f}", wanted,
                       most_memory / (1 << 20));
  }
  if (static_cast<double>(spec.memory_bytes) > memory) {
    return fmt::format("it needs {:.0f} MiB; the most that is free on a node is {:.0f}", wanted,
                       std::max(0.0, memory) / (1 << 20));
  }
  return fmt::format("it needs {:g} CPUs; the most that are free on a node are {:.1f}", spec.cpus,
                     std::max(0.0, cpus));
}

// Why none of a job may start now, whatever room there is.
std::optional<std::string> Queue::blocked(const Job& job, Time now, bool& never) const {
  if (job.held) {
    return "it is held";
  }
  for (const After& after : job.spec.after) {
    const Job* other = find(after.job);
    if (other == nullptr) {
      continue;  // long ago
    }
    if (!other->over()) {
      return fmt::format("job {} is not over", after.job);
    }
    if (!after.any && other->counts.done != other->counts.all()) {
      never = true;
      return fmt::format("job {} did not end well", after.job);
    }
  }
  if (job.at_most != 0 && job.counts.running >= job.at_most) {
    return fmt::format("at most {} of its tasks run at once", job.at_most);
  }
  if (job.next < job.tasks.size()) {
    return std::nullopt;
  }
  Time soonest = Time::max();
  for (const uint32_t task : job.again) {
    const auto found = job.not_before.find(task);
    soonest = std::min(soonest, found == job.not_before.end() ? Time(0) : found->second);
  }
  if (soonest > now) {
    const std::string& why = job.info.at(job.again.front()).outcome;
    return why.empty() ? "it is to be tried again" : why;
  }
  return std::nullopt;
}

// The next of a job's tasks that is not among `taken`; says in the job why there is none.
std::optional<uint32_t> Queue::next_task(Job& job, const std::set<uint32_t>& taken, Time now) {
  if (job.at_most != 0 && job.counts.running + taken.size() >= job.at_most) {
    job.waits_for = fmt::format("at most {} of its tasks run at once", job.at_most);
    return std::nullopt;
  }
  for (const uint32_t task : job.again) {
    const auto found = job.not_before.find(task);
    if (!taken.contains(task) && (found == job.not_before.end() || found->second <= now)) {
      return task;
    }
  }
  for (size_t at = job.next; at < job.tasks.size(); ++at) {
    if (!taken.contains(job.tasks[at]) && !job.info.contains(job.tasks[at])) {
      return job.tasks[at];
    }
  }
  return std::nullopt;
}

// The roomiest of the nodes that could ever have it: with that memory free now, or in all.
Queue::Bin* Queue::possible(const JobSpec& spec, std::vector<Bin>& bins, bool memory_now) const {
  Bin* best = nullptr;
  for (Bin& bin : bins) {
    const double memory =
        memory_now ? bin.memory_free : static_cast<double>(bin.node->memory_bytes);
    if (may_use(spec, bin) && spec.cpus <= bin.node->cpus + policy_.slack &&
        static_cast<double>(spec.memory_bytes) <= memory &&
        (best == nullptr || bin.cpus_free > best->cpus_free)) {
      best = &bin;
    }
  }
  return best;
}

// Who may start something now, by user, best first.
std::map<uid_t, std::set<Queue::Candidate>> Queue::candidates(Time now, Plan& plan) {
  std::map<uid_t, std::set<Candidate>> waiting;
  for (auto& [id, job] : jobs_) {
    if (job.counts.queued == 0) {
      continue;
    }
    bool never = false;
    const auto why = blocked(job, now, never);
    job.waits_for = why.value_or("");
    if (never) {
      plan.give_up.emplace_back(id, *why);
    } else if (!why) {
      waiting[job.spec.uid].insert({&job});
    }
  }
  return waiting;
}

Plan Queue::plan(Time now, std::span<const NodeRoom> nodes) {
  Plan plan;
  std::vector<Bin> room = bins(now, nodes);
  auto waiting = candidates(now, plan);
  std::map<uid_t, double> used;
  size_t starting = 0;
  for (const auto& [id, busy] : active_) {
    const Job& job = jobs_.at(id.job);
    used[job.spec.uid] += job.spec.cpus;
    starting += job.info.at(id.task).state == TaskState::kStarting ? 1 : 0;
  }
  std::map<uint64_t, std::set<uint32_t>> taken;
  bool reserved = false;
  while (!waiting.empty() && starting + plan.start.size() < policy_.starting_at_once) {
    const auto user = std::min_element(
        waiting.begin(), waiting.end(),
        [&](const auto& a, const auto& b) { return used[a.first] < used[b.first]; });
    Job& job = *user->second.begin()->job;
    const auto task = next_task(job, taken[job.id], now);
    Bin* bin = task ? fitting(job.spec, room) : nullptr;
    if (task && bin == nullptr && active_.empty() && plan.start.empty()) {
      bin = possible(job.spec, room, true);
    }
    if (bin == nullptr) {
      if (task) {
        job.waits_for = lack(job.spec, room);
        Bin* keep = !reserved && now - job.submitted >= policy_.patience
                        ? possible(job.spec, room, false)
                        : nullptr;
        if (keep != nullptr) {
          keep->kept = true;
          reserved = true;
        }
      }
      user->second.erase(user->second.begin());
      if (user->second.empty()) {
        waiting.erase(user);
      }
      continue;
    }
    bin->cpus_free -= job.spec.cpus;
    bin->memory_free -= static_cast<double>(job.spec.memory_bytes);
    used[job.spec.uid] += job.spec.cpus;
    taken[job.id].insert(*task);
    plan.start.push_back({job.id, *task});
  }
  return plan;
}

}  // namespace tess::batch
