// What runs inside the sandbox: the first stage (makes the namespaces), then pid 1 (spawns blank
// bodies, reaps). Messages between it and the agent are these structs on two SOCK_SEQPACKET pairs:
// requests with their replies, and exits as events. Everything here runs in a copy of the
// single-threaded agent and uses system calls only.
#pragma once

#include <cstdint>

namespace tess::host {

enum class InitCommand : uint32_t {
  kMapped = 1,  // to the first stage: uid and gid maps are written; go on
  kStart = 2,   // to the first stage: clock offsets are written; become pid 1
  kSpawn = 3,   // make a blank body `pid`; fd: its mailbox. Reply carries a pidfd
  kOpen = 4,    // a pidfd for the process that is `pid` inside
};

struct InitRequest {
  InitCommand command;
  int32_t pid;
  uint64_t region_base;
  uint64_t job;
  uint64_t slot;  // of the leader: the same number as at home
};

struct InitReply {
  int32_t result;  // 0 or -errno
  uint32_t step;   // first stage: which step failed (InitStep)
};

struct InitExit {
  int32_t pid;
  int32_t wait_status;
};

// The only descriptor of a body that is not a channel.
inline constexpr int kBodyFdBase = 3;

// Name of a step of the first stage, for an error message.
const char* init_step_name(uint32_t step);

// Never returns. Both sockets are blocking.
[[noreturn]] void run_sandbox(int requests, int exits);

}  // namespace tess::host
