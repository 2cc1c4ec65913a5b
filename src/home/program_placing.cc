// HomeAgent: where the programs run that a job executes. At its exec a program is a few pages of
// files, so that is the cheapest moment to place it. What is known to be short stays at home
// without a question; of the rest tessd says where they run, while they are held.
#include <algorithm>
#include <sstream>

#include "base/log.h"
#include "home/home_agent.h"
#include "home/tessd_client.h"
#include "sys/files.h"
#include "sys/process.h"

namespace tess::home {
namespace {

using std::chrono::milliseconds;

// CPU that a program has used by when it has loaded: an interpreter takes 10 to 20 ms, others less.
constexpr uint64_t kLoaded = 20'000'000;
constexpr milliseconds kLoadingPause{10};
constexpr milliseconds kLongestPause{50};
constexpr milliseconds kLongestLoading{1500};

struct CpuUse {
  uint64_t ran_ns = 0;
  uint64_t waited_ns = 0;  // for a CPU
};

// Of its first thread, and from the process's beginning on; also of one that has just ended.
std::optional<CpuUse> cpu_use_of(pid_t pid) {
  const auto text = sys::read_file(fmt::format("/proc/{}/schedstat", pid));
  CpuUse use;
  if (!text || !(std::istringstream(*text) >> use.ran_ns >> use.waited_ns)) {
    return std::nullopt;
  }
  return use;
}

std::optional<uint64_t> cpu_ns_of(pid_t pid) {
  const auto use = cpu_use_of(pid);
  return use ? std::optional(use->ran_ns) : std::nullopt;
}

}  // namespace

HomeAgent::ProgramPlace HomeAgent::place_program(Managed& process) {
  // The job's first program goes where `tess run` has found a place for it.
  const bool fresh = !std::exchange(process.began, true);
  const bool first = process.pid == config_.pid && (fresh || starting_);
  if (!config_.place || !process.stays_seized) {
    return ProgramPlace::kAsBefore;
  }
  program_ended(process);
  process.program = sys::process_name(process.pid);
  process.program_cpu_ns = cpu_ns_of(process.pid).value_or(0);
  const ProgramBook::Advice advice = programs_.begins(process.program);
  if (first || process.put_by_hand) {
    return ProgramPlace::kAsBefore;
  }
  if (!advice.ask) {
    return ProgramPlace::kHome;
  }
  // Not from within: the answer may come at once.
  loop_.post([this, pid = process.pid, work = advice.work_ns] {
    tessd_->place_program(pid, work,
                          [this, pid](const std::string& node) { program_placed(pid, node); });
  });
  return ProgramPlace::kAsked;
}

void HomeAgent::program_placed(pid_t pid, const std::string& node) {
  Managed* const process = find(pid);
  if (process == nullptr || process->busy) {
    return;  // ended, or somebody else moves it
  }
  if (!node.empty() && !finishing_) {
    process->placed_on = node;
    start_migration(processes_[pid], node, [](const Result<>&) {});
    return;
  }
  process->placed_on.clear();
  if (!leave_alone(*process) && tracer_.held(pid)) {
    (void)tracer_.release(pid);
  }
}

// What a program does first is to map and read files: from another node each of those calls, and
// the libraries, would travel. So the first program of a job that tessd has placed loads here, and
// leaves when it computes. One that a person wants somewhere begins there.
bool HomeAgent::loads_at_home(const Managed& process) const {
  return starting_ && config_.place && process.pid == config_.pid && !process.placed_on.empty();
}

void HomeAgent::load_at_home(const Managed& process) {
  const auto use = cpu_use_of(process.pid);
  waited_before_loading_ns_ = use ? use->waited_ns : 0;
  loading_since_ = std::chrono::steady_clock::now();
  loading_timer_ = std::make_unique<net::Timer>(loop_);
  look_whether_loaded();
}

void HomeAgent::look_whether_loaded() {
  Managed* const process = find(config_.pid);
  if (process == nullptr || process->busy || !loads_at_home(*process)) {
    loading_timer_.reset();  // ended, or somebody else moves it
    return;
  }
  const auto use = cpu_use_of(process->pid);
  const uint64_t before = process->program_cpu_ns;
  const uint64_t ran = use && use->ran_ns > before ? use->ran_ns - before : 0;
  const auto passed = std::chrono::steady_clock::now() - loading_since_;
  if (ran < kLoaded && passed < kLongestLoading) {
    const auto pause = std::chrono::duration_cast<milliseconds>(passed / 2);
    loading_timer_->start(std::clamp(pause, kLoadingPause, kLongestPause),
                          [this] { look_whether_loaded(); });
    return;
  }
  loading_timer_.reset();
  // It has hardly run and did not want to: it waits for something, for its children perhaps.
  // Placement sees to it when it does more.
  const uint64_t waited = use ? use->waited_ns - waited_before_loading_ns_ : 0;
  const auto wanted = std::chrono::nanoseconds(ran + waited);
  if (ran < kLoaded && wanted < passed / 2) {
    process->placed_on.clear();
    begun();
    tessd_->send_status();
    return;
  }
  start_migration(processes_[config_.pid], process->placed_on, [](const Result<>&) {});
}

void HomeAgent::begun() {
  starting_ = false;
  loading_timer_.reset();
}

// By its end or its next exec. What ran on another node is not measured to the millisecond.
void HomeAgent::program_ended(Managed& process) {
  if (process.program.empty()) {
    return;
  }
  const bool was_away = process.cpu_hosts_settled_ns + process.cpu_host_ns > 0 || process.moves > 0;
  const auto now = was_away ? std::nullopt : cpu_ns_of(process.pid);
  const uint64_t took = now && *now > process.program_cpu_ns ? *now - process.program_cpu_ns : 0;
  programs_.ended(process.program, now ? &took : nullptr);
  process.program.clear();
}

}  // namespace tess::home
