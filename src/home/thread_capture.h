// Reads everything that the kernel keeps of a stopped application thread into a ThreadContext.
// Tracing thread only.
#pragma once

#include "base/result.h"
#include "home/interrupted_call.h"
#include "home/sleep_clock.h"
#include "stub/abi.h"
#include "stub/session.h"
#include "trace/remote_calls.h"

namespace tess::home {

// `scratch`: address of at least 256 writable bytes in the process that nobody uses.
// `sleeps` has been confirmed for the thread's process.
Result<> capture_thread(const trace::Tracee& tracee, trace::RemoteCalls& calls,
                        const stub::RemoteMemory& memory, uint64_t scratch,
                        const SleepClock& sleeps, stub::ThreadContext& context);

// Which timers on CPU time the process has, into the context of its first thread. What is left of
// them the stub asks the kernel for, once nothing runs any more. That they can move has been looked
// at (migrate/eligibility).
void capture_cpu_timers(pid_t pid, stub::ThreadContext& context);

}  // namespace tess::home
