#include "sim/placement/world.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace tess::sim {
namespace {
constexpr double kTick = 1.0;
constexpr size_t kRecords = 12;  // published records that are kept: older ones nobody sees any more
constexpr int kCheckpointTicks = 10;
constexpr double kSmoothing = 0.5;
}  // namespace

World::World(const Scenario& scenario, const Options& options)
    : scenario_(scenario), options_(options), random_(options.seed) {
  for (size_t i = 0; i < scenario_.nodes.size(); ++i) {
    machines_.push_back(
        std::make_unique<Machine>(static_cast<int>(i), scenario_.nodes[i], options_));
    fastest_ = i == 0 ? scenario_.nodes[i].speed : std::max(fastest_, scenario_.nodes[i].speed);
  }
  jobs_.resize(scenario_.jobs.size());
  for (size_t i = 0; i < jobs_.size(); ++i) {
    jobs_[i].spec = &scenario_.jobs[i];
    jobs_[i].id = static_cast<int>(i);
  }
  open_ = jobs_.size();
  // Rounds of gossip grow with the logarithm of the cluster.
  mean_age_ = 0.4 + 0.25 * std::log(static_cast<double>(machines_.size()) + 1);
}

void World::push(double at, Kind kind, int who, uint64_t detail) {
  queue_.push({at, pushed_++, kind, who, detail});
}

Figures World::run() {
  for (auto& node : machines_) {
    node->published.push_back({0, node->measure()});
    push(random_.unit() * kTick, Kind::kTick, node->index());
  }
  for (const Job& job : jobs_) {
    push(job.spec->release, Kind::kRelease, job.id);
  }
  for (size_t i = 0; i < scenario_.events.size(); ++i) {
    push(scenario_.events[i].at, Kind::kHappens, static_cast<int>(i));
  }
  push(0.05, Kind::kGauge, 0);
  while (open_ > 0 && !queue_.empty() && queue_.top().at <= options_.horizon) {
    const Entry entry = queue_.top();
    queue_.pop();
    now_ = entry.at;
    handle(entry);
  }
  finish_figures();
  return figures_;
}

void World::handle(const Entry& entry) {
  switch (entry.kind) {
    case Kind::kRelease:
      release(jobs_[static_cast<size_t>(entry.who)]);
      break;
    case Kind::kComplete:
      if (machine(entry.who).alive && machine(entry.who).version == entry.detail) {
        complete(machine(entry.who));
      }
      break;
    case Kind::kTick:
      tick(machine(entry.who));
      break;
    case Kind::kGauge:
      gauge();
      break;
    case Kind::kHappens:
      happen(scenario_.events[static_cast<size_t>(entry.who)]);
      break;
    case Kind::kKnownDead:
      machine(entry.who).known_dead = true;
      break;
    case Kind::kQuestion:
      question(entry.detail);
      break;
    case Kind::kAnswer:
      answer(entry.detail);
      break;
    case Kind::kTransfer:
      begin_transfer(jobs_[static_cast<size_t>(entry.who)], entry.detail);
      break;
    case Kind::kArrival:
      arrive(jobs_[static_cast<size_t>(entry.who)], entry.detail);
      break;
  }
}

void World::schedule_completion(Machine& node) {
  if (const auto at = node.next_completion()) {
    push(std::max(*at, now_), Kind::kComplete, node.index(), node.version);
  }
}

void World::complete(Machine& node) {
  constexpr double kNothing = 1e-9;
  node.settle(now_);
  std::vector<Job*> done;
  for (Job* job : node.residents()) {
    if (job->left_to_do() <= kNothing) {
      done.push_back(job);
    }
  }
  for (Job* job : done) {
    node.remove(job, now_);
    job->state = Job::State::kDone;
    job->finished = now_;
    --open_;
  }
  ++node.version;
  schedule_completion(node);
}

// What tessd would have measured: every number a little off.
void World::look(Machine& node, LocalView& view) {
  node.settle(now_);
  view.residents.clear();
  for (Job* job : node.residents()) {
    placement::ProcessPicture p;
    p.key = {node_id(job->spec->home), job->id};
    p.name = "job";
    p.demand = job->demand * (1 + options_.measure_noise * (2 * random_.unit() - 1));
    p.memory_bytes = static_cast<uint64_t>(job->memory_now());
    p.memory_growth = job->memory_growth(node.rate_of(*job));
    p.cpu_used = job->done;
    p.wanted = job->wanted;
    p.home_calls = job->spec->calls;
    p.priority = job->spec->priority;
    p.here_for = placement::from_seconds(now_ - job->arrived);
    p.moves = job->moves;
    for (auto it = job->left.rbegin(); it != job->left.rend() && p.recently_left.size() < 4; ++it) {
      p.recently_left.push_back({node_id(it->first), placement::from_seconds(now_ - it->second)});
    }
    p.wishes.stay = job->spec->stay;
    for (const int on : job->spec->on) {
      p.wishes.on.push_back(node_id(on));
    }
    view.residents.push_back(std::move(p));
  }
  view.local.node.id = node.id();
  view.local.node.name = node.name();
  view.local.node.load = node.measure();
  view.local.unmanaged_runnable = node.owner_demand;
  view.local.memory_growth = node.memory_growth();
  view.local.residents = view.residents;
}

