// What tessd is told of a job's processes (`tess ps`).
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "home/home_agent.h"
#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/process.h"
#include "wire/node.pb.h"

namespace tess::home {
namespace {

std::string command_line(pid_t pid) {
  // A stream of the standard library would throw if the process ended just now.
  std::string text = sys::read_file("/proc/" + std::to_string(pid) + "/cmdline").value_or("");
  while (!text.empty() && text.back() == '\0') {
    text.pop_back();
  }
  for (char& c : text) {
    c = c == '\0' ? ' ' : c;
  }
  // Its first thread has ended, or it has written over its arguments: as ps, by its name.
  return text.empty() ? "[" + sys::process_name(pid) + "]" : text;
}

struct ProcessFacts {
  pid_t parent = 0;
  uint32_t uid = 0;
  uint32_t threads = 0;
  uint64_t resident = 0;
  uint64_t cpu_ns = 0;
};

ProcessFacts read_facts(pid_t pid) {
  ProcessFacts facts;
  if (const auto status = sys::ProcStatus::read(pid); status) {
    facts.parent = status->pid_field("PPid");
    facts.uid = static_cast<uint32_t>(status->number("Uid"));
    facts.threads = static_cast<uint32_t>(status->number("Threads"));
    facts.resident = status->bytes("VmRSS");
  }
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(stat, text);
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  constexpr int kUtimeAfterName = 12;  // field 14 of proc(5), counted from the one after the name
  std::string field;
  for (int i = 1; i < kUtimeAfterName; ++i) {
    rest >> field;
  }
  uint64_t user = 0;
  uint64_t system = 0;
  rest >> user >> system;
  facts.cpu_ns = (user + system) * (1'000'000'000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK)));
  return facts;
}

const char* state_name(const Managed& process, bool starting) {
  if (process.busy || starting) {
    return "moving";
  }
  return process.state == Managed::State::kDeputy ? "deputy" : "native";
}

}  // namespace

void HomeAgent::fill_status(wire::JobStatus& status) {
  const std::string& name = tessd_->node().empty() ? tls_.node_name() : tessd_->node();
  for (const auto& [pid, process] : processes_) {
    const ProcessFacts facts = read_facts(pid);
    if (facts.threads == 0) {
      continue;
    }
    process->cpu_home_ns = facts.cpu_ns;
    wire::JobProcess& entry = *status.add_process();
    entry.set_pid(pid);
    entry.set_parent_pid(facts.parent);
    entry.set_uid(facts.uid);
    entry.set_command(command_line(pid));
    entry.set_home_node(name);
    const std::string where = process->where();
    entry.set_node(where.empty() ? name : where);
    entry.set_cpu_home_ns(facts.cpu_ns);
    entry.set_cpu_hosts_ns(process->cpu_hosts_settled_ns + process->cpu_host_ns);
    entry.set_memory_bytes(process->state == Managed::State::kDeputy ? process->memory_bytes
                                                                     : facts.resident);
    entry.set_moves(process->moves);
    entry.set_state(state_name(*process, starting_ && pid == config_.pid));
    entry.set_thread_count(facts.threads);
    entry.set_inner_pid(process->inner_pid != 0 ? process->inner_pid : innermost_id(pid, pid));
  }
}

}  // namespace tess::home
