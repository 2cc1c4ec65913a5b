#include "sim/scenario.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace tess::sim {
namespace {

using cluster::Count;
using cluster::EventKind;

constexpr double kUdpHeaders = 28;  // IPv4 and UDP
constexpr SimTime kSettle = 5 * kSecond;
constexpr SimTime kPatience = 120 * kSecond;

double seconds(SimTime t) {
  return static_cast<double>(t) / 1e6;
}

struct Spread {
  std::vector<double> values;
  void add(double v) { values.push_back(v); }
  double at(double share) {
    if (values.empty()) {
      return -1;
    }
    std::sort(values.begin(), values.end());
    return values[std::min(values.size() - 1,
                           static_cast<size_t>(share * static_cast<double>(values.size())))];
  }
  double mean() const {
    double sum = 0;
    for (const double v : values) {
      sum += v;
    }
    return values.empty() ? -1 : sum / static_cast<double>(values.size());
  }
};

// One run: a world, what it did, and what it should have done.
class Run {
 public:
  explicit Run(const ScenarioOptions& options, bool warm = true)
      : options_(options), world_(world_options(options, warm)), random_(options.seed ^ 0x5eed) {
    world_.set_observer([this](World::NodeIndex observer, const cluster::Event& event) {
      on_event(observer, event);
    });
  }

  static WorldOptions world_options(const ScenarioOptions& options, bool warm) {
    WorldOptions out;
    out.nodes = options.nodes;
    out.seed = options.seed;
    out.loss = options.loss;
    out.latency = options.latency;
    out.jitter = options.latency + 50;
    out.warm = warm;
    out.load_changes = options.load_changes;
    out.check_resurrection = options.nodes <= 300;
    out.config.knock = options.knock;
    if (options.nodes > 2000) {
      out.config.loads_kept = 512;  // for the simulator's memory
    }
    return out;
  }

  World& world() { return world_; }
  ScenarioResult& result() { return result_; }
  cluster::Random& random() { return random_; }

  void figure(const std::string& name, double value) { result_.figures.emplace_back(name, value); }
  void expect(bool held, const std::string& promise) {
    if (!held) {
      result_.broken.push_back(promise);
    }
  }

  World::NodeIndex random_up() {
    while (true) {
      const auto node = random_.below(world_.size());
      if (world_.up(node)) {
        return node;
      }
    }
  }

  // Counts who reports `kind` about `subject` from now on.
  void watch(World::NodeIndex subject, std::vector<EventKind> kinds) {
    watched_ = subject;
    kinds_ = std::move(kinds);
    seen_.clear();
    watch_began_ = world_.now();
    first_ = 0;
  }
  size_t seen() const { return seen_.size(); }
  SimTime first() const { return first_; }

  // Bytes and packets per node and second, between this call and the next one.
  void meter_begin() {
    meter_began_ = world_.now();
    meter_.clear();
    for (World::NodeIndex i = 0; i < world_.size(); ++i) {
      meter_[i] = traffic(i);
    }
  }
  void meter_end(const std::string& prefix) {
    Spread bytes;
    Spread with_headers;
    Spread packets;
    const double span = seconds(world_.now() - meter_began_);
    for (const auto& [node, before] : meter_) {
      if (!world_.up(node)) {
        continue;
      }
      const auto after = traffic(node);
      if (after.first < before.first) {
        continue;  // restarted
      }
      const double b = (after.first - before.first) / span;
      const double p = (after.second - before.second) / span;
      bytes.add(b);
      packets.add(p);
      with_headers.add(b + p * kUdpHeaders);
    }
    figure(prefix + "bytes_per_node_s", bytes.mean());
    figure(prefix + "bytes_per_node_s_with_headers", with_headers.mean());
    figure(prefix + "bytes_per_node_s_with_headers_max", with_headers.at(1));
    figure(prefix + "packets_per_node_s", packets.mean());
  }

  void findings() {
    const auto& f = world_.findings();
    figure("false_deaths", static_cast<double>(f.false_deaths));
    figure("false_death_reports", static_cast<double>(f.false_death_reports));
    expect(f.false_deaths == 0, fmt::format("{} live nodes were called dead", f.false_deaths));
    expect(f.resurrections == 0,
           fmt::format("{} nodes came back under the incarnation that had died", f.resurrections));
    for (const std::string& line : f.log) {
      if (!result_.broken.empty()) {
        result_.broken.push_back("  " + line);
      }
    }
    double suspicions = 0;
    double refutations = 0;
    std::array<double, cluster::kKindEnd> sent{};
    for (World::NodeIndex i = 0; i < world_.size(); ++i) {
      if (world_.up(i)) {
        suspicions += static_cast<double>(world_.member(i).count(Count::kSuspicions));
        for (size_t kind = 0; kind < sent.size(); ++kind) {
          sent[kind] +=
              static_cast<double>(world_.member(i).sent(static_cast<cluster::Kind>(kind)));
        }
        refutations += static_cast<double>(world_.member(i).count(Count::kRefutations));
      }
    }
    figure("suspicions", suspicions);
    figure("refutations", refutations);
    for (size_t kind = 1; kind < sent.size(); ++kind) {
      figure(fmt::format("{}_per_node_s", to_text(static_cast<cluster::Kind>(kind))),
             sent[kind] / world_.up_count() / seconds(world_.now()));
    }
    figure("simulated_s", seconds(world_.now()));
  }

