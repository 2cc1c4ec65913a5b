// What has to be done to a process's mappings to make them those of its body: pure computation.
// Ranges that are special on either side (vDSO, vvar, vsyscall) are left alone.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/address_space.h"
#include "stub/abi.h"

namespace tess::home {

struct AddressDiff {
  std::vector<stub::SyscallRequest> before;  // munmap and anonymous mmap, in this order
  std::vector<memory::Mapping> files;        // to be mapped at their place, any order
  std::vector<stub::SyscallRequest> after;   // mprotect, madvise, mlock
  // mprotect of what could be written to once (kWasWritable). Once it has its pages: without them
  // the kernel would forget that it could.
  std::vector<stub::SyscallRequest> last;
};

// `now`: the process's mappings, `wanted`: the body's; both sorted, without the stub's region.
AddressDiff diff_address_spaces(const std::vector<memory::Mapping>& now,
                                const std::vector<memory::Mapping>& wanted);

}  // namespace tess::home
