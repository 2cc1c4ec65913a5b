// Does a program trace others? Only one process can trace another, so what such a program looks at
// must not be ours: it stays at home, and so do the programs that it starts.
#pragma once

#include <sys/types.h>

#include "sys/fd.h"

namespace tess::home {

// It is linked against ptrace, or with a sanitizer that looks for leaks (which stops the process's
// own threads by ptrace when it ends). False for what cannot be looked at, and for programs without
// dynamic linking.
bool traces_others(const sys::Fd& program);
bool traces_others(pid_t pid);  // what the process has executed

}  // namespace tess::home
