// The record of a lab on the machine: /run/tessera-lab/NAME/state.json, written by the keeper and
// supervisor, read by every `tess lab` command. Also the lock over all labs, and the broom: what
// removes the traces of a lab whose processes are all gone.
//
// Directory of a lab: state.json, lab.log (keeper and supervisor), nK.log (tessd of a node), mnt
// (empty; the supervisor's private tmpfs in its own mount namespace).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "lab/spec.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace tess::lab {

inline constexpr const char* kLabsDirectory = "/run/tessera-lab";

// A process named for good: a pid alone may be somebody else's tomorrow.
struct ProcessName {
  int pid = 0;
  uint64_t start_time = 0;

  static Result<ProcessName> of(pid_t pid);
  std::optional<sys::Process> open() const { return sys::open_if_same(pid, start_time); }
};

struct NodeState {
  std::string name;
  std::string address;
  ProcessName init;                  // pid 0: not started yet
  std::vector<std::string> cgroups;  // directories; empty without limits
};

struct State {
  Spec spec;
  std::string id;  // unlike any other lab's, ever
  uint64_t pid_namespace = 0;
  int subnet = 0;
  bool ready = false;
  ProcessName keeper;
  ProcessName supervisor;
  std::vector<NodeState> nodes;

  const NodeState* node(const std::string& node_name) const;
  // Has it a process that looks after it? One made in another pid namespace (by a container that
  // shares /run) is never ours to judge: true.
  bool alive() const;
};

std::string lab_directory(const std::string& name);

// Held by one `tess lab` (or keeper) at a time while labs appear and disappear. Makes
// kLabsDirectory if needed.
class LabsLock {
 public:
  static Result<LabsLock> take();

 private:
  explicit LabsLock(sys::Fd directory) : directory_(std::move(directory)) {}
  sys::Fd directory_;  // flock; released with it
};

Result<> write_state(const State& state);
// kFailed with a sentence if there is no such lab.
Result<State> read_state(const std::string& name);
std::vector<std::string> lab_names();

// n1 needs mount points on the machine (/etc/tessera and so on). Those not there are made, noted,
// and removed with the last lab.
Result<> make_mount_points(const LabsLock& lock, const std::vector<std::string>& paths);

// Removes what a lab without processes has left: cgroups, its directory, and with the last lab the
// mount points and kLabsDirectory.
Result<> sweep(const LabsLock& lock, const std::string& name);
// The same for every lab that has died without its keeper.
void sweep_dead(const LabsLock& lock);

}  // namespace tess::lab
