#include "trace/endless_read.h"

#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <string>

namespace tess::trace {
namespace {

constexpr uint64_t kPage = 4096;

// Documentation/admin-guide/devices.txt: zero, full, random, urandom.
bool is_endless_device(pid_t tid, uint32_t fd) {
  struct stat status {};
  const std::string path = "/proc/" + std::to_string(tid) + "/fd/" + std::to_string(fd);
  if (::stat(path.c_str(), &status) != 0 || !S_ISCHR(status.st_mode) ||
      major(status.st_rdev) != 1) {
    return false;
  }
  const unsigned number = minor(status.st_rdev);
  return number == 5 || number == 7 || number == 8 || number == 9;
}

}  // namespace

bool is_cut_read(pid_t tid, const Registers& registers) {
  const auto result = static_cast<int64_t>(registers.rax);
  if (static_cast<int64_t>(registers.orig_rax) < 0 || result <= 0 || registers.rax % kPage != 0) {
    return false;
  }
  switch (registers.orig_rax) {
    case SYS_getrandom:
      return registers.rax < registers.rsi;
    case SYS_read:
    case SYS_pread64:
      return registers.rax < registers.rdx &&
             is_endless_device(tid, static_cast<uint32_t>(registers.rdi));
    case SYS_readv:
    case SYS_preadv:
    case SYS_preadv2:
      return is_endless_device(tid, static_cast<uint32_t>(registers.rdi));
    default:
      return false;
  }
}

}  // namespace tess::trace
