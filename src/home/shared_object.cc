#include "home/shared_object.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cinttypes>
#include <cstdio>
#include <fstream>

#include "memory/address_space.h"

namespace tess::home {
namespace {

SharedMapping to_shared(const memory::Mapping& mapping) {
  SharedMapping shared;
  shared.key = {mapping.dev_major, mapping.dev_minor, mapping.inode};
  shared.start = mapping.start;
  shared.end = mapping.end;
  shared.offset = mapping.offset;
  shared.may_write = (mapping.traits & memory::kTraitMayWrite) != 0;
  shared.written = (mapping.prot & PROT_WRITE) != 0;
  shared.anonymous = mapping.kind == memory::MappingKind::kAnonShared;
  shared.path = mapping.path;
  shared.inherited = shared.anonymous && mapping.path.starts_with("/dev/zero");
  return shared;
}

bool is_device(const memory::Mapping& mapping) {
  return mapping.kind == memory::MappingKind::kFileShared &&
         (mapping.path.starts_with("/dev/") && !mapping.path.starts_with("/dev/shm/"));
}

}  // namespace

std::vector<SharedMapping> shared_mappings(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::string wanted;
  std::string line;
  while (std::getline(maps, line)) {
    // "start-end rwxs ": only these are looked at more closely.
    const size_t space = line.find(' ');
    if (space != std::string::npos && line.size() > space + 4 && line[space + 4] == 's') {
      wanted += line + "\n";
    }
  }
  std::vector<SharedMapping> found;
  if (const auto mappings = memory::parse_address_space(wanted); mappings) {
    for (const memory::Mapping& mapping : *mappings) {
      if (mapping.shared() && mapping.inode != 0 && !is_device(mapping)) {
        found.push_back(to_shared(mapping));
      }
    }
  }
  return found;
}

Result<SharedMapping> read_shared_mapping(pid_t pid, uint64_t address) {
  TESS_TRY_ASSIGN(const auto mappings, memory::read_address_space(pid));
  for (const memory::Mapping& mapping : mappings) {
    if (mapping.start <= address && address < mapping.end) {
      constexpr uint32_t kNever =
          memory::kTraitHugetlb | memory::kTraitAio | memory::kTraitIo | memory::kTraitPfnMap;
      if (!mapping.shared() || mapping.inode == 0 || is_device(mapping) ||
          (mapping.traits & kNever) != 0) {
        break;
      }
      return to_shared(mapping);
    }
  }
  return fail(ErrorKind::kNotPossible, "process {} has nothing that could be shared at {:x}", pid,
              address);
}

Result<sys::Fd> open_object(pid_t pid, const SharedMapping& mapping) {
  const std::string path =
      fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.start, mapping.end);
  sys::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) {
    return fail_errno("open {}, mapped by process {}", mapping.path, pid);
  }
  return fd;
}

uint64_t object_size(const sys::Fd& object) {
  struct stat info {};
  return ::fstat(object.get(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

}  // namespace tess::home
