// Small reads from /proc/PID: whole files, and files opened for the memory code.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::memory {

// The whole of /proc/PID/NAME. kDisconnected if the process is gone.
Result<std::string> read_proc(pid_t pid, const std::string& name);
// Opens /proc/PID/NAME (flags without O_CLOEXEC, which is added). kDisconnected if the process is
// gone.
Result<sys::Fd> open_proc(pid_t pid, const std::string& name, int flags);

}  // namespace tess::memory
