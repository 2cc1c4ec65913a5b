#include "node/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <sstream>
#include <vector>

#include "sys/files.h"

namespace tess::node {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

class Families {
 public:
  void gauge(const char* name, const char* help, double value, const Labels& labels = {}) {
    add(name, help, MetricType::Gauge, value, labels);
  }
  void counter(const char* name, const char* help, double value, const Labels& labels = {}) {
    add(name, help, MetricType::Counter, value, labels);
  }
  // One value for each of a label's values.
  void gauges(const char* name, const char* help, const char* label,
              const std::map<std::string, uint64_t>& values) {
    for (const auto& [which, value] : values) {
      gauge(name, help, static_cast<double>(value), {{label, which}});
    }
  }
  void counters(const char* name, const char* help, const char* label,
                const std::map<std::string, uint64_t>& values) {
    for (const auto& [which, value] : values) {
      counter(name, help, static_cast<double>(value), {{label, which}});
    }
  }
  std::string text() const {
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, families_);
    return out.str();
  }

 private:
  void add(const char* name, const char* help, MetricType type, double value,
           const Labels& labels) {
    if (families_.empty() || families_.back().name != name) {
      families_.push_back({name, help, type, {}});
    }
    ClientMetric metric;
    metric.label = labels;
    (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
    families_.back().metric.push_back(std::move(metric));
  }

  std::vector<MetricFamily> families_;
};

void add_node(Families& out, const MetricsSnapshot& snapshot) {
  const cluster::LoadRecord& load = snapshot.load;
  out.gauge("tessera_build_info", "Constant 1, labelled with the version of tessd.", 1,
            {{"node", snapshot.node}, {"version", snapshot.version}});
  out.gauge("tessera_node_speed_ratio", "Speed of a core; 1 is the reference machine's.",
            load.speed / static_cast<double>(cluster::kReferenceSpeed));
  out.gauge("tessera_node_cores", "Cores.", load.cores);
  out.gauge("tessera_node_hardware_threads", "Hardware threads.", load.threads);
  out.gauge("tessera_node_load", "Threads that run or want to, own and guests'.", load.runnable);
  out.gauge("tessera_node_memory_bytes", "Memory.", static_cast<double>(load.memory_bytes));
  out.gauge("tessera_node_memory_free_bytes", "Memory that can be had without swapping.",
            static_cast<double>(load.memory_free_bytes));
  out.gauge("tessera_node_swap_bytes", "Swap space.", static_cast<double>(load.swap_bytes));
  out.gauge("tessera_node_swap_used_bytes", "Swap space in use.",
            static_cast<double>(load.swap_used_bytes));
  out.gauge("tessera_node_cpu_pressure_ratio", "Share of time that somebody waited for a CPU.",
            load.cpu_pressure);
  out.gauge("tessera_node_memory_pressure_ratio", "Share of time that somebody waited for memory.",
            load.memory_pressure);
  out.gauge("tessera_node_guests", "Processes of other nodes that run here.", load.guests);
  out.gauge("tessera_node_incoming", "Processes that are on their way here.", load.incoming);
  out.gauge("tessera_node_link_bytes_per_second",
            "Nominal speed of the link to the other nodes; 0: not known.", load.link_mbit * 125e3);
  out.gauge("tessera_node_draining", "1 if the node is being drained.", load.draining ? 1 : 0);
  out.gauge("tessera_node_owner_active", "1 if the machine's owner uses it.",
            load.owner_active ? 1 : 0);
  out.gauge("tessera_node_accepting", "1 if the node takes guests.", load.accepting ? 1 : 0);
}

void add_cluster(Families& out, const MetricsSnapshot& snapshot) {
  out.gauges("tessera_members", "Nodes of the cluster, by what this one believes of them.", "state",
             snapshot.members);
  out.gauge("tessera_peers_connected", "Nodes to which a control connection is up.",
            static_cast<double>(snapshot.peers_connected));
  out.gauge("tessera_health_score",
            "How late this node is with its own part of the gossip; 0 is well.",
            snapshot.health_score);
  out.counters("tessera_membership_events_total", "What the membership protocol did, by kind.",
               "event", snapshot.membership);
  out.counter("tessera_datagrams_received_total", "Gossip datagrams received.",
              static_cast<double>(snapshot.datagrams_received));
  out.counters("tessera_datagrams_sent_total", "Gossip datagrams sent, by kind.", "kind",
               snapshot.datagrams_sent);
  out.counter("tessera_datagrams_sent_bytes_total", "Bytes of gossip datagrams sent.",
              static_cast<double>(snapshot.datagram_bytes_sent));
  out.counters("tessera_datagrams_dropped_total", "Gossip datagrams dropped, by cause.", "cause",
               snapshot.datagrams_dropped);
}

void add_processes(Families& out, const MetricsSnapshot& snapshot) {
  out.gauges("tessera_agents", "Agents of this node, by role.", "role", snapshot.agents);
  out.gauges("tessera_processes", "Processes that Tessera manages here, by state.", "state",
             snapshot.processes);
  for (const auto& [key, count] : snapshot.moves) {
    out.counter("tessera_moves_total",
                "Moves of processes at home here (refused: of processes that run here).",
                static_cast<double>(count), {{"reason", key.first}, {"result", key.second}});
  }
}

void add_transfers(Families& out, const MetricsSnapshot& snapshot) {
  for (const auto& [direction, sums] : snapshot.transfers) {
    out.counter("tessera_transfer_bytes_total",
                "Bytes on the wire of memory that moved between nodes, by agents of this one.",
                static_cast<double>(sums.first), {{"direction", direction}});
  }
  for (const auto& [direction, sums] : snapshot.transfers) {
    out.counter("tessera_transfer_seconds_total", "Seconds in which it flowed.", sums.second,
                {{"direction", direction}});
  }
  out.gauges("tessera_peer_bandwidth_bytes_per_second",
             "What the last transfers from and to a node have achieved.", "peer",
             snapshot.peer_rates);
}

// Those that every client library has.
void add_self(Families& out, const MetricsSnapshot& snapshot) {
  out.counter("process_cpu_seconds_total", "CPU time of tessd.", snapshot.cpu_seconds);
  out.gauge("process_resident_memory_bytes", "Resident memory of tessd.",
            static_cast<double>(snapshot.resident_bytes));
  out.gauge("process_open_fds", "Open descriptors of tessd.",
            static_cast<double>(snapshot.open_fds));
  out.gauge("process_start_time_seconds", "When tessd started, in Unix time.", snapshot.start_time);
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

}  // namespace

void measure_self(MetricsSnapshot& snapshot) {
  // Of this process: what it was when the first snapshot was taken would be wrong only by that.
  static const double started =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  snapshot.start_time = started;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    snapshot.cpu_seconds = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  }
  if (const auto statm = sys::read_file("/proc/self/statm")) {
    uint64_t size = 0;
    uint64_t resident = 0;
    std::istringstream(*statm) >> size >> resident;
    snapshot.resident_bytes = resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  }
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    ++snapshot.open_fds;
  }
}

std::string metrics_text(const MetricsSnapshot& snapshot) {
  Families families;
  add_node(families, snapshot);
  add_cluster(families, snapshot);
  add_processes(families, snapshot);
  add_transfers(families, snapshot);
  add_self(families, snapshot);
  return families.text();
}

}  // namespace tess::node
