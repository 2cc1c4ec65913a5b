// What a call that a process of ours waits in makes of being woken without a signal, as by the end
// of tracing: most are repeated by the kernel without a trace, some fail with EINTR.
#pragma once

#include <sys/types.h>

#include "trace/tracee.h"

namespace tess::home {

// `registers`: of a thread that stands at the entry of the call.
bool a_wake_ends(pid_t pid, const trace::Registers& registers);

}  // namespace tess::home
