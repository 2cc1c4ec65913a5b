#include "node/load_meter.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <set>
#include <sstream>

#include "base/log.h"
#include "memory/cpu_features.h"
#include "node/control_group.h"
#include "node/proc_info.h"
#include "node/process_meter.h"
#include "sys/files.h"

namespace tess::node {
namespace {

constexpr double kSmoothing = 0.5;
// Milliseconds of one run of the yardstick on the machine whose speed is kReferenceSpeed.
constexpr double kReferenceRun = 6.4;
constexpr int kRuns = 7;

double thread_ms() {
  timespec spent{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) * 1e3 + static_cast<double>(spent.tv_nsec) / 1e6;
}

// Integer work with dependent steps, and a table that fits into a first-level cache: what most
// programs do most of the time.
uint64_t yardstick() {
  std::array<uint32_t, 2048> table{};
  uint64_t x = 0x9e3779b97f4a7c15U;
  for (int i = 0; i < 1'600'000; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    table[x & 2047] += static_cast<uint32_t>(x >> 32);
    x += table[(x >> 20) & 2047];
  }
  return x;
}

std::string cpu_model() {
  const auto text = sys::read_file("/proc/cpuinfo");
  const size_t at = text ? text->find("model name") : std::string::npos;
  return at == std::string::npos ? "unknown" : text->substr(at, text->find('\n', at) - at);
}

uint64_t number_after(const std::string& text, const std::string& label) {
  const size_t at = text.find(label);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + label.size(), nullptr, 10);
}

// FNV-1a: the same on all nodes.
uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325U;
  for (const unsigned char byte : text) {
    hash = (hash ^ byte) * 0x100000001b3U;
  }
  return hash;
}

// The CPUs that this process may use: what its cpuset and its own affinity leave.
std::vector<unsigned> own_cpus() {
  std::vector<unsigned> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) {
        cpus.push_back(cpu);
      }
    }
  }
  return cpus;
}

CoreCount cores_of(const std::vector<unsigned>& cpus) {
  std::map<unsigned, std::string> siblings;
  for (const unsigned cpu : cpus) {
    const auto text = sys::read_file(
        fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    siblings[cpu] = text ? *text : std::to_string(cpu);
  }
  return count_cores(siblings);
}

// Where this node's own pressure is told: its control group's (version 2), else the machine's if
// that is all its own; else nowhere.
std::string find_pressure() {
  for (const char* top : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    if (std::filesystem::exists(std::string(top) + "/cgroup.events") &&
        std::filesystem::exists(std::string(top) + "/cpu.pressure")) {
      return std::string(top) + "/cpu.pressure";  // not the root: that has no cgroup.events
    }
  }
  constexpr char kWholeMachine[] = "pid:[4026531836]";  // PROC_PID_INIT_INO
  std::error_code error;
  const auto pids = std::filesystem::read_symlink("/proc/self/ns/pid", error);
  return !error && pids == kWholeMachine ? "/proc/pressure/cpu" : "";
}

}  // namespace

uint32_t measure_speed() {
  double best = 0;
  volatile uint64_t sink = 0;
  for (int run = 0; run < kRuns; ++run) {
    const double start = thread_ms();
    sink = sink + yardstick();
    const double spent = std::max(thread_ms() - start, 0.01);
    best = run == 0 ? spent : std::min(best, spent);  // whatever disturbs only makes it longer
  }
  const double speed = cluster::kReferenceSpeed * kReferenceRun / best;
  return static_cast<uint32_t>(std::clamp(speed, 1.0, 1e6));
}

uint32_t cached_speed(const std::string& state_dir) {
  const std::string path = state_dir + "/speed";
  const std::string model = cpu_model();
  if (const auto text = sys::read_file(path)) {
    const auto speed = static_cast<uint32_t>(std::strtoul(text->c_str(), nullptr, 10));
    if (speed != 0 && text->ends_with("\n" + model + "\n")) {
      return speed;
    }
  }
  const uint32_t speed = measure_speed();
  if (const auto kept = sys::replace_file(path, fmt::format("{}\n{}\n", speed, model)); !kept) {
    log::warn("node", "event=speed_not_kept reason=\"{}\"", kept.error().message());
  }
  return speed;
}

float pressure_of(const std::string& text) {
  const size_t at = text.find("some avg10=");
  return at == std::string::npos
             ? 0
             : static_cast<float>(std::strtod(text.c_str() + at + 11, nullptr) / 100);
}

