// What `tess run` does before it executes: has tessd make the calling process a job, with the
// caller's own rights. tessd may be away for a while (it is being restarted): then this waits.
#pragma once

#include "base/result.h"
#include "batch/keeper.h"

namespace tess::batch {

// kRetry: it could not be asked, or cannot do it now; anything else is for good.
Result<> attach_to_tessd(const Order& order);

}  // namespace tess::batch
