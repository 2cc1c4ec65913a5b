#include "migrate/sharing.h"

#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string_view>
#include <tuple>

#include "memory/object_number.h"

namespace tess::migrate {
namespace {

using FileId = std::tuple<unsigned, unsigned, unsigned long>;

std::vector<pid_t> other_processes(pid_t pid) {
  std::vector<pid_t> pids;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc", error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.find_first_not_of("0123456789") == std::string::npos && std::stol(name) != pid) {
      pids.push_back(static_cast<pid_t>(std::stol(name)));
    }
  }
  return pids;
}

std::string command_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
  std::string name;
  std::getline(file, name);
  return name;
}

// Only writable ones can carry a change from one process to the other.
bool carries_changes(const memory::Mapping& mapping) {
  return mapping.shared() &&
         (mapping.kind == memory::MappingKind::kAnonShared || (mapping.prot & PROT_WRITE) != 0 ||
          (mapping.traits & memory::kTraitMayWrite) != 0);
}

}  // namespace

namespace {

// Other processes with a shared mapping of one of these objects; `writers`: only those that have it
// mapped for writing.
std::vector<Sharer> find_sharers(pid_t pid, const std::map<FileId, std::string>& wanted,
                                 bool writers) {
  std::vector<Sharer> sharers;
  for (const pid_t other : other_processes(pid)) {
    std::ifstream maps("/proc/" + std::to_string(other) + "/maps");
    std::string line;
    while (std::getline(maps, line)) {
      char permissions[5] = {};
      unsigned major = 0;
      unsigned minor = 0;
      unsigned long inode = 0;
      const size_t space = line.find(' ');
      if (space == std::string::npos || line.size() < space + 5 || line[space + 4] != 's' ||
          std::sscanf(line.c_str(), "%*x-%*x %4s %*x %x:%x %lu", permissions, &major, &minor,
                      &inode) != 4 ||
          (writers && permissions[1] != 'w')) {
        continue;
      }
      const size_t name = line.find('/');
      const std::string_view path =
          name == std::string::npos ? std::string_view() : std::string_view(line).substr(name);
      if (const auto it = wanted.find({major, minor, memory::object_number(inode, path)});
          it != wanted.end()) {
        sharers.push_back({other, command_of(other), it->second});
        break;
      }
    }
  }
  return sharers;
}

}  // namespace

std::vector<Sharer> find_writers(pid_t pid, uint32_t dev_major, uint32_t dev_minor,
                                 uint64_t inode) {
  return find_sharers(pid, {{{dev_major, dev_minor, inode}, std::string()}}, true);
}

std::vector<Sharer> find_mapping_sharers(pid_t pid, const std::vector<memory::Mapping>& mappings) {
  std::map<FileId, std::string> wanted;
  for (const memory::Mapping& mapping : mappings) {
    if (carries_changes(mapping)) {
      wanted[{mapping.dev_major, mapping.dev_minor, mapping.inode}] = mapping.path;
    }
  }
  return wanted.empty() ? std::vector<Sharer>() : find_sharers(pid, wanted, false);
}

std::vector<Sharer> find_clone_sharers(pid_t pid) {
  std::vector<Sharer> sharers;
  for (const pid_t other : other_processes(pid)) {
    if (::syscall(SYS_kcmp, pid, other, KCMP_VM, 0, 0) == 0) {
      sharers.push_back({other, command_of(other), "its whole memory"});
    } else if (::syscall(SYS_kcmp, pid, other, KCMP_FILES, 0, 0) == 0) {
      sharers.push_back({other, command_of(other), "its descriptor table"});
    }
  }
  return sharers;
}

bool has_one_descriptor_table(pid_t pid) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/" + std::to_string(pid) + "/task", error), end;
       !error && it != end; it.increment(error)) {
    const auto tid = static_cast<pid_t>(std::stol(it->path().filename().string()));
    if (tid != pid && ::syscall(SYS_kcmp, pid, tid, KCMP_FILES, 0, 0) > 0) {
      return false;
    }
  }
  return true;
}

}  // namespace tess::migrate
