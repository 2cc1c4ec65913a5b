// Puts the stub into a held native process, and takes it out again. Tracing thread only. Either the
// whole of it succeeds or the process is as it was before, still held.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "home/sleep_clock.h"
#include "stub/session.h"
#include "sys/fd.h"
#include "trace/tracer.h"

namespace tess::home {

// Where the stub is in a process.
struct Placement {
  uint64_t region_base = 0;
  int32_t fd_base = 0;
};

struct Injected {
  Placement placement;
  sys::Fd mailbox;            // our end
  std::vector<int32_t> tids;  // as the application sees them, by slot
};

// The process is held. On success all its threads are on their way into the stub, no longer held;
// wait for kAllParked on the mailbox. `job` goes into the control block.
Result<Injected> put_stub_in(trace::Tracer& tracer, pid_t pid, uint64_t job,
                             const SleepClock& sleeps);

// The process is parked. From now on, once it is released into kPhaseNative, each thread is held
// before its first instruction outside of the stub; Tracer::all_held() tells when all have arrived.
Result<> catch_leavers(trace::Tracer& tracer, pid_t pid, const Placement& placement);
// All threads have arrived there. Unmaps the region and closes the mailbox; the process stays held.
Result<> take_stub_out(trace::Tracer& tracer, pid_t pid, const Placement& placement);
// The stub is out. Threads that stand before a wait that the move has interrupted are let into it
// and held there; one that a handler reaches first has waited until then, as if it had not been
// moved. `actions`: what the application has installed, by signal.
using Actions = std::array<stub::SignalAction, 65>;
Result<> enter_waits(trace::Tracer& tracer, pid_t pid, const Actions& actions);

// Innermost id of a thread or process of ours: what it sees itself. 0 if it is gone.
int32_t innermost_id(pid_t pid, pid_t tid);

// A hole for the region, aligned to `alignment`, in the address space given as sorted (start, end)
// pairs; `random` picks one of those possible. kNotPossible if there is none.
Result<uint64_t> choose_region(const std::vector<std::pair<uint64_t, uint64_t>>& used,
                               uint64_t random);

// First of the descriptors that the stub takes: out of the application's sight if the limits allow.
struct FdLimits {
  uint64_t soft;
  uint64_t hard;
  int32_t highest_open;
};
Result<int32_t> choose_fd_base(const FdLimits& limits, uint64_t threads);
// A process that is away, before a hop: kNotPossible if its limit of descriptors, lowered
// meanwhile, has no room for new channels at the old ones' numbers.
Result<> check_descriptor_room(pid_t pid, const Placement& placement);

}  // namespace tess::home
