#include "home/call_state.h"

#include <fmt/format.h>
#include <sys/syscall.h>

#include <cstdio>
#include <string>

#include "stub/abi.h"
#include "sys/files.h"

namespace tess::home {
namespace {

// Not held by a tracer, as a thread that has just been made is.
bool sleeps(const std::string& folder) {
  const auto stat = sys::read_file(folder + "/stat");
  const size_t end = stat ? stat->rfind(')') : std::string::npos;
  return end != std::string::npos && stat->compare(end, 3, ") S") == 0;
}

// Calls that the stub itself waits in: for its body, its agent, or another thread of the process.
bool is_ours(long number, unsigned long first, const Placement& placement) {
  switch (number) {
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
      return static_cast<int64_t>(first) >= placement.fd_base;
    case SYS_futex:
      return first >= placement.region_base && first < placement.region_base + stub::kRegionSize;
    default:
      return false;
  }
}

}  // namespace

// It may begin or end a call between two looks, so what was seen in the middle counts only if it
// sleeps before and after.
bool waits_in_call(pid_t pid, pid_t tid, const Placement& placement) {
  const std::string folder = fmt::format("/proc/{}/task/{}", pid, tid);
  if (!sleeps(folder)) {
    return false;
  }
  const auto call = sys::read_file(folder + "/syscall");
  long number = -1;
  unsigned long first = 0;
  return call && std::sscanf(call->c_str(), "%ld %lx", &number, &first) == 2 && number >= 0 &&
         !is_ours(number, first, placement) && sleeps(folder);
}

}  // namespace tess::home
