// Mounts, in words. All act on the calling thread's mount namespace; call isolate_mounts() in a
// fresh one first, or they may show on the machine.
#pragma once

#include <string>

#include "base/result.h"

namespace tess::sys {

// Nothing mounted here from now on is seen outside this namespace. Mounts and unmounts made outside
// still come in, so that a lab does not keep a removed disk busy.
Result<> isolate_mounts();

Result<> mount_filesystem(const std::string& type, const std::string& target, unsigned long flags,
                          const std::string& options = {});
// Shows `source` (file or directory) at `target`, which must exist.
Result<> bind_mount(const std::string& source, const std::string& target, bool read_only);
Result<> remount_read_only(const std::string& target);
// At once for new users; really when the last user is gone.
Result<> detach_mount(const std::string& target);
// `directory`, a mount point, becomes the root of this namespace and the old root disappears. cwd
// is / afterwards.
Result<> pivot_to(const std::string& directory);

}  // namespace tess::sys
