// While we map into a process at home what is ours, or what of its own comes back, its limits of
// memory (RLIMIT_AS, RLIMIT_DATA) do not count: natively it would not have both. As far as we may
// raise them (CAP_SYS_RESOURCE; else up to the hard limits).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>

namespace tess::home {

class MemoryRoom {
 public:
  explicit MemoryRoom(pid_t pid);
  ~MemoryRoom();  // the limits are as before, unless somebody has set them meanwhile
  MemoryRoom(const MemoryRoom&) = delete;
  MemoryRoom& operator=(const MemoryRoom&) = delete;

 private:
  struct Limit {
    __rlimit_resource resource;
    bool raised;
    rlimit before;
    rlimit given;
  };
  pid_t pid_;
  std::array<Limit, 2> limits_{{{RLIMIT_AS, false, {}, {}}, {RLIMIT_DATA, false, {}, {}}}};
};

}  // namespace tess::home