// Another node as gossip shows it: its newest record that is at least as old as a message takes to
// get around.
placement::NodePicture World::seen(int index, double mean_age) {
  Machine& node = machine(index);
  const double age = mean_age * (0.5 + random_.unit());
  const Machine::Snapshot* best = &node.published.front();
  for (const Machine::Snapshot& snapshot : node.published) {
    if (snapshot.at <= now_ - age) {
      best = &snapshot;
    }
  }
  placement::NodePicture picture;
  picture.id = node.id();
  picture.name = node.name();
  picture.alive = !node.known_dead;
  picture.load = best->load;
  picture.age = placement::from_seconds(std::max(0.0, now_ - best->at));
  picture.round_trip = placement::from_seconds(options_.round_trip);
  return picture;
}

// As sample_candidates does, without building a whole view for each of ten thousand nodes.
std::vector<placement::NodePicture> World::candidates(Machine& node, const LocalView* view) {
  std::vector<int> chosen;
  const auto add = [&](int index) {
    if (index != node.index() && std::find(chosen.begin(), chosen.end(), index) == chosen.end()) {
      chosen.push_back(index);
    }
  };
  if (machines_.size() <= options_.candidates + 1) {
    for (size_t i = 0; i < machines_.size(); ++i) {
      add(static_cast<int>(i));
    }
  } else {
    for (size_t i = 0; view != nullptr && i < view->residents.size(); ++i) {
      add(node_index(view->residents[i].key.home));
    }
    for (size_t i = 0; i < options_.candidates / 2 && !favourites_.empty(); ++i) {
      add(favourites_[random_.below(favourites_.size())]);
    }
    while (chosen.size() < options_.candidates) {
      add(static_cast<int>(random_.below(machines_.size())));
    }
  }
  std::vector<placement::NodePicture> pictures;
  pictures.reserve(chosen.size());
  for (const int index : chosen) {
    pictures.push_back(seen(index, mean_age_));
  }
  return pictures;
}

// The least loaded nodes as everybody knows them by now; equals in random order.
void World::find_favourites() {
  if (machines_.size() <= options_.candidates + 1) {
    return;
  }
  std::vector<std::pair<double, int>> order;
  order.reserve(machines_.size());
  for (const auto& node : machines_) {
    if (node->known_dead || node->draining || node->owner_active) {
      continue;
    }
    const placement::NodePicture picture = seen(node->index(), mean_age_);
    const placement::Place place = placement::place_of(picture.load, options_.policy, true);
    order.emplace_back(placement::slowness(place, place.runnable + 1) + 1e-6 * random_.unit(),
                       node->index());
  }
  std::sort(order.begin(), order.end());
  favourites_.clear();
  for (const auto& [slow, index] : order) {
    // Each node breaks ties for itself, so all that are as good as the best are somebody's
    // favourites.
    if (favourites_.size() >= options_.candidates && slow > order.front().first * 1.001) {
      break;
    }
    favourites_.push_back(index);
  }
}

void World::release(Job& job) {
  const Strategy strategy = options_.strategy;
  const bool moves = strategy == Strategy::kTessera || strategy == Strategy::kTesseraMoves;
  if (moves || job.spec->adopted || strategy == Strategy::kStayHome) {
    if (!machine(job.spec->home).alive) {
      job.state = Job::State::kLost;
      --open_;
      return;
    }
    land(job, job.spec->home);
    if (strategy == Strategy::kTessera && !job.spec->adopted) {
      place_at_exec(job);
    }
    return;
  }
  land(job, choose_at_start(job));
}

int World::choose_at_start(const Job& job) {
  const auto slow_with = [this](int index) {
    Machine& node = machine(index);
    node.settle(now_);
    const placement::Place place = placement::place_of(node.measure(), options_.policy, false);
    return placement::slowness(place, node.demand() + 1);
  };
  const auto count = machines_.size();
  int best = job.spec->home;
  if (options_.strategy == Strategy::kRoundRobin) {
    do {
      best = static_cast<int>(next_by_turns_++ % count);
    } while (!machine(best).alive);
  } else if (options_.strategy == Strategy::kPowerOfTwo) {
    const int one = static_cast<int>(random_.below(count));
    const int two = static_cast<int>(random_.below(count));
    best = slow_with(two) < slow_with(one) ? two : one;
    best = machine(best).alive ? best : job.spec->home;
  } else {
    double least = 0;
    best = -1;
    for (size_t i = 0; i < count; ++i) {
      const int index = static_cast<int>(i);
      const double slow = slow_with(index);
      if (machine(index).alive && (best < 0 || slow < least)) {
        best = index;
        least = slow;
      }
    }
  }
  return best;
}

