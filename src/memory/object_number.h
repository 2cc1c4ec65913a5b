// Which object a mapping is of, besides its device. The inode number says so, but for System V
// shared memory: that has its identifier in the inode's place, on the device on which memfds and
// shared anonymous memory count their inodes.
#pragma once

#include <cstdint>
#include <string_view>

namespace tess::memory {

// `path` as /proc/PID/maps has it. No inode of the kernel's has the topmost bit.
inline uint64_t object_number(uint64_t inode, std::string_view path) {
  constexpr uint64_t kSysv = uint64_t{1} << 63;
  return path.starts_with("/SYSV") ? inode | kSysv : inode;
}

}  // namespace tess::memory
