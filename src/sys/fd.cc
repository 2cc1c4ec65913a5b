#include "sys/fd.h"

#include <unistd.h>

namespace tess::sys {

void Fd::reset() {
  if (fd_ >= 0) {
    ::close(std::exchange(fd_, -1));
  }
}

Result<> write_all(const Fd& fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("write {} bytes", data.size());
    }
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<> read_all(const Fd& fd, std::span<std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::read(fd.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read {} bytes", data.size());
    }
    if (n == 0) {
      return fail(ErrorKind::kDisconnected, "end of file with {} bytes still to read", data.size());
    }
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

}  // namespace tess::sys
