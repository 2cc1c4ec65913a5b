// What a call that a process of ours waits in makes of being woken without a signal, as by the end
// of tracing: most are repeated by the kernel without a trace, some fail with EINTR.
#pragma once

#include <sys/types.h>

#include "trace/tracee.h"

namespace tess::home {

// `registers`: of a thread that stands at the entry of the call.
bool a_wake_ends(pid_t pid, const trace::Registers& registers);
// `registers`: of a thread that has been woken out of the call (stopped_in_call). Nothing limits
// how long it waits, neither its arguments nor a timeout of a socket, so making it again is not
// noticed.
bool waits_without_limit(pid_t pid, const trace::Registers& registers);

// Of a thread in the call: a stop would end it with a part of what it was to transfer.
bool cut_by_stop(const trace::Registers& registers);

}  // namespace tess::home
