#include "home/memory_room.h"

namespace tess::home {

MemoryRoom::MemoryRoom(pid_t pid) : pid_(pid) {
  for (Limit& limit : limits_) {
    if (::prlimit(pid_, limit.resource, nullptr, &limit.before) != 0 ||
        limit.before.rlim_cur == RLIM_INFINITY) {
      continue;
    }
    limit.given = {RLIM_INFINITY, RLIM_INFINITY};
    limit.raised = ::prlimit(pid_, limit.resource, &limit.given, nullptr) == 0;
    if (!limit.raised) {
      limit.given = {limit.before.rlim_max, limit.before.rlim_max};
      limit.raised = ::prlimit(pid_, limit.resource, &limit.given, nullptr) == 0;
    }
  }
}

MemoryRoom::~MemoryRoom() {
  for (const Limit& limit : limits_) {
    rlimit now{};
    if (limit.raised && ::prlimit(pid_, limit.resource, nullptr, &now) == 0 &&
        now.rlim_cur == limit.given.rlim_cur && now.rlim_max == limit.given.rlim_max) {
      (void)::prlimit(pid_, limit.resource, &limit.before, nullptr);
    }
  }
}

}  // namespace tess::home
