#include "lab/lab_builder.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "lab/image.h"
#include "lab/network.h"
#include "sys/cgroup.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/namespaces.h"
#include "sys/unix_socket.h"

namespace tess::lab {
namespace {

constexpr int kStepMilliseconds = 20'000;

class Builder {
 public:
  Builder(State& state, const BuildHooks& hooks, std::vector<RunningNode>& nodes)
      : state_(state), hooks_(hooks), nodes_(nodes) {}

  Result<> run();

 private:
  Result<> make_workspace();
  Result<> make_image();
  Result<> make_identities();
  Result<> make_cgroups();
  Result<> start_init(size_t index);
  NodePlan plan_node(size_t index) const;
  std::vector<std::string> environment(bool server) const;
  Result<> await_all(Step step);
  Result<> tell_all(Step step);
  bool server_only() const { return state_.nodes.size() == 1; }

  State& state_;
  const BuildHooks& hooks_;
  std::vector<RunningNode>& nodes_;
  std::string workspace_;  // private tmpfs
};

Result<> Builder::make_workspace() {
  TESS_TRY(sys::unshare_namespaces(CLONE_NEWNS | CLONE_NEWNET));
  TESS_TRY(sys::isolate_mounts());
  workspace_ = lab_directory(state_.spec.name) + "/mnt";
  TESS_TRY(sys::make_directories(workspace_));
  TESS_TRY(sys::mount_filesystem("tmpfs", workspace_, MS_NODEV, "mode=0700"));
  TESS_TRY(sys::make_directories(workspace_ + "/root"));
  TESS_TRY_ASSIGN(const LabsLock lock, LabsLock::take());
  return make_mount_points(lock, private_directories());
}

Result<> Builder::make_image() {
  if (server_only()) {
    return {};
  }
  TESS_TRY_ASSIGN(const auto programs, node_programs(state_.spec.tessd));
  if (auto made = build_image(workspace_ + "/usr", programs); !made) {
    return fail_with(std::move(made.error()), "collect the programs of the nodes");
  }
  return {};
}

Result<> Builder::make_identities() {
  std::vector<std::string> names;
  for (const NodeState& node : state_.nodes) {
    names.push_back(node.name);
  }
  return hooks_.make_identities(workspace_ + "/identity", names);
}

// Limits are a wish: a machine whose cgroups are closed to us still gets its lab, and is told so
// once.
Result<> Builder::make_cgroups() {
  const sys::CgroupLimits limits{state_.spec.cpus, state_.spec.memory_bytes};
  if (!limits.cpus && !limits.memory_bytes) {
    return {};
  }
  const auto group_name = [&](const NodeState& node) {
    return fmt::format("tessera-lab-{}-{}", state_.id, node.name);
  };
  std::string refusal;
  for (NodeState& node : state_.nodes) {
    auto planned = sys::Cgroup::plan(group_name(node), limits);
    if (!planned) {
      refusal = planned.error().message();
      break;
    }
    node.cgroups = std::move(*planned);
  }
  TESS_TRY(write_state(state_));
  for (size_t i = 0; refusal.empty() && i < state_.nodes.size(); ++i) {
    if (const auto made = sys::Cgroup::make(group_name(state_.nodes[i]), limits); !made) {
      refusal = made.error().message();
    }
  }
  if (refusal.empty()) {
    return {};
  }
  hooks_.warn(fmt::format("no CPU and memory limits in this lab: {}", refusal));
  for (NodeState& node : state_.nodes) {
    TESS_TRY(sys::Cgroup(node.cgroups).remove(std::chrono::seconds(1)));
    node.cgroups.clear();
  }
  state_.spec.cpus.reset();
  state_.spec.memory_bytes.reset();
  return write_state(state_);
}

// TESS_* passes through (log level, fault points), but not the paths: each node has its own.
std::vector<std::string> Builder::environment(bool server) const {
  std::string path = "/usr/sbin:/usr/bin:/sbin:/bin";
  if (server) {
    path = state_.spec.tessd.substr(0, state_.spec.tessd.rfind('/')) +
           ":/usr/local/sbin:" + "/usr/local/bin:" + path;
  }
  std::vector<std::string> result{"PATH=" + path, "HOME=/root", "LANG=C.UTF-8", "USER=root"};
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    const bool own_path = text.starts_with("TESS_STATE_DIR=") ||
                          text.starts_with("TESS_RUN_DIR=") || text.starts_with("TESS_CONFIG=");
    if ((text.starts_with("TESS_") || text.starts_with("ASAN_") || text.starts_with("UBSAN_")) &&
        !own_path) {
      result.emplace_back(text);
    }
  }
  return result;
}

NodePlan Builder::plan_node(size_t index) const {
  const NodeState& node = state_.nodes[index];
  NodePlan plan;
  plan.server = index == 0;
  plan.files.image = workspace_ + "/usr";
  plan.files.identity = workspace_ + "/identity/" + node.name;
  plan.files.mount_on = workspace_ + "/root";
  plan.files.host_name = node.name;
  plan.files.hosts = "127.0.0.1 localhost\n";
  for (const NodeState& each : state_.nodes) {
    plan.files.hosts += each.address + " " + each.name + "\n";
  }
  plan.files.config = node_config(state_.spec, state_.subnet, static_cast<int>(index) + 1);
  plan.cgroups = node.cgroups;
  plan.tessd = plan.server ? state_.spec.tessd : program_in_image(state_.spec.tessd);
  plan.environment = environment(plan.server);
  return plan;
}

Result<> Builder::start_init(size_t index) {
  TESS_TRY_ASSIGN(sys::SocketPair pair, sys::make_socket_pair(SOCK_SEQPACKET));
  const std::string log_path =
      fmt::format("{}/{}.log", lab_directory(state_.spec.name), state_.nodes[index].name);
  sys::Fd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!log.valid()) {
    return fail_errno("open {}", log_path);
  }
  const NodePlan plan = plan_node(index);
  TESS_TRY_ASSIGN(
      sys::Process init,
      sys::Process::fork({.new_pid_namespace = true, .parent_death_signal = SIGKILL},
                         [&] { return node_init(plan, std::move(pair.second), std::move(log)); }));
  const pid_t pid = init.pid();
  nodes_.push_back({std::move(init), std::move(pair.first)});
  TESS_TRY_ASSIGN(state_.nodes[index].init, ProcessName::of(pid));
  return {};
}

