// Out of code in which a thread must not be found: the vDSO, where it may have read half of a clock
// that is another one on another machine.
#pragma once

#include <cstdint>

#include "trace/tracee.h"
#include "trace/wait_hub.h"

namespace tess::trace {

struct CodeRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  bool contains(uint64_t address) const { return address >= begin && address < end; }
};

// Of the process; empty if it has none.
CodeRange vdso_code(pid_t pid);

// The thread is stopped. Steps it, one instruction at a time and without any signal, until it is
// not in `range`; it stands stopped again. A stop that arrives meanwhile takes effect when it runs
// again.
Result<> step_out_of(WaitHub& hub, const Tracee& tracee, const CodeRange& range);

}  // namespace tess::trace
