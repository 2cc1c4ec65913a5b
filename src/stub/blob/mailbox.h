// Messages of the mailbox (abi.h), as the parked thread and those that ask the agent use them.
#pragma once

#include "stub/blob/core.h"

namespace tess::stub {

// One message and the descriptors in it, at most kFdsMax + 2. Bytes received; 0 at end of file.
long receive_message(int32_t mailbox, void* into, size_t size, int32_t* fds, uint32_t* fd_count);
// `head`, and `more` right behind it. Bytes sent, or -errno.
long send_message(int32_t mailbox, const void* head, size_t head_size, const void* more,
                  size_t size);

}  // namespace tess::stub
