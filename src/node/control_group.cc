#include "node/control_group.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <sstream>
#include <vector>

#include "sys/files.h"

namespace tess::node {
namespace {

// One line of /proc/self/cgroup: "4:cpu,cpuacct:/a/b", or "0::/a/b" for version 2.
struct Line {
  std::string controllers;
  std::string path;
  bool has(const std::string& controller) const {
    return ("," + controllers + ",").find("," + controller + ",") != std::string::npos;
  }
};

std::vector<Line> lines_of(const std::string& membership) {
  std::vector<Line> found;
  std::istringstream lines(membership);
  std::string line;
  while (std::getline(lines, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second != std::string::npos) {
      found.push_back({line.substr(first + 1, second - first - 1), line.substr(second + 1)});
    }
  }
  return found;
}

// Each folder from the group's own up to the top of its mount.
void each_level(const std::string& mount, const std::string& path,
                const std::function<void(const std::string& dir)>& look) {
  std::error_code error;
  if (!std::filesystem::is_directory(mount, error)) {
    return;
  }
  // Outside of the namespace's own part of the tree nothing is to be seen.
  std::string at = path.find("/..") == std::string::npos ? path : std::string();
  while (!at.empty() && at != "/") {
    look(mount + at);
    at.resize(at.rfind('/') == std::string::npos ? 0 : at.rfind('/'));
  }
  look(mount);
}

std::optional<uint64_t> read_number(const std::string& path) {
  const auto text = sys::read_file(path);
  if (!text || text->empty() || (*text)[0] < '0' || (*text)[0] > '9') {
    return std::nullopt;  // "max" is no limit
  }
  return std::strtoull(text->c_str(), nullptr, 10);
}

// "inactive_file 4096" among the lines of memory.stat: 4096.
uint64_t stat_of(const std::string& path, const std::string& name) {
  const auto text = sys::read_file(path);
  std::istringstream words(text ? *text : std::string());
  std::string word;
  for (uint64_t value = 0; words >> word >> value;) {
    if (word == name) {
      return value;
    }
  }
  return 0;
}

void take_level(std::optional<CgroupMemory>& least, std::optional<uint64_t> limit,
                std::optional<uint64_t> used, uint64_t reclaimable) {
  if (!limit || !used) {
    return;
  }
  const uint64_t held = *used - std::min(*used, reclaimable);
  const uint64_t free = *limit - std::min(*limit, held);
  least = CgroupMemory{std::min(least ? least->limit : *limit, *limit),
                       std::min(least ? least->free : free, free)};
}

void take_memory_v1(std::optional<CgroupMemory>& least, const std::string& dir) {
  take_level(least, read_number(dir + "/memory.limit_in_bytes"),
             read_number(dir + "/memory.usage_in_bytes"),
             stat_of(dir + "/memory.stat", "total_inactive_file"));
}

void take_memory_v2(std::optional<CgroupMemory>& least, const std::string& dir) {
  const auto most = read_number(dir + "/memory.max");
  const auto high = read_number(dir + "/memory.high");  // beyond it the kernel slows it down
  take_level(least,
             most && high ? std::min(most, high)
             : most       ? most
                          : high,
             read_number(dir + "/memory.current"), stat_of(dir + "/memory.stat", "inactive_file"));
}

void take_quota(std::optional<double>& least, double quota, double period) {
  if (quota > 0 && period > 0) {
    least = std::min(least.value_or(quota / period), quota / period);
  }
}

void take_quota_v1(std::optional<double>& least, const std::string& dir) {
  const auto quota = read_number(dir + "/cpu.cfs_quota_us");  // -1: none
  const auto period = read_number(dir + "/cpu.cfs_period_us");
  take_quota(least, static_cast<double>(quota.value_or(0)),
             static_cast<double>(period.value_or(0)));
}

void take_quota_v2(std::optional<double>& least, const std::string& dir) {
  const auto text = sys::read_file(dir + "/cpu.max");
  double quota = 0;
  double period = 0;
  if (text && std::istringstream(*text) >> quota >> period) {  // "max 100000": no number
    take_quota(least, quota, period);
  }
}

}  // namespace

std::optional<CgroupMemory> cgroup_memory(const std::string& membership, const std::string& root) {
  std::optional<CgroupMemory> least;
  for (const Line& line : lines_of(membership)) {
    if (line.controllers.empty()) {
      for (const char* mount : {"", "/unified"}) {
        each_level(root + mount, line.path,
                   [&](const std::string& dir) { take_memory_v2(least, dir); });
      }
    } else if (line.has("memory")) {
      each_level(root + "/memory", line.path,
                 [&](const std::string& dir) { take_memory_v1(least, dir); });
    }
  }
  return least;
}

std::optional<double> cgroup_cpus(const std::string& membership, const std::string& root) {
  std::optional<double> least;
  for (const Line& line : lines_of(membership)) {
    if (line.controllers.empty()) {
      for (const char* mount : {"", "/unified"}) {
        each_level(root + mount, line.path,
                   [&](const std::string& dir) { take_quota_v2(least, dir); });
      }
    } else if (line.has("cpu")) {
      // "/sys/fs/cgroup/cpu" is a link to "cpu,cpuacct", or not there.
      for (const std::string& mount : {line.controllers, std::string("cpu")}) {
        each_level(root + "/" + mount, line.path,
                   [&](const std::string& dir) { take_quota_v1(least, dir); });
      }
    }
  }
  return least;
}

}  // namespace tess::node
