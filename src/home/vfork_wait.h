// A process in the middle of vfork (every posix_spawn is one) shares its memory for the
// milliseconds until its child has executed its program, and cannot be moved. Nothing tells of that
// moment, so it is looked for.
#pragma once

#include <sys/types.h>

namespace tess::home {

// Blocks for a second at most. False: it shares its memory for longer than any vfork should.
bool wait_out_vfork(pid_t pid);

}  // namespace tess::home
