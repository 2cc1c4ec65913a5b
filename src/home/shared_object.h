// What a process at home has mapped shared, and the object behind it (a file, also one that is
// deleted or has no name; shared anonymous memory; a System V segment), opened by way of the
// mapping itself.
#pragma once

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::home {

// An object as /proc/PID/maps names it.
struct ObjectKey {
  uint32_t dev_major = 0;
  uint32_t dev_minor = 0;
  uint64_t inode = 0;
  auto operator<=>(const ObjectKey&) const = default;
};

struct SharedMapping {
  ObjectKey key;
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t offset = 0;
  bool may_write = false;  // now, or by mprotect. Only from read_shared_mapping
  bool written = false;    // is mapped for writing now
  bool anonymous = false;  // not a file that could be opened or read
  // Who does not inherit it cannot come to have it: memory without file or key (MAP_ANONYMOUS).
  bool inherited = false;
  std::string path;
};

// All shared mappings of a process but devices'. Empty if it is gone.
std::vector<SharedMapping> shared_mappings(pid_t pid);
// The one at that address. kNotPossible if nothing shared is there.
Result<SharedMapping> read_shared_mapping(pid_t pid, uint64_t address);
// For reading. While a file is open for writing nobody can execute it.
Result<sys::Fd> open_object(pid_t pid, const SharedMapping& mapping);
uint64_t object_size(const sys::Fd& object);  // bytes; 0 if it cannot be looked at

}  // namespace tess::home
