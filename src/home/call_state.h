// Whether a thread whose body is on a host waits in a call that home makes for it: the host sees it
// sleep whenever it waits for an answer, also of a call that takes no time.
#pragma once

#include <sys/types.h>

#include "home/injector.h"

namespace tess::home {

// `tid` is a thread of the deputy `pid`. One that waits for its body's next call waits in none.
bool waits_in_call(pid_t pid, pid_t tid, const Placement& placement);

}  // namespace tess::home
