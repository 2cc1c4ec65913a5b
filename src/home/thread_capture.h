// Reads everything that the kernel keeps of a stopped application thread into a ThreadContext.
// Tracing thread only.
#pragma once

#include "base/result.h"
#include "home/interrupted_call.h"
#include "stub/abi.h"
#include "stub/session.h"
#include "trace/remote_calls.h"

namespace tess::home {

// `scratch`: address of at least 64 writable bytes in the process that nobody uses.
// `sleep_started_ns`: CLOCK_MONOTONIC at which the thread last went to sleep, 0 if not known.
Result<> capture_thread(const trace::Tracee& tracee, trace::RemoteCalls& calls,
                        const stub::RemoteMemory& memory, uint64_t scratch,
                        uint64_t sleep_started_ns, stub::ThreadContext& context);

}  // namespace tess::home
