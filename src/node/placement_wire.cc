#include "node/placement_wire.h"

#include <algorithm>
#include <cmath>

namespace tess::node {
namespace {

using cluster::Duration;
using placement::Cause;

constexpr size_t kLeftMost = 6;

template <typename Enum>
Enum clamped(uint32_t value, Enum last) {
  return static_cast<Enum>(std::min(value, static_cast<uint32_t>(last)));
}

double finite(double value) {
  return std::isfinite(value) ? value : 0;
}

}  // namespace

placement::ProcessKey process_key(const cluster::NodeId& home, uint64_t job, int32_t inner_pid) {
  const uint64_t number = (job & 0x7fffffff) << 32 | static_cast<uint32_t>(inner_pid);
  return {home, static_cast<int64_t>(number)};
}

std::string to_wire(const cluster::NodeId& id) {
  return {id.bytes.begin(), id.bytes.end()};
}

cluster::NodeId id_from_wire(const std::string& bytes) {
  cluster::NodeId id;
  if (bytes.size() == id.bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  }
  return id;
}

wire::Load to_wire(const cluster::LoadRecord& load) {
  wire::Load out;
  out.set_speed(load.speed);
  out.set_cores(load.cores);
  out.set_threads(load.threads);
  out.set_memory_bytes(load.memory_bytes);
  out.set_swap_bytes(load.swap_bytes);
  out.set_cpu_features(load.cpu_features);
  out.set_reserved_permille(load.reserved_permille);
  out.set_runnable(load.runnable);
  out.set_cpu_pressure(load.cpu_pressure);
  out.set_memory_pressure(load.memory_pressure);
  out.set_memory_free_bytes(load.memory_free_bytes);
  out.set_swap_used_bytes(load.swap_used_bytes);
  out.set_guests(load.guests);
  out.set_incoming(load.incoming);
  out.set_owner_active(load.owner_active);
  out.set_draining(load.draining);
  out.set_accepting(load.accepting);
  out.set_link_mbit(load.link_mbit);
  return out;
}

cluster::LoadRecord from_wire(const wire::Load& load) {
  const auto small = [](uint32_t value, uint32_t least) {
    return static_cast<uint16_t>(std::clamp<uint32_t>(value, least, UINT16_MAX));
  };
  const auto share = [](float value) {
    return static_cast<float>(std::clamp(finite(static_cast<double>(value)), 0.0, 1e6));
  };
  cluster::LoadRecord out;
  out.speed = std::max<uint32_t>(1, load.speed());
  out.cores = small(load.cores(), 1);
  out.threads = small(load.threads(), 1);
  out.memory_bytes = load.memory_bytes();
  out.swap_bytes = load.swap_bytes();
  out.cpu_features = load.cpu_features();
  out.reserved_permille = std::min<uint16_t>(1000, small(load.reserved_permille(), 0));
  out.runnable = share(load.runnable());
  out.cpu_pressure = share(load.cpu_pressure());
  out.memory_pressure = share(load.memory_pressure());
  out.memory_free_bytes = load.memory_free_bytes();
  out.swap_used_bytes = load.swap_used_bytes();
  out.guests = small(load.guests(), 0);
  out.incoming = small(load.incoming(), 0);
  out.owner_active = load.owner_active();
  out.draining = load.draining();
  out.accepting = load.accepting();
  out.link_mbit = load.link_mbit();
  return out;
}

void to_wire(const placement::Ask& ask, wire::PlaceAsk& out) {
  out.set_from(to_wire(ask.from));
  out.set_cause(static_cast<uint32_t>(ask.cause));
  out.set_demand(ask.demand);
  out.set_memory_bytes(ask.memory_bytes);
  out.set_memory_growth(ask.memory_growth);
  out.set_cpu_features(ask.cpu_features);
  out.set_delay(ask.delay);
  out.set_cost_here(ask.cost_here);
  out.set_slow_believed(ask.slow_believed);
  out.set_slow_limit(ask.slow_limit);
  out.set_lagging_speed(ask.lagging_speed);
  out.set_log_base(ask.scale.log_base);
  out.set_limit(ask.scale.limit);
  out.set_transfer(ask.transfer);
}

placement::Ask from_wire(const wire::PlaceAsk& ask) {
  placement::Ask out;
  const wire::ProcessRef& process = ask.process();
  out.process = process_key(id_from_wire(process.home()), process.job(), process.pid());
  out.from = id_from_wire(ask.from());
  out.cause = clamped(ask.cause(), Cause::kPerson);
  out.demand = ask.demand();
  out.memory_bytes = ask.memory_bytes();
  out.memory_growth = ask.memory_growth();
  out.cpu_features = ask.cpu_features();
  out.delay = ask.delay();
  out.cost_here = ask.cost_here();
  out.slow_believed = ask.slow_believed();
  out.slow_limit = ask.slow_limit();
  out.lagging_speed = ask.lagging_speed();
  out.scale = {ask.log_base(), ask.limit()};
  out.transfer = ask.transfer();
  return out;
}

wire::MoveReason to_wire(const placement::Decision& decision) {
  wire::MoveReason out;
  const placement::Estimate& e = decision.estimate;
  out.set_cause(static_cast<uint32_t>(decision.cause));
  out.set_from(to_wire(decision.from));
  out.set_to(to_wire(decision.to));
  out.set_from_name(decision.from_name);
  out.set_to_name(decision.to_name);
  out.set_process_name(decision.process_name);
  out.set_memory_bytes(decision.memory_bytes);
  out.set_cost_here(e.cost_here);
  out.set_cost_there(e.cost_there);
  out.set_slow_here(e.slow_here);
  out.set_slow_there(e.slow_there);
  out.set_runnable_here(e.runnable_here);
  out.set_runnable_there(e.runnable_there);
  out.set_delay_here(e.delay_here);
  out.set_delay_there(e.delay_there);
  out.set_work(e.work);
  out.set_saved(e.saved);
  out.set_price(e.price);
  out.set_bandwidth(e.bandwidth);
  out.set_memory_free(decision.memory_free);
  out.set_memory_missing(decision.memory_missing);
  out.set_lag(decision.lag);
  return out;
}

placement::Decision from_wire(const wire::MoveReason& reason, placement::Time now) {
  placement::Decision out;
  placement::Estimate& e = out.estimate;
  out.at = now;
  out.cause = clamped(reason.cause(), Cause::kPerson);
  out.urgent = placement::is_urgent(out.cause);
  out.from = id_from_wire(reason.from());
  out.to = id_from_wire(reason.to());
  out.from_name = reason.from_name();
  out.to_name = reason.to_name();
  out.process_name = reason.process_name();
  out.memory_bytes = reason.memory_bytes();
  e.cost_here = finite(reason.cost_here());
  e.cost_there = finite(reason.cost_there());
  e.slow_here = std::max(1e-6, finite(reason.slow_here()));
  e.slow_there = std::max(1e-6, finite(reason.slow_there()));
  e.runnable_here = finite(reason.runnable_here());
  e.runnable_there = finite(reason.runnable_there());
  e.delay_here = finite(reason.delay_here());
  e.delay_there = finite(reason.delay_there());
  e.work = finite(reason.work());
  e.saved = finite(reason.saved());
  e.price = finite(reason.price());
  e.bandwidth = std::clamp(finite(reason.bandwidth()), 0.0, 1e12);
  out.memory_free = std::clamp(finite(reason.memory_free()), 0.0, 1e18);
  out.memory_missing = std::clamp(finite(reason.memory_missing()), 0.0, 1e18);
  out.lag = finite(reason.lag());
  return out;
}

void Carried::note_left(const cluster::NodeId& node, placement::Time at) {
  left.push_back({node, at});
  if (left.size() > kLeftMost) {
    left.erase(left.begin());
  }
}

wire::Carried to_wire(const Carried& carried, placement::Time now) {
  wire::Carried out;
  out.set_cpu_used(carried.cpu_used);
  out.set_wanted(carried.wanted);
  out.set_moves(carried.moves);
  for (const Carried::LeftAt& left : carried.left) {
    wire::LeftNode& node = *out.add_left();
    node.set_node(to_wire(left.node));
    node.set_ago_us(static_cast<uint64_t>(std::max<int64_t>(0, (now - left.at).count())));
  }
  return out;
}

Carried from_wire(const wire::Carried& carried, placement::Time now) {
  Carried out;
  out.cpu_used = std::clamp(finite(carried.cpu_used()), 0.0, 1e12);
  out.wanted = std::clamp(finite(carried.wanted()), 0.0, 1e12);
  out.moves = carried.moves();
  for (const wire::LeftNode& left : carried.left()) {
    const auto ago = std::min<uint64_t>(left.ago_us(), uint64_t{86400} * 1'000'000);
    out.note_left(id_from_wire(left.node()), now - Duration(static_cast<int64_t>(ago)));
  }
  return out;
}

}  // namespace tess::node
