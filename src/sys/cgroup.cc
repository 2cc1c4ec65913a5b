#include "sys/cgroup.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "sys/files.h"

namespace tess::sys {
namespace {

constexpr int kPeriodMicroseconds = 100'000;
constexpr int64_t kSmallestQuotaMicroseconds = 1'000;  // the kernel refuses less

struct Mount {
  std::string directory;
  std::string root;  // the part of the hierarchy that is visible here
  bool version2 = false;
  std::string options;
};

bool has_word(const std::string& text, const std::string& word, char separator) {
  std::istringstream words(text);
  for (std::string each; std::getline(words, each, separator);) {
    if (each == word) {
      return true;
    }
  }
  return false;
}

// proc(5), mountinfo: id parent dev root mountpoint options [tags…] - type source superoptions
std::vector<Mount> cgroup_mounts() {
  std::vector<Mount> mounts;
  const auto text = read_file("/proc/self/mountinfo");
  std::istringstream lines(text ? *text : "");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string skip;
    std::string type;
    std::string source;
    Mount mount;
    fields >> skip >> skip >> skip >> mount.root >> mount.directory;
    while (fields >> skip && skip != "-") {
    }
    fields >> type >> source >> mount.options;
    mount.version2 = type == "cgroup2";
    if (type == "cgroup" || type == "cgroup2") {
      mounts.push_back(std::move(mount));
    }
  }
  return mounts;
}

// The caller's group in a version 1 hierarchy, as a directory below its mount point.
std::string own_version1_directory(const Mount& mount, const std::string& controller) {
  const auto text = read_file("/proc/self/cgroup");
  std::istringstream lines(text ? *text : "");
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos ||
        !has_word(line.substr(first + 1, second - first - 1), controller, ',')) {
      continue;
    }
    std::string path = line.substr(second + 1);
    if (mount.root != "/" && path.starts_with(mount.root)) {
      path = path.substr(mount.root.size());
    }
    if (path == "/" || path.empty() || ::access((mount.directory + path).c_str(), W_OK) != 0) {
      return mount.directory;
    }
    return mount.directory + path;
  }
  return mount.directory;
}

struct Place {
  std::string path;
  std::string top;  // version 2 only: the mount point
  bool version2() const { return !top.empty(); }
};

void add_once(std::vector<std::string>& list, const std::string& text) {
  if (std::find(list.begin(), list.end(), text) == list.end()) {
    list.push_back(text);
  }
}

// Where this controller lives. Two controllers may share a directory.
Result<Place> find_place(const std::vector<Mount>& mounts, const std::string& controller,
                         const std::string& name) {
  for (const Mount& mount : mounts) {
    if (!mount.version2 && has_word(mount.options, controller, ',')) {
      return Place{own_version1_directory(mount, controller) + "/" + name, {}};
    }
  }
  for (const Mount& mount : mounts) {
    auto available = mount.version2 ? read_file(mount.directory + "/cgroup.controllers") : "";
    if (available && !available->empty() && available->back() == '\n') {
      available->pop_back();
    }
    if (available && has_word(*available, controller, ' ')) {
      return Place{mount.directory + "/" + name, mount.directory};
    }
  }
  return fail(ErrorKind::kNotPossible, "this machine has no {} cgroup controller", controller);
}

Result<Place> make_place(const std::vector<Mount>& mounts, const std::string& controller,
                         const std::string& name, std::vector<std::string>& made) {
  TESS_TRY_ASSIGN(Place place, find_place(mounts, controller, name));
  if (place.version2()) {
    TESS_TRY(write_control(place.top + "/cgroup.subtree_control", "+" + controller));
  }
  if (::mkdir(place.path.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail_errno("make cgroup {}", place.path);
  }
  add_once(made, place.path);
  return place;
}

Result<> limit_cpus(const Place& place, double cpus) {
  const int64_t quota =
      std::max<int64_t>(std::llround(cpus * kPeriodMicroseconds), kSmallestQuotaMicroseconds);
  if (place.version2()) {
    return write_control(place.path + "/cpu.max", fmt::format("{} {}", quota, kPeriodMicroseconds));
  }
  TESS_TRY(write_control(place.path + "/cpu.cfs_period_us", std::to_string(kPeriodMicroseconds)));
  return write_control(place.path + "/cpu.cfs_quota_us", std::to_string(quota));
}

Result<> limit_memory(const Place& place, uint64_t bytes) {
  const char* file = place.version2() ? "/memory.max" : "/memory.limit_in_bytes";
  return write_control(place.path + file, std::to_string(bytes));
}

Result<> apply(const std::string& name, const CgroupLimits& limits,
               std::vector<std::string>& made) {
  const std::vector<Mount> mounts = cgroup_mounts();
  if (limits.cpus) {
    TESS_TRY_ASSIGN(const Place place, make_place(mounts, "cpu", name, made));
    TESS_TRY(limit_cpus(place, *limits.cpus));
  }
  if (limits.memory_bytes) {
    TESS_TRY_ASSIGN(const Place place, make_place(mounts, "memory", name, made));
    TESS_TRY(limit_memory(place, *limits.memory_bytes));
  }
  return {};
}

}  // namespace

Result<Cgroup> Cgroup::make(const std::string& name, const CgroupLimits& limits) {
  Cgroup group({});
  if (auto applied = apply(name, limits, group.paths_); !applied) {
    (void)group.remove(std::chrono::milliseconds(0));
    Error error = std::move(applied.error()).context("limit CPU or memory by cgroup");
    return tl::unexpected<Error>(
        Error(ErrorKind::kNotPossible, error.message(), error.sys_errno()));
  }
  return group;
}

Result<std::vector<std::string>> Cgroup::plan(const std::string& name, const CgroupLimits& limits) {
  const std::vector<Mount> mounts = cgroup_mounts();
  std::vector<std::string> paths;
  if (limits.cpus) {
    TESS_TRY_ASSIGN(const Place place, find_place(mounts, "cpu", name));
    add_once(paths, place.path);
  }
  if (limits.memory_bytes) {
    TESS_TRY_ASSIGN(const Place place, find_place(mounts, "memory", name));
    add_once(paths, place.path);
  }
  return paths;
}

Result<> Cgroup::join() const {
  for (const std::string& path : paths_) {
    TESS_TRY(write_control(path + "/cgroup.procs", "0"));  // 0: the writer
  }
  return {};
}

Result<> Cgroup::remove(std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (const std::string& path : paths_) {
    // Version 1 tells nobody when a group empties, so rmdir itself is the question; a dead process
    // leaves within microseconds.
    while (::rmdir(path.c_str()) != 0 && errno != ENOENT) {
      if (errno != EBUSY || std::chrono::steady_clock::now() >= deadline) {
        return fail_errno("remove cgroup {}", path);
      }
      ::poll(nullptr, 0, 5);
    }
  }
  return {};
}

}  // namespace tess::sys