CoreCount count_cores(const std::map<unsigned, std::string>& siblings) {
  std::set<std::string> cores;
  for (const auto& [cpu, text] : siblings) {
    cores.insert(text);
  }
  CoreCount count;
  count.cores = static_cast<uint16_t>(std::clamp<size_t>(cores.size(), 1, UINT16_MAX));
  count.threads = static_cast<uint16_t>(std::clamp<size_t>(siblings.size(), 1, UINT16_MAX));
  return count;
}

void keep_within(std::optional<double> quota, cluster::LoadRecord& load) {
  if (!quota || *quota >= load.threads) {
    return;
  }
  const double whole = std::max(1.0, std::ceil(*quota));
  load.threads = static_cast<uint16_t>(std::min<double>(load.threads, whole));
  if (*quota < load.cores) {
    // So many whole cores, each as much slower as the quota is short of them.
    load.cores = load.threads;
    load.speed = static_cast<uint32_t>(std::max(1.0, load.speed * *quota / whole));
  }
}

LoadMeter::LoadMeter(const std::string& state_dir)
    : speed_(cached_speed(state_dir)),
      cpus_(own_cpus()),
      cores_(cores_of(cpus_)),
      features_(hash_of(memory::host_cpu_features())),
      pressure_dir_(find_pressure()) {}

// A dozen files, which an administrator changes now and then.
std::optional<double> LoadMeter::quota() {
  constexpr std::chrono::seconds kFresh(5);
  const auto now = std::chrono::steady_clock::now();
  if (quota_at_ == std::chrono::steady_clock::time_point() || now - quota_at_ > kFresh) {
    const auto membership = sys::read_file("/proc/self/cgroup");
    quota_ = membership ? cgroup_cpus(*membership, "/sys/fs/cgroup") : std::nullopt;
    quota_at_ = now;
  }
  return quota_;
}

cluster::LoadRecord LoadMeter::measure() {
  cluster::LoadRecord load;
  load.speed = speed_;
  if (const auto set = own_cpus(); set != cpus_) {  // a cpuset may be changed at any time
    cpus_ = set;
    cores_ = cores_of(cpus_);
  }
  load.cores = cores_.cores;
  load.threads = cores_.threads;
  load.cpu_features = features_;
  keep_within(quota(), load);
  if (const auto facts = machine_facts()) {
    load.memory_bytes = facts->memory_bytes;
    load.memory_free_bytes = facts->memory_free_bytes;
  }
  if (const auto memory = sys::read_file("/proc/meminfo")) {
    load.swap_bytes = number_after(*memory, "SwapTotal:") << 10;
    const uint64_t free = number_after(*memory, "SwapFree:") << 10;
    load.swap_used_bytes = load.swap_bytes - std::min(load.swap_bytes, free);
  }
  if (!pressure_dir_.empty()) {
    if (const auto text = sys::read_file(pressure_dir_)) {
      load.cpu_pressure = pressure_of(*text);
    }
    std::string memory = pressure_dir_;
    memory.replace(memory.rfind("cpu"), 3, "memory");
    if (const auto text = sys::read_file(memory)) {
      load.memory_pressure = pressure_of(*text);
    }
  }
  return load;
}

double LoadMeter::demand_of_others(cluster::Time now,
                                   const std::unordered_map<pid_t, bool>& without) {
  const double elapsed = std::chrono::duration<double>(now - scanned_).count();
  const bool first = scanned_ == cluster::Time();
  if (!first && elapsed < 0.2) {
    return others_;
  }
  std::unordered_map<pid_t, uint64_t> spent;
  uint64_t more = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    const pid_t pid = std::atoi(name.c_str());
    const auto now_spent = process_demand_ns(pid);
    if (!now_spent) {
      continue;
    }
    spent[pid] = *now_spent;
    const auto before = spent_.find(pid);
    if (before != spent_.end() && *now_spent > before->second && !without.contains(pid)) {
      more += *now_spent - before->second;
    }
  }
  spent_ = std::move(spent);
  scanned_ = now;
  if (!first && elapsed < 10) {
    others_ += kSmoothing * (static_cast<double>(more) / 1e9 / elapsed - others_);
  }
  return others_;
}

double LoadMeter::memory_growth(cluster::Time now, uint64_t free_bytes) {
  const double elapsed = std::chrono::duration<double>(now - memory_at_).count();
  if (memory_at_ != cluster::Time() && elapsed > 0.2) {
    const double shrunk = static_cast<double>(memory_free_) - static_cast<double>(free_bytes);
    growth_ += kSmoothing * (shrunk / elapsed - growth_);
  }
  if (memory_at_ == cluster::Time() || elapsed > 0.2) {
    memory_at_ = now;
    memory_free_ = free_bytes;
  }
  return std::max(0.0, growth_);
}

}  // namespace tess::node
