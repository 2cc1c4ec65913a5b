#include "memory/proc_file.h"

#include <fcntl.h>
#include <unistd.h>

namespace tess::memory {

Result<sys::Fd> open_proc(pid_t pid, const std::string& name, int flags) {
  const std::string path = fmt::format("/proc/{}/{}", pid, name);
  sys::Fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd.valid()) {
    if (errno == ENOENT && ::access(fmt::format("/proc/{}", pid).c_str(), F_OK) != 0) {
      return fail(ErrorKind::kDisconnected, "open {}: the process is gone", path);
    }
    return fail_errno("open {}", path);
  }
  return fd;
}

Result<std::string> read_proc(pid_t pid, const std::string& name) {
  TESS_TRY_ASSIGN(const sys::Fd fd, open_proc(pid, name, O_RDONLY));
  std::string text;
  size_t used = 0;
  while (true) {
    text.resize(used + std::max<size_t>(used, 16 << 10));
    const ssize_t n = ::read(fd.get(), text.data() + used, text.size() - used);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == ESRCH) {
      return fail(ErrorKind::kDisconnected, "read /proc/{}/{}: the process is gone", pid, name);
    }
    if (n < 0) {
      return fail_errno("read /proc/{}/{}", pid, name);
    }
    if (n == 0) {
      text.resize(used);
      return text;
    }
    used += static_cast<size_t>(n);
  }
}

}  // namespace tess::memory
