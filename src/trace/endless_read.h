// Reads that give as much as is asked for: getrandom, and reads of devices as /dev/zero and
// /dev/urandom. The kernel ends a long one early, at a page, for anything that stops its thread.
// Nothing is lost if it is made again from the start.
#pragma once

#include <sys/types.h>

#include "trace/tracee.h"

namespace tess::trace {

// `registers`: of thread `tid`, stopped. Whether they stand at the end of such a read that has been
// cut short, or may have been.
bool is_cut_read(pid_t tid, const Registers& registers);

}  // namespace tess::trace
