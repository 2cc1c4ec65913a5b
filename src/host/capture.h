// The image of a parked body, as home would make it. On the thread that owns the session.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "host/sandbox.h"
#include "stub/session.h"

namespace tess::wire {
class ProcessImage;
}

namespace tess::host {

// Tids inside the sandbox, and outside, of all threads of a process.
struct ThreadIds {
  int32_t inside;
  pid_t outside;
};
Result<std::vector<ThreadIds>> threads_of(pid_t outer_pid);
// Whether the process has more threads than that, not counting a leader that has ended before the
// others.
bool has_more_threads(pid_t outer_pid, size_t count);

// `image` comes in as what the body was restored from (or its parent was) and goes out as what it
// is now. Clocks are those that the body sees. With to_home the files are not hashed: home has
// them.
Result<> capture(const Sandbox& sandbox, pid_t outer_pid, stub::Session& session, bool to_home,
                 wire::ProcessImage& image);

// CPU time and resident memory of a process and its threads.
struct ProcessUsage {
  uint64_t cpu_ns = 0;
  uint64_t resident_bytes = 0;
};
Result<ProcessUsage> usage_of(pid_t outer_pid);

}  // namespace tess::host
