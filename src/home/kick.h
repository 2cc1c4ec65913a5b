// Makes the threads of a deputy look at their freeze word: each is stopped for a moment, its kick
// bit is set, and a call that it waits in is aborted before it has had an effect. Tracing thread
// only. To be repeated until all are parked. `kick`: the bits to set (stub::kPendingKick, also
// kPendingHold for threads that have yet to leave an earlier rest).
#pragma once

#include "base/result.h"
#include "stub/session.h"
#include "trace/tracer.h"

namespace tess::home {

Result<> kick_deputy(trace::Tracer& tracer, pid_t pid, const stub::Session& session,
                     uint32_t kick = stub::kPendingKick);

// Takes a freeze back: if no thread is parked yet, clears the freeze word and all kick bits, so
// that calls are no longer aborted. With threads at rest already it leaves everything as it is.
Result<> unkick_deputy(trace::Tracer& tracer, pid_t pid, stub::Session& session);

}  // namespace tess::home