  // Ages of load information as 50 nodes hold it.
  void load_ages() {
    Spread all;
    Spread newest;
    Spread known;
    Spread error;
    for (int i = 0; i < 50; ++i) {
      const auto observer = random_up();
      const auto view = world_.member(observer).view(world_.clock(observer));
      std::vector<double> ages;
      for (const auto& member : view.members) {
        if (member.has_load && member.id != view.self) {
          ages.push_back(static_cast<double>(member.age.count()) / 1e6);
          all.add(ages.back());
          if (options_.load_changes) {
            error.add(std::abs(seconds(world_.true_age(member.load)) - ages.back()));
          }
        }
      }
      std::sort(ages.begin(), ages.end());
      known.add(static_cast<double>(ages.size()) / std::max<double>(1, world_.up_count() - 1));
      if (ages.size() >= 20) {
        newest.add(ages[19]);
      }
    }
    figure("load_known_share", known.mean());
    figure("load_age_s_mean", all.mean());
    figure("load_age_s_p50", all.at(0.5));
    figure("load_age_s_p90", all.at(0.9));
    figure("load_age_s_of_the_20th_newest", newest.mean());
    if (options_.load_changes) {
      figure("load_age_error_s_max", error.at(1));
    }
  }

 private:
  std::pair<double, double> traffic(World::NodeIndex i) {
    if (!world_.up(i)) {
      return {0, 0};
    }
    return {static_cast<double>(world_.member(i).count(Count::kBytesOut)),
            static_cast<double>(world_.member(i).count(Count::kPacketsOut))};
  }

  void on_event(World::NodeIndex observer, const cluster::Event& event) {
    if (watched_ != World::kNoNode && event.node == world_.id(watched_) && observer != watched_ &&
        std::find(kinds_.begin(), kinds_.end(), event.kind) != kinds_.end()) {
      if (seen_.empty()) {
        first_ = world_.now() - watch_began_;
      }
      seen_[observer] = true;
    }
  }

