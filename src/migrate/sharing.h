// With whom a process shares its memory or its descriptor table. Looks through /proc; a process
// that ends meanwhile counts as gone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "memory/address_space.h"

namespace tess::migrate {

struct Sharer {
  pid_t pid;
  std::string command;
  std::string what;  // the mapping's name, "its whole memory", "its descriptor table"
};

// Other processes that have one of these mappings too (writable shared memory and files).
std::vector<Sharer> find_mapping_sharers(pid_t pid, const std::vector<memory::Mapping>& mappings);
// Other processes that have this object mapped shared for writing.
std::vector<Sharer> find_writers(pid_t pid, uint32_t dev_major, uint32_t dev_minor, uint64_t inode);
// The same of several objects, all processes: by the object's place in the list.
struct ObjectId {
  uint32_t dev_major;
  uint32_t dev_minor;
  uint64_t inode;
};
std::multimap<size_t, Sharer> find_writers(const std::vector<ObjectId>& objects);
// Other processes made by clone with CLONE_VM or CLONE_FILES but without CLONE_THREAD.
std::vector<Sharer> find_clone_sharers(pid_t pid);
// Whether all threads have one descriptor table (none has called unshare(CLONE_FILES)).
bool has_one_descriptor_table(pid_t pid);

}  // namespace tess::migrate
