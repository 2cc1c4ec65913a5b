// The table for people: names and reasons. Hosted side only.
#pragma once

#include <cstdint>
#include <string_view>

namespace tess::syscalls {

// "openat"; empty for a number that is no system call.
std::string_view syscall_name(uint64_t number);
// Why a refused call is refused; empty for the others.
std::string_view refusal_reason(uint64_t number);

}  // namespace tess::syscalls
