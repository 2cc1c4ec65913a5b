#include "node/proc_info.h"

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "node/control_group.h"
#include "sys/files.h"

namespace tess::node {
namespace {

// "MemTotal:  123 kB" -> 123
std::optional<uint64_t> number_after(const std::string& text, const std::string& label) {
  const size_t at = text.find(label);
  if (at == std::string::npos) {
    return std::nullopt;
  }
  return std::strtoull(text.c_str() + at + label.size(), nullptr, 10);
}

}  // namespace

Result<ProcessFacts> parse_process_status(const std::string& text) {
  ProcessFacts facts;
  std::istringstream lines(text);
  std::string line;
  bool has_uids = false;
  while (std::getline(lines, line)) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) {
      continue;
    }
    const std::string label = line.substr(0, colon);
    std::istringstream value(line.substr(colon + 1));
    if (label == "Name") {
      value >> std::ws;
      std::getline(value, facts.name);
    } else if (label == "State") {
      value >> facts.state;
    } else if (label == "Tgid") {
      value >> facts.thread_group;
    } else if (label == "PPid") {
      value >> facts.parent;
    } else if (label == "TracerPid") {
      value >> facts.tracer;
    } else if (label == "Threads") {
      value >> facts.threads;
    } else if (label == "Uid") {
      for (uid_t& uid : facts.uids) {
        value >> uid;
      }
      has_uids = !value.fail();
    }
  }
  if (!has_uids) {
    return fail(ErrorKind::kBadInput, "no Uid line in a process status");
  }
  return facts;
}

Result<std::optional<ProcessFacts>> process_facts(pid_t pid) {
  if (pid <= 0) {
    return std::nullopt;
  }
  auto text = sys::read_file(fmt::format("/proc/{}/status", pid));
  if (!text) {
    const int error = text.error().sys_errno();
    if (error == ENOENT || error == ESRCH) {
      return std::nullopt;
    }
    return tl::unexpected(std::move(text.error()));
  }
  TESS_TRY_ASSIGN(ProcessFacts facts, parse_process_status(*text));
  return facts;
}

bool may_control(uid_t caller, const ProcessFacts& process) {
  return caller == 0 || std::all_of(process.uids.begin(), process.uids.end(),
                                    [caller](uid_t uid) { return uid == caller; });
}

Result<MachineFacts> machine_facts() {
  MachineFacts facts;
  cpu_set_t set;
  CPU_ZERO(&set);
  facts.cores =
      ::sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<uint32_t>(CPU_COUNT(&set)) : 1;
  TESS_TRY_ASSIGN(const std::string memory, sys::read_file("/proc/meminfo"));
  facts.memory_bytes = number_after(memory, "MemTotal:").value_or(0) << 10;
  facts.memory_free_bytes = number_after(memory, "MemAvailable:").value_or(0) << 10;
  const auto membership = sys::read_file("/proc/self/cgroup");
  const auto group = membership ? cgroup_memory(*membership, "/sys/fs/cgroup") : std::nullopt;
  if (group && group->limit < facts.memory_bytes) {
    facts.memory_bytes = group->limit;
    facts.memory_free_bytes = std::min(facts.memory_free_bytes, group->free);
  }
  TESS_TRY_ASSIGN(const std::string load, sys::read_file("/proc/loadavg"));
  facts.load = std::strtod(load.c_str(), nullptr);
  utsname name{};
  if (::uname(&name) == 0) {
    facts.kernel = name.release;
  }
  return facts;
}

}  // namespace tess::node