  ScenarioOptions options_;
  World world_;
  cluster::Random random_;
  ScenarioResult result_;
  World::NodeIndex watched_ = World::kNoNode;
  std::vector<EventKind> kinds_;
  std::map<World::NodeIndex, bool> seen_;
  SimTime watch_began_ = 0;
  SimTime first_ = 0;
  SimTime meter_began_ = 0;
  std::map<World::NodeIndex, std::pair<double, double>> meter_;
};

void steady(Run& run, const ScenarioOptions& options) {
  run.world().run_for(kSettle);
  run.meter_begin();
  run.world().run_for(options.seconds * kSecond);
  run.meter_end("");
  run.load_ages();
  run.expect(run.world().agreed(), "the nodes do not agree on who is there");
}

// Nodes stop one after another: by power (silent) or killed (their kernel refuses).
void deaths(Run& run, const ScenarioOptions& options, bool power) {
  World& world = run.world();
  Spread first;
  Spread all;
  world.run_for(kSettle);
  for (unsigned i = 0; i < options.trials; ++i) {
    const auto victim = run.random_up();
    run.watch(victim, {EventKind::kDied});
    const SimTime began = world.now();
    if (power) {
      world.power_off(victim);
    } else {
      world.kill(victim);
    }
    const bool known = world.run_while_not(
        [&] { return run.seen() >= world.up_count() && world.believers(victim) == 0; }, kPatience);
    run.expect(known, fmt::format("n{} died and {} do not know", victim, world.believers(victim)));
    first.add(seconds(run.first()));
    all.add(seconds(world.now() - began));
    world.run_for(3 * kSecond);
  }
  run.figure("first_known_s_p50", first.at(0.5));
  run.figure("first_known_s_max", first.at(1));
  run.figure("all_known_s_p50", all.at(0.5));
  run.figure("all_known_s_p90", all.at(0.9));
  run.figure("all_known_s_max", all.at(1));
}

void joins(Run& run, const ScenarioOptions& options) {
  World& world = run.world();
  Spread all;
  Spread complete;
  world.run_for(kSettle);
  for (unsigned i = 0; i < options.trials; ++i) {
    const auto seed = run.random_up();
    const SimTime began = world.now();
    const auto joined = world.add_node({seed});
    run.watch(joined, {EventKind::kJoined});
    SimTime knows_all = -1;
    const bool known = world.run_while_not(
        [&] {
          if (knows_all < 0 && world.member(joined).live_count() == world.up_count()) {
            knows_all = world.now() - began;
          }
          return run.seen() + 1 >= world.up_count() && knows_all >= 0;
        },
        kPatience);
    run.expect(known, fmt::format("n{} joined, {} of {} know it, it knows {}", joined, run.seen(),
                                  world.up_count() - 1, world.member(joined).live_count()));
    all.add(seconds(world.now() - began));
    complete.add(seconds(knows_all));
    world.run_for(3 * kSecond);
  }
  run.figure("all_know_it_s_p50", all.at(0.5));
  run.figure("all_know_it_s_max", all.at(1));
  run.figure("it_knows_all_s_p50", complete.at(0.5));
  run.figure("it_knows_all_s_max", complete.at(1));
}

void starve(Run& run, const ScenarioOptions& options, bool stalls) {
  World& world = run.world();
  world.run_for(kSettle);
  world.forget_cpu();
  world.run_for(10 * kSecond);
  std::vector<World::NodeIndex> hungry;
  for (World::NodeIndex i = 0; i < std::min(options.affected, world.size()); ++i) {
    hungry.push_back(i);
  }
  const SimTime began = world.now();
  if (stalls) {
    // Each of them gets no CPU for up to five seconds, again and again.
    while (world.now() < began + options.seconds * kSecond) {
      for (const auto node : hungry) {
        if (run.random().chance(0.1)) {
          world.stall(node, static_cast<SimTime>(run.random().unit() * 5 * kSecond));
        }
      }
      world.run_for(500 * kMillisecond);
    }
  } else {
    world.starve(hungry, options.share);
    run.meter_begin();
    world.run_for(options.seconds * kSecond / 2);
    run.meter_end("starved_");
    double score = 0;
    for (const auto node : hungry) {
      score += world.member(node).health_score();
    }
    run.figure("starved_health_score", score / static_cast<double>(hungry.size()));
    world.run_for(options.seconds * kSecond / 2);
  }
  world.feed();
  const SimTime fed = world.now();
  const bool healed = world.run_while_not([&] { return world.agreed(); }, kPatience);
  run.expect(healed, "the nodes do not agree again after the hunger");
  run.figure("agreed_again_s", seconds(world.now() - fed));
}

// A node dies while others starve.
void starve_and_die(Run& run, const ScenarioOptions& options, bool power) {
  World& world = run.world();
  world.run_for(kSettle);
  world.forget_cpu();
  world.run_for(10 * kSecond);
  std::vector<World::NodeIndex> hungry;
  for (World::NodeIndex i = 0; i < std::min(options.affected, world.size()); ++i) {
    hungry.push_back(i);
  }
  world.starve(hungry, options.share);
  world.run_for(15 * kSecond);
  Spread all;
  for (unsigned i = 0; i < options.trials; ++i) {
    const auto victim = run.random_up();
    run.watch(victim, {EventKind::kDied});
    const SimTime began = world.now();
    if (power) {
      world.power_off(victim);
    } else {
      world.kill(victim);
    }
    const bool known = world.run_while_not([&] { return world.believers(victim) == 0; }, kPatience);
    run.expect(known, fmt::format("n{} died and {} do not know", victim, world.believers(victim)));
    all.add(seconds(world.now() - began));
    world.run_for(2 * kSecond);
  }
  run.figure("all_known_s_p50", all.at(0.5));
  run.figure("all_known_s_max", all.at(1));
}

void partition(Run& run, const ScenarioOptions& options) {
  World& world = run.world();
  world.run_for(kSettle);
  const unsigned half = world.size() / 2;
  world.partition([&](World::NodeIndex i) { return i < half ? 0u : 1u; });
  const SimTime began = world.now();
  const auto halves_agree = [&] {
    for (World::NodeIndex i = 0; i < world.size(); ++i) {
      if (world.member(i).live_count() != (i < half ? half : world.size() - half)) {
        return false;
      }
    }
    return true;
  };
  const bool parted = world.run_while_not(halves_agree, kPatience);
  run.expect(parted, "the halves do not find out that they are apart");
  run.figure("apart_known_s", seconds(world.now() - began));
  world.run_until(std::max(world.now(), began + options.seconds * kSecond));
  world.heal();
  const SimTime healed_at = world.now();
  run.meter_begin();
  const bool healed = world.run_while_not([&] { return world.agreed(); }, 5 * kPatience);
  run.expect(healed, "the halves do not come together again");
  run.figure("together_again_s", seconds(world.now() - healed_at));
  run.meter_end("merge_");
}

void mass_death(Run& run, const ScenarioOptions& options) {
  World& world = run.world();
  world.run_for(kSettle);
  const unsigned count = std::min(options.affected, world.size() - 2);
  for (unsigned i = 0; i < count; ++i) {
    world.power_off(run.random_up());
  }
  const SimTime began = world.now();
  run.meter_begin();
  const bool known = world.run_while_not([&] { return world.agreed(); }, 5 * kPatience);
  run.expect(known, "the survivors do not agree");
  run.figure("all_known_s", seconds(world.now() - began));
  run.meter_end("");
}

void cold_start(Run& run, const ScenarioOptions&) {
  World& world = run.world();
  run.meter_begin();
  const bool formed = world.run_while_not([&] { return world.agreed(); }, 5 * kPatience);
  run.expect(formed, "the cluster does not form");
  run.figure("formed_s", seconds(world.now()));
  run.meter_end("");
}

void leaves(Run& run, const ScenarioOptions& options) {
  World& world = run.world();
  world.run_for(kSettle);
  Spread all;
  for (unsigned i = 0; i < options.trials; ++i) {
    const auto leaver = run.random_up();
    run.watch(leaver, {EventKind::kLeft, EventKind::kDied});
    const SimTime began = world.now();
    world.leave(leaver);
    const bool known = world.run_while_not(
        [&] { return !world.up(leaver) && world.believers(leaver) == 0; }, kPatience);
    run.expect(known, fmt::format("n{} left and only {} of {} know", leaver, run.seen(),
                                  world.up_count()));
    all.add(seconds(world.now() - began));
    world.run_for(2 * kSecond);
  }
  run.figure("all_known_s_p50", all.at(0.5));
  run.figure("all_known_s_max", all.at(1));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> scenarios() {
  return {{"steady", "nothing happens: traffic, ages of load information, false deaths"},
          {"death", "nodes lose power one after another"},
          {"kill", "nodes' processes are killed one after another"},
          {"leave", "nodes leave one after another"},
          {"join", "nodes join one after another"},
          {"starve", "some nodes share a part of the CPU that they want"},
          {"stall", "some nodes get no CPU for up to 5 s, again and again"},
          {"starve-death", "nodes lose power while some starve"},
          {"starve-kill", "nodes' processes are killed while some starve"},
          {"partition", "two halves do not reach each other, then do again"},
          {"mass-death", "many nodes lose power at once"},
          {"cold-start", "all start at once and know one seed"}};
}

Result<ScenarioResult> run_scenario(const ScenarioOptions& options) {
  if (options.nodes < 2 || options.nodes > 50000 || options.loss < 0 || options.loss >= 1 ||
      options.share <= 0) {
    return fail(ErrorKind::kBadInput,
                "a scenario wants 2 to 50000 nodes, a loss from 0 to 1, and a share above 0");
  }
  const bool ends_nodes = options.name == "death" || options.name == "kill" ||
                          options.name == "leave" || options.name.starts_with("starve-");
  if (ends_nodes && options.trials + 2 > options.nodes) {
    return fail(ErrorKind::kBadInput, "{} trials end as many of {} nodes: two at least must stay",
                options.trials, options.nodes);
  }
  Run run(options, options.name != "cold-start");
  if (options.name == "steady") {
    steady(run, options);
  } else if (options.name == "death" || options.name == "kill") {
    deaths(run, options, options.name == "death");
  } else if (options.name == "leave") {
    leaves(run, options);
  } else if (options.name == "join") {
    joins(run, options);
  } else if (options.name == "starve" || options.name == "stall") {
    starve(run, options, options.name == "stall");
  } else if (options.name == "starve-death" || options.name == "starve-kill") {
    starve_and_die(run, options, options.name == "starve-death");
  } else if (options.name == "partition") {
    partition(run, options);
  } else if (options.name == "mass-death") {
    mass_death(run, options);
  } else if (options.name == "cold-start") {
    cold_start(run, options);
  } else {
    return fail(ErrorKind::kBadInput, "no scenario is called '{}'", options.name);
  }
  run.findings();
  return std::move(run.result());
}

std::string rerun_command(const ScenarioOptions& o) {
  return fmt::format(
      "tess-sim {} --nodes {} --seed {} --trials {} --seconds {} --affected {} --share {} --loss "
      "{} --latency {}{}{}",
      o.name, o.nodes, o.seed, o.trials, o.seconds, o.affected, o.share, o.loss, o.latency,
      o.knock ? "" : " --no-knock", o.load_changes ? "" : " --still");
}

}  // namespace tess::sim
