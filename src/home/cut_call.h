// A transfer that a stop of ours has cut short: how far it had come.
#pragma once

#include "stub/session.h"
#include "trace/remote_calls.h"
#include "trace/tracee.h"

namespace tess::home {

// `registers`: of a thread stopped at the end of a call. The bytes that this had transferred, if it
// would have gone on with the rest but for our stop (stub/transfer.h); 0 for any other call, and
// for one that had not begun or was complete. A handler that comes now ends it with that many.
// `scratch`: 256 writable bytes in the process that nobody uses.
uint64_t transferred_when_cut(const trace::Registers& registers, trace::RemoteCalls& calls,
                              const stub::RemoteMemory& memory, uint64_t scratch);

}  // namespace tess::home