Result<> Builder::await_all(Step step) {
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const std::string& name = state_.nodes[i].name;
    TESS_TRY_ASSIGN(const bool there, sys::wait_readable(nodes_[i].link, kStepMilliseconds));
    if (!there) {
      return fail(ErrorKind::kFailed, "node {} does not come up", name);
    }
    auto received = receive_step(nodes_[i].link);
    if (!received) {
      return fail_with(std::move(received.error()), "node {} ended while coming up", name);
    }
    if (received->step != step) {
      return fail(ErrorKind::kFailed, "make node {}: {}", name, received->text);
    }
  }
  return {};
}

Result<> Builder::tell_all(Step step) {
  for (const RunningNode& node : nodes_) {
    TESS_TRY(send_step(node.link, step));
  }
  return {};
}

Result<> Builder::run() {
  TESS_TRY(make_workspace());
  TESS_TRY(make_image());
  TESS_TRY(hooks_.check());
  TESS_TRY(make_identities());
  TESS_TRY(hooks_.check());
  TESS_TRY(make_cgroups());
  TESS_TRY(make_switch());
  for (size_t i = 0; i < state_.nodes.size(); ++i) {
    TESS_TRY(start_init(i));
    TESS_TRY(hooks_.check());
  }
  TESS_TRY(write_state(state_));
  TESS_TRY(await_all(Step::kBorn));
  TESS_TRY(tell_all(Step::kFurnish));  // they furnish themselves while we lay the cables
  TESS_TRY(connect_nodes(state_));
  TESS_TRY(await_all(Step::kFurnished));
  TESS_TRY(hooks_.check());
  return tell_all(Step::kStart);
}

}  // namespace

Result<> build_lab(State& state, const BuildHooks& hooks, std::vector<RunningNode>& nodes) {
  return Builder(state, hooks, nodes).run();
}

}  // namespace tess::lab
