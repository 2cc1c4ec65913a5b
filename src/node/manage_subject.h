// What has to be known of a process to decide whether the cluster may take hold of it (`tess
// manage`). Read from /proc; the process is not touched.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tess::node {

struct Subject {
  pid_t pid = 0;
  pid_t innermost_pid = 0;  // as it sees itself
  pid_t parent = 0;
  pid_t session = 0;
  pid_t tracer = 0;
  int terminal = 0;  // its controlling terminal; 0: none
  char state = '?';
  bool kernel_thread = false;
  bool seccomp = false;
  bool has_capabilities = false;
  bool own_pid_namespace = true;  // the one that this tessd is in
  bool of_tessera = false;        // a part of Tessera, or a guest
  uint64_t start_time = 0;        // clock ticks since boot: with the pid it is one process for good
  uint32_t threads = 1;
  double cpu_seconds = 0;       // of its whole life
  std::array<uid_t, 4> uids{};  // real, effective, saved, file system
  std::array<gid_t, 4> gids{};
  std::string name;  // comm
  std::string exe;   // empty: not readable
  std::vector<std::string> arguments;
  std::vector<std::string> cgroups;  // its paths, of whichever hierarchies

  bool belongs_to(uid_t uid) const;
  std::string command_line() const;
};

// nullopt: there is no such process. `of_tessera` is left to the caller, apart from Tessera's own
// programs.
std::optional<Subject> read_subject(pid_t pid);

// The parts, from the texts of /proc/PID/{stat,status,cgroup}. False: not understood.
bool parse_stat(const std::string& text, Subject& subject);
bool parse_status(const std::string& text, Subject& subject);
std::vector<std::string> parse_cgroups(const std::string& text);

}  // namespace tess::node
