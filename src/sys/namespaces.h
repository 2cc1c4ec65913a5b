// Namespaces: open those of a process, join them, tell them apart.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

enum class Namespace { kUser, kMount, kPid, kNet, kUts, kIpc, kTime, kCgroup };

const char* namespace_name(Namespace kind);  // as in /proc/PID/ns: "mnt", "net", …
int namespace_clone_flag(Namespace kind);    // CLONE_NEW*

// pid 0: this process. The namespace lives as long as the Fd.
Result<Fd> open_namespace(pid_t pid, Namespace kind);
// Moves the calling thread (kPid: its future children). kMount needs a thread that shares its root
// and cwd with no other.
Result<> enter_namespace(const Fd& ns, Namespace kind);
// The inode number that identifies a namespace.
Result<uint64_t> namespace_id(pid_t pid, Namespace kind);
// New namespaces for this thread; an OR of CLONE_NEW*. For a new pid namespace use Process::fork.
Result<> unshare_namespaces(int clone_flags);

}  // namespace tess::sys