void World::place_at_exec(Job& job) {
  Machine& home = machine(job.spec->home);
  LocalView view;
  look(home, view);
  const auto it = std::find_if(view.residents.begin(), view.residents.end(),
                               [&job](const auto& p) { return p.key.pid == job.id; });
  TESS_CHECK(it != view.residents.end(), "job {} is not at home", job.id);
  const placement::ProcessPicture process = *it;
  const auto known = candidates(home, nullptr);
  std::vector<placement::NodePicture> fresh;
  for (const placement::NodeId& id :
       placement::exec_candidates(known, process, options_.policy, random_)) {
    Machine& node = machine(node_index(id));
    if (!node.alive) {
      continue;
    }
    LocalView other;
    look(node, other);
    placement::NodePicture picture = other.local.node;
    picture.load = node.admission.record(time(), other.local);
    picture.round_trip = placement::from_seconds(options_.round_trip);
    fresh.push_back(picture);
  }
  placement::ProgramHint hint;
  hint.memory_bytes = static_cast<uint64_t>(job.spec->memory);
  const auto move = placement::choose_at_exec(time(), view.local, fresh, process, hint,
                                              machines_.size(), options_.policy);
  if (!move) {
    return;
  }
  Machine& target = machine(node_index(move->decision.to));
  LocalView other;
  look(target, other);
  ++figures_.asks;
  const placement::Answer answer = target.admission.ask(time(), move->ask, other.local);
  if (!answer.granted) {
    ++figures_.refusals;
    return;
  }
  Message message;
  message.move = *move;
  travelling_[job.id] = message;
  home.remove(&job, now_);
  schedule_completion(home);
  job.state = Job::State::kTravels;
  job.left_at = now_;
  job.to = target.index();
  ++job.transfer;
  push(now_ + placement::seconds(options_.policy.exec_price), Kind::kArrival, job.id, job.transfer);
}

void World::tick(Machine& node) {
  if (!node.alive) {
    return;
  }
  push(now_ + kTick, Kind::kTick, node.index());
  node.settle(now_);
  node.rounds_again = 0;
  const bool saves =
      static_cast<int>(now_ / kTick) % kCheckpointTicks == node.index() % kCheckpointTicks;
  for (Job* job : node.residents()) {
    const double demand = node.slow() * node.rate_of(*job);
    job->demand += kSmoothing * (demand - job->demand);
    if (saves) {
      job->saved = job->done;
    }
  }
  ++node.version;  // memory may have changed what is going on
  schedule_completion(node);
  decide(node);
}

void World::decide(Machine& node) {
  LocalView view;
  look(node, view);
  node.published.push_back({now_, node.admission.record(time(), view.local)});
  if (node.published.size() > kRecords) {
    node.published.pop_front();
  }
  const bool moves =
      options_.strategy == Strategy::kTessera || options_.strategy == Strategy::kTesseraMoves;
  if (!moves || view.residents.empty()) {
    return;
  }
  const auto known = candidates(node, &view);
  placement::Round round;
  round.now = time();
  round.local = view.local;
  round.candidates = known;
  round.cluster_size = machines_.size();
  if (on_round) {
    on_round(node.balancer, round);
  }
  const double start = stopwatch ? stopwatch() : 0;
  const auto plan = node.balancer.decide(round);
  figures_.decide_seconds += stopwatch ? stopwatch() - start : 0;
  ++figures_.decisions;
  for (const placement::PlannedMove& move : plan) {
    send(move);
  }
}

void World::send(const placement::PlannedMove& move) {
  const uint64_t number = message_count_++;
  messages_[number].move = move;
  push(now_ + options_.message, Kind::kQuestion, 0, number);
}

void World::finish_figures() {
  Figures& f = figures_;
  f.jobs = jobs_.size();
  f.least = least_makespan(scenario_);
  f.fair = fair_makespan(scenario_);
  double sum = 0;
  double work = 0;
  for (const Job& job : jobs_) {
    work += job.done;
    f.most_moves = std::max(f.most_moves, job.moves_all);
    if (job.state == Job::State::kLost) {
      ++f.lost;
    }
    if (job.state != Job::State::kDone) {
      continue;
    }
    ++f.finished;
    f.makespan = std::max(f.makespan, job.finished);
    const double slowdown = (job.finished - job.spec->release) / (job.spec->work / fastest_);
    sum += slowdown;
    f.max_slowdown = std::max(f.max_slowdown, slowdown);
  }
  f.mean_slowdown = f.finished == 0 ? 0 : sum / static_cast<double>(f.finished);
  f.wasted = work <= 0 ? 0 : f.wasted / work;
  for (const auto& node : machines_) {
    f.swap_seconds += node->swap_seconds();
  }
  for (const Leaving& wait : leaving_) {
    double& longest = wait.drain ? f.longest_drain : f.longest_owner_wait;
    longest = std::max(longest, now_ - wait.since);
  }
}

}  // namespace tess::sim
