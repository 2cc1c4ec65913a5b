// HomeAgent: where the programs run that a job executes. At its exec a program is a few pages of
// files, so that is the cheapest moment to place it. What is known to be short stays at home
// without a question; of the rest tessd says where they run, while they are held.
#include <sstream>

#include "base/log.h"
#include "home/home_agent.h"
#include "home/tessd_client.h"
#include "sys/files.h"

namespace tess::home {
namespace {

// Of its first thread, and from the process's beginning on; also of one that has just ended.
std::optional<uint64_t> cpu_ns_of(pid_t pid) {
  const auto text = sys::read_file(fmt::format("/proc/{}/schedstat", pid));
  uint64_t spent = 0;
  if (!text || !(std::istringstream(*text) >> spent)) {
    return std::nullopt;
  }
  return spent;
}

std::string name_of(pid_t pid) {
  auto text = sys::read_file(fmt::format("/proc/{}/comm", pid)).value_or("");
  while (!text.empty() && text.back() == '\n') {
    text.pop_back();
  }
  return text;
}

}  // namespace

HomeAgent::ProgramPlace HomeAgent::place_program(Managed& process) {
  // The job's first program goes where `tess run` has found a place for it.
  const bool first = !std::exchange(process.began, true) && process.pid == config_.pid;
  if (!config_.place || !process.stays_seized) {
    return ProgramPlace::kAsBefore;
  }
  program_ended(process);
  process.program = name_of(process.pid);
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
