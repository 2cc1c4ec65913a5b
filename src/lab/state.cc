#include "lab/state.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "sys/cgroup.h"
#include "sys/files.h"

namespace tess::lab {
namespace {

using nlohmann::json;

constexpr int kStateVersion = 1;
const std::string kMadeFile = std::string(kLabsDirectory) + "/.made";

json to_json(const ProcessName& process) {
  return {{"pid", process.pid}, {"start_time", process.start_time}};
}

ProcessName process_from(const json& value) {
  return {value.at("pid").get<int>(), value.at("start_time").get<uint64_t>()};
}

template <typename T>
json optional_json(const std::optional<T>& value) {
  return value ? json(*value) : json(nullptr);
}

template <typename T>
std::optional<T> optional_from(const json& value) {
  return value.is_null() ? std::nullopt : std::optional<T>(value.get<T>());
}

json to_json(const State& state) {
  json nodes = json::array();
  for (const NodeState& node : state.nodes) {
    nodes.push_back({{"name", node.name},
                     {"address", node.address},
                     {"init", to_json(node.init)},
                     {"cgroups", node.cgroups}});
  }
  return {{"version", kStateVersion},
          {"name", state.spec.name},
          {"node_count", state.spec.node_count},
          {"cpus", optional_json(state.spec.cpus)},
          {"memory_bytes", optional_json(state.spec.memory_bytes)},
          {"rate_bits", optional_json(state.spec.rate_bits)},
          {"balance", state.spec.balance},
          {"tessd", state.spec.tessd},
          {"id", state.id},
          {"pid_namespace", state.pid_namespace},
          {"subnet", state.subnet},
          {"ready", state.ready},
          {"keeper", to_json(state.keeper)},
          {"supervisor", to_json(state.supervisor)},
          {"nodes", nodes}};
}

State state_from(const json& value) {
  State state;
  state.spec.name = value.at("name");
  state.spec.node_count = value.at("node_count");
  state.spec.cpus = optional_from<double>(value.at("cpus"));
  state.spec.memory_bytes = optional_from<uint64_t>(value.at("memory_bytes"));
  state.spec.rate_bits = optional_from<uint64_t>(value.at("rate_bits"));
  state.spec.balance = value.value("balance", true);
  state.spec.tessd = value.at("tessd");
  state.id = value.at("id");
  state.pid_namespace = value.at("pid_namespace");
  state.subnet = value.at("subnet");
  state.ready = value.at("ready");
  state.keeper = process_from(value.at("keeper"));
  state.supervisor = process_from(value.at("supervisor"));
  for (const json& node : value.at("nodes")) {
    state.nodes.push_back({node.at("name"), node.at("address"), process_from(node.at("init")),
                           node.at("cgroups").get<std::vector<std::string>>()});
  }
  return state;
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

void remove_mount_points() {
  const auto made = sys::read_file(kMadeFile);
  std::istringstream lines(made ? *made : "");
  std::vector<std::string> paths;
  for (std::string line; std::getline(lines, line);) {
    paths.push_back(line);
  }
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) {
    ::rmdir(path->c_str());  // not empty: somebody uses it by now, let it be
  }
  ::unlink(kMadeFile.c_str());
}

}  // namespace

Result<ProcessName> ProcessName::of(pid_t pid) {
  TESS_TRY_ASSIGN(const uint64_t start_time, sys::process_start_time(pid));
  return ProcessName{pid, start_time};
}

const NodeState* State::node(const std::string& node_name) const {
  const auto found = std::find_if(nodes.begin(), nodes.end(),
                                  [&](const NodeState& node) { return node.name == node_name; });
  return found == nodes.end() ? nullptr : &*found;
}

bool State::alive() const {
  const auto ours = sys::namespace_id(0, sys::Namespace::kPid);
  return (ours && *ours != pid_namespace) || keeper.open() || supervisor.open();
}

std::string lab_directory(const std::string& name) {
  return std::string(kLabsDirectory) + "/" + name;
}

Result<LabsLock> LabsLock::take() {
  while (true) {
    TESS_TRY(sys::make_directories(kLabsDirectory));
    sys::Fd fd(::open(kLabsDirectory, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) {
      if (errno == ENOENT) {
        continue;
      }
      return fail_errno("open {}", kLabsDirectory);
    }
    // Waits for another `tess lab`, which holds it only for as long as a lab takes to appear or
    // disappear.
    if (::flock(fd.get(), LOCK_EX) != 0) {
      if (errno == EINTR) {
        continue;
      }
      return fail_errno("lock {}", kLabsDirectory);
    }
    // The last lab takes the directory away, perhaps just while we waited: a lock on what is no
    // longer there protects nothing.
    struct stat held {};
    struct stat there {};
    if (::fstat(fd.get(), &held) == 0 && ::stat(kLabsDirectory, &there) == 0 &&
        held.st_ino == there.st_ino && held.st_dev == there.st_dev) {
      return LabsLock(std::move(fd));
    }
  }
}

Result<> write_state(const State& state) {
  return sys::replace_file(lab_directory(state.spec.name) + "/state.json",
                           to_json(state).dump(2) + "\n");
}

Result<State> read_state(const std::string& name) {
  const std::string directory = lab_directory(name);
  if (!exists(directory)) {
    return fail(ErrorKind::kFailed, "there is no lab '{}' (tess lab list shows those there are)",
                name);
  }
  TESS_TRY_ASSIGN(const std::string text, sys::read_file(directory + "/state.json"));
  try {
    const json value = json::parse(text);
    if (value.at("version") != kStateVersion) {
      return fail(ErrorKind::kFailed, "lab '{}' was made by another version of tess", name);
    }
    return state_from(value);
  } catch (const json::exception& error) {
    return fail(ErrorKind::kFailed, "{}/state.json makes no sense: {}", directory, error.what());
  }
}

std::vector<std::string> lab_names() {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(kLabsDirectory), &::closedir);
  while (const dirent* entry = directory != nullptr ? ::readdir(directory.get()) : nullptr) {
    if (entry->d_name[0] != '.') {
      names.emplace_back(entry->d_name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<> make_mount_points(const LabsLock& /*lock*/, const std::vector<std::string>& paths) {
  const auto already = sys::read_file(kMadeFile);
  std::string made = already ? *already : "";
  std::vector<std::string> missing;
  for (const std::string& path : paths) {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      const std::string part = path.substr(0, end);
      if (!exists(part) && std::find(missing.begin(), missing.end(), part) == missing.end()) {
        missing.push_back(part);
        made += part + "\n";
      }
      if (end == std::string::npos) {
        break;
      }
    }
  }
  if (missing.empty()) {
    return {};
  }
  TESS_TRY(sys::replace_file(kMadeFile, made));  // first the note, then the deed
  for (const std::string& path : missing) {
    TESS_TRY(sys::make_directories(path));
  }
  return {};
}

Result<> sweep(const LabsLock& /*lock*/, const std::string& name) {
  if (const auto state = read_state(name)) {
    for (const NodeState& node : state->nodes) {
      TESS_TRY(sys::Cgroup(node.cgroups).remove(std::chrono::seconds(10)));
    }
  }
  TESS_TRY(sys::remove_tree(lab_directory(name)));
  if (lab_names().empty()) {
    remove_mount_points();
    ::rmdir(kLabsDirectory);
  }
  return {};
}

void sweep_dead(const LabsLock& lock) {
  for (const std::string& name : lab_names()) {
    const auto state = read_state(name);
    // A note that says nothing to us is another version's (it is replaced as a whole, never half
    // written), and its lab may well be alive.
    const bool dead = state ? !state->alive() : !exists(lab_directory(name) + "/state.json");
    if (dead) {
      (void)sweep(lock, name);
    }
  }
}

}  // namespace tess::lab
