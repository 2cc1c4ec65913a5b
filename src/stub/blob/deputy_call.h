// Executing one request at home.
#pragma once

#include "stub/blob/core.h"

namespace tess::stub {

// Receives, executes and answers one request. False: the channel is lost.
bool serve_request(Slot* slot);
// Installs our handler for a caught signal, or the default or ignore as it is.
long set_deputy_handler(int signal, const SignalAction& action);
// kOpClone: a real child or thread with a deputy in `slot` args[1]. Returns its tid or -errno.
long deputy_clone(Slot* slot, const uint64_t args[6], int32_t* pidfd);

}  // namespace tess::stub
