#include "migrate/sharing.h"

#include <linux/kcmp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
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

struct SharedLine {
  FileId file;
  bool writable = false;
  std::string_view path;
};

// A line of /proc/PID/maps, if it is of a shared mapping.
std::optional<SharedLine> parse_shared(const std::string& line) {
  char permissions[5] = {};
  unsigned major = 0;
  unsigned minor = 0;
  unsigned long inode = 0;
  const size_t space = line.find(' ');
  if (space == std::string::npos || line.size() < space + 5 || line[space + 4] != 's' ||
      std::sscanf(line.c_str(), "%*x-%*x %4s %*x %x:%x %lu", permissions, &major, &minor, &inode) !=
          4) {
    return std::nullopt;
  }
  const size_t name = line.find('/');
  SharedLine shared;
  shared.writable = permissions[1] == 'w';
  shared.path =
      name == std::string::npos ? std::string_view() : std::string_view(line).substr(name);
  shared.file = {major, minor, memory::object_number(inode, shared.path)};
  return shared;
}

// Until `look` gives false.
void each_shared(pid_t pid, auto look) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::string line;
  while (std::getline(maps, line)) {
    if (const auto shared = parse_shared(line); shared && !look(*shared)) {
      break;
    }
  }
}

// Other processes with a shared mapping of one of these objects.
std::vector<Sharer> find_sharers(pid_t pid, const std::map<FileId, std::string>& wanted) {
  std::vector<Sharer> sharers;
  for (const pid_t other : other_processes(pid)) {
    each_shared(other, [&](const SharedLine& shared) {
      const auto it = wanted.find(shared.file);
      if (it == wanted.end()) {
        return true;
      }
      sharers.push_back({other, command_of(other), it->second});
      return false;
    });
  }
  return sharers;
}

}  // namespace

std::vector<Sharer> find_writers(pid_t pid, uint32_t dev_major, uint32_t dev_minor,
                                 uint64_t inode) {
  std::vector<Sharer> writers;
  for (auto& [index, writer] : find_writers({{dev_major, dev_minor, inode}})) {
    if (writer.pid != pid) {
      writers.push_back(std::move(writer));
    }
  }
  return writers;
}

std::multimap<size_t, Sharer> find_writers(const std::vector<ObjectId>& objects) {
  std::map<FileId, size_t> wanted;
  for (size_t i = 0; i < objects.size(); ++i) {
    wanted.emplace(FileId{objects[i].dev_major, objects[i].dev_minor, objects[i].inode}, i);
  }
  std::multimap<size_t, Sharer> writers;
  for (const pid_t pid : other_processes(0)) {
    std::set<size_t> found;
    each_shared(pid, [&](const SharedLine& shared) {
      if (const auto it = wanted.find(shared.file); shared.writable && it != wanted.end()) {
        found.insert(it->second);
      }
      return found.size() < wanted.size();
    });
    for (const size_t index : found) {
      writers.emplace(index, Sharer{pid, command_of(pid), std::string()});
    }
  }
  return writers;
}

std::vector<Sharer> find_mapping_sharers(pid_t pid, const std::vector<memory::Mapping>& mappings) {
  std::map<FileId, std::string> wanted;
  for (const memory::Mapping& mapping : mappings) {
    if (carries_changes(mapping)) {
      wanted[{mapping.dev_major, mapping.dev_minor, mapping.inode}] = mapping.path;
    }
  }
  return wanted.empty() ? std::vector<Sharer>() : find_sharers(pid, wanted);
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
