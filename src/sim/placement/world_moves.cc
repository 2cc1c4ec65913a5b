// The world's moves: from question to arrival, and what deaths, owners and drains do to them.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "sim/placement/world.h"

namespace tess::sim {
namespace {
constexpr double kGauge = 0.25;
constexpr double kPingPong = 30;
constexpr double kAnswerTimeout = 1.0;
constexpr int kRoundsAgain = 4;  // after refusals, between two ticks

bool is_for_balance(placement::Cause cause) {
  return cause == placement::Cause::kBalance || cause == placement::Cause::kTurn ||
         cause == placement::Cause::kMemory;
}
}  // namespace

void World::question(uint64_t number) {
  Message& message = messages_.at(number);
  Machine& target = machine(node_index(message.move.decision.to));
  ++figures_.asks;
  if (!target.alive) {
    push(now_ + kAnswerTimeout, Kind::kAnswer, 0, number);
    return;
  }
  LocalView view;
  look(target, view);
  message.answer = target.admission.ask(time(), message.move.ask, view.local);
  message.answered = true;
  push(now_ + options_.message, Kind::kAnswer, 0, number);
}

void World::answer(uint64_t number) {
  const Message message = messages_.at(number);
  messages_.erase(number);
  const placement::Decision& decision = message.move.decision;
  Machine& source = machine(node_index(decision.from));
  Machine& target = machine(node_index(decision.to));
  Job& job = job_of(decision.process);
  const bool still_here =
      source.alive && job.state == Job::State::kRuns && job.node == source.index() && !job.planned;
  if (!message.answered || !still_here) {
    source.balancer.ended(
        time(), decision.process,
        message.answered ? placement::MoveEnd::kVoid : placement::MoveEnd::kFailed);
    target.admission.called_off(decision.process);
    return;
  }
  source.balancer.answered(time(), decision.process, decision.to, message.answer);
  if (!message.answer.granted) {
    ++figures_.refusals;
    if (source.rounds_again++ < kRoundsAgain) {
      decide(source);
    }
    return;
  }
  if (on_move) {
    on_move(now_, decision);
  }
  // One transfer at a time over each link. What must leave stops at once and waits for the link
  // without running.
  const double link_start = std::max({now_, source.link_up_free, target.link_down_free});
  const double bandwidth = std::min(source.spec().bandwidth, target.spec().bandwidth);
  const double end = link_start + job.memory_now() / bandwidth;
  source.link_up_free = end;
  target.link_down_free = end;
  const double start = decision.urgent ? now_ : link_start;
  job.planned = true;
  job.to = target.index();
  ++job.transfer;
  Message& travel = travelling_[job.id] = message;
  travel.link_free = end;
  push(start, Kind::kTransfer, job.id, job.transfer);
}

void World::begin_transfer(Job& job, uint64_t number) {
  if (job.transfer != number) {
    return;
  }
  const auto it = travelling_.find(job.id);
  TESS_CHECK(it != travelling_.end(), "job {} has no transfer", job.id);
  const placement::Decision& decision = it->second.move.decision;
  Machine& source = machine(node_index(decision.from));
  Machine& target = machine(job.to);
  job.planned = false;
  const bool still_here =
      source.alive && job.state == Job::State::kRuns && job.node == source.index();
  if (!still_here || !target.alive) {
    source.balancer.ended(time(), decision.process,
                          still_here ? placement::MoveEnd::kFailed : placement::MoveEnd::kVoid);
    target.admission.called_off(decision.process);
    travelling_.erase(it);
    return;
  }
  source.remove(&job, now_);
  const double memory = job.memory_now();
  source.memory_promised_in += memory;
  target.memory_promised_in += memory;
  schedule_completion(source);
  job.state = Job::State::kTravels;
  job.left_at = now_;
  const double bandwidth = std::min(source.spec().bandwidth, target.spec().bandwidth);
  const double sent = std::max(it->second.link_free, now_ + memory / bandwidth);
  push(sent + placement::seconds(options_.policy.move_fixed), Kind::kArrival, job.id, number);
}

// While it travels its memory is taken on both nodes.
void World::free_travel_memory(const Job& job) {
  const auto it = travelling_.find(job.id);
  if (it == travelling_.end() || job.state != Job::State::kTravels ||
      it->second.move.decision.cause == placement::Cause::kExec) {
    return;
  }
  for (const placement::NodeId& id : {it->second.move.decision.from, it->second.move.decision.to}) {
    Machine& node = machine(node_index(id));
    node.memory_promised_in = std::max(0.0, node.memory_promised_in - job.memory_now());
  }
}

void World::arrive(Job& job, uint64_t number) {
  if (job.transfer != number || job.state != Job::State::kTravels) {
    return;
  }
  const auto it = travelling_.find(job.id);
  if (it == travelling_.end()) {
    // Restarted from its checkpoint, at home.
    if (machine(job.to).alive) {
      land(job, job.to);
    } else {
      job.state = Job::State::kLost;
      --open_;
    }
    return;
  }
  const placement::Decision decision = it->second.move.decision;
  free_travel_memory(job);
  travelling_.erase(it);
  Machine& source = machine(node_index(decision.from));
  Machine& target = machine(node_index(decision.to));
  job.wanted += now_ - job.left_at;
  target.admission.arrived(decision.process);
  if (!source.alive && decision.cause != placement::Cause::kExec) {
    recover(job);
    return;
  }
  if (!target.alive) {
    source.balancer.ended(time(), decision.process, placement::MoveEnd::kFailed);
    land(job, source.index());
    return;
  }
  source.balancer.ended(time(), decision.process, placement::MoveEnd::kMoved);
  note_move(job, decision.cause);
  land(job, target.index());
  if (target.owner_active || target.draining) {
    decide(target);  // it was on its way when that began
  }
}

void World::note_move(Job& job, placement::Cause cause) {
  ++figures_.moves[static_cast<size_t>(cause)];
  if (cause == placement::Cause::kExec) {
    return;
  }
  ++figures_.moves_of_running;
  ++job.moves_all;
  figures_.last_move = now_;
  if (!is_for_balance(cause)) {
    return;
  }
  ++job.moves;
  for (const auto& [node, when] : job.left) {
    if (node == job.to && now_ - when < kPingPong) {
      ++figures_.ping_pongs;
    }
  }
  job.left.emplace_back(job.node, now_);
}

void World::land(Job& job, int node) {
  job.state = Job::State::kRuns;
  job.node = node;
  job.to = -1;
  job.planned = false;
  job.arrived = now_;
  machine(node).add(&job, now_);
  schedule_completion(machine(node));
}

// Its host died: it goes on at home from its checkpoint, once the death is known.
void World::recover(Job& job) {
  travelling_.erase(job.id);
  job.planned = false;
  ++job.transfer;
  if (!machine(job.spec->home).alive) {
    job.state = Job::State::kLost;
    --open_;
    return;
  }
  job.done = job.saved;
  job.state = Job::State::kTravels;
  job.to = job.spec->home;
  push(now_ + options_.detect_death, Kind::kArrival, job.id, job.transfer);
}

void World::die(Machine& node) {
  node.settle(now_);
  node.alive = false;
  push(now_ + options_.detect_death, Kind::kKnownDead, node.index());
  const std::vector<Job*> residents = node.residents();
  for (Job* job : residents) {
    node.remove(job, now_);
    recover(*job);
  }
  // Deputies die with their home, and bodies with their deputies.
  for (Job& job : jobs_) {
    const bool runs = job.state == Job::State::kRuns;
    if (job.spec->home == node.index() && (runs || job.state == Job::State::kTravels)) {
      if (runs) {
        machine(job.node).remove(&job, now_);
        schedule_completion(machine(job.node));
      }
      free_travel_memory(job);
      travelling_.erase(job.id);
      ++job.transfer;
      job.state = Job::State::kLost;
      --open_;
    }
  }
}

void World::happen(const Event& event) {
  Machine& node = machine(event.node);
  node.settle(now_);
  switch (event.what) {
    case Happening::kOwnerReturns:
      node.owner_active = true;
      node.owner_demand = event.demand;
      leaving_.push_back({event.node, now_, false, false});
      break;
    case Happening::kOwnerLeaves:
      node.owner_active = false;
      node.owner_demand = 0;
      break;
    case Happening::kDrain:
      node.draining = true;
      leaving_.push_back({event.node, now_, true, false});
      break;
    case Happening::kDeath:
      die(node);
      return;
  }
  ++node.version;
  schedule_completion(node);
  // tessd sees these at once; everything else waits for its next round.
  decide(node);
}

void World::gauge() {
  push(now_ + kGauge, Kind::kGauge, 0);
  double idle = 0;
  double waiting = 0;
  double memory_room = 0;
  double most = 0;
  double least_next = 1e9;
  size_t running = 0;
  size_t swapping = 0;
  for (const auto& node : machines_) {
    if (!node->alive) {
      continue;
    }
    const double jobs = static_cast<double>(node->residents().size());
    const double cores = node->spec().cores;
    running += node->residents().size();
    if (!node->draining && !node->owner_active) {
      idle += std::max(0.0, cores - jobs);
      least_next = std::min(least_next, (jobs + 1) / cores / node->spec().speed);
    }
    waiting += std::max(0.0, jobs - cores);
    most = std::max(most, jobs / cores / node->spec().speed);
    memory_room += node->spec().memory * 0.9 - node->memory_used();
    swapping += node->swaps() ? 1 : 0;
  }
  const double dt = now_ - gauged_;
  gauged_ = now_;
  figures_.wasted += std::min(idle, waiting) * dt;
  if (swapping > 0 && memory_room > 0) {
    figures_.room_seconds += dt * static_cast<double>(swapping);
  }
  const double in_vain = std::min(idle, waiting);
  most_in_vain_ = std::max(most_in_vain_, in_vain);
  const auto note = [&](double& when, double share) {
    if (running > 0 && when < 0 && in_vain <= share * most_in_vain_) {
      when = now_;
    }
  };
  note(figures_.balanced_90, 0.1);
  note(figures_.balanced_99, 0.01);
  note(figures_.balanced_at, 0);
  if (running > 0 && most <= least_next * 1.001 && figures_.even_at < 0) {
    figures_.even_at = now_;
  }
  const double mean = static_cast<double>(running) / static_cast<double>(machines_.size());
  for (const auto& node : machines_) {
    const bool took_in = std::any_of(node->residents().begin(), node->residents().end(),
                                     [&](const Job* job) { return job->moves > 0; });
    if (took_in) {
      figures_.most_above_mean =
          std::max(figures_.most_above_mean, static_cast<double>(node->residents().size()) - mean);
    }
  }
  gauge_leaving();
  find_favourites();
  check_conservation();
}

void World::gauge_leaving() {
  std::erase_if(leaving_, [this](Leaving& wait) {
    const auto& residents = machine(wait.node).residents();
    const bool stopped = std::none_of(residents.begin(), residents.end(),
                                      [&](const Job* job) { return job->spec->home != wait.node; });
    if (stopped && !wait.stopped) {
      wait.stopped = true;
      figures_.owner_freeze = std::max(figures_.owner_freeze, wait.drain ? 0 : now_ - wait.since);
    }
    const bool sent = std::none_of(travelling_.begin(), travelling_.end(), [&](const auto& entry) {
      return node_index(entry.second.move.decision.from) == wait.node;
    });
    if (!stopped || !sent) {
      return false;
    }
    double& longest = wait.drain ? figures_.longest_drain : figures_.longest_owner_wait;
    longest = std::max(longest, now_ - wait.since);
    return true;
  });
}

void World::check_conservation() {
  std::vector<int> places(jobs_.size(), 0);
  for (const auto& node : machines_) {
    for (const Job* job : node->residents()) {
      ++places[static_cast<size_t>(job->id)];
      if (job->state != Job::State::kRuns || job->node != node->index() || !node->alive) {
        figures_.conserved = false;
        figures_.broken = "job " + std::to_string(job->id) + " runs where it is not";
      }
    }
  }
  for (const Job& job : jobs_) {
    const int expected = job.state == Job::State::kRuns ? 1 : 0;
    if (places[static_cast<size_t>(job.id)] != expected) {
      figures_.conserved = false;
      figures_.broken = "job " + std::to_string(job.id) + " is in " +
                        std::to_string(places[static_cast<size_t>(job.id)]) + " places";
    }
  }
}

}  // namespace tess::sim
