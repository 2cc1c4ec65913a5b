// docs/syscalls.md, made from the table.
#pragma once

#include <string>

namespace tess::syscalls {

std::string syscalls_document();

}  // namespace tess::syscalls
