#include "sys/fd.h"

#include <poll.h>
#include <unistd.h>

#include <chrono>

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

Result<bool> wait_readable(const Fd& fd, int timeout_milliseconds) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_milliseconds);
  pollfd poll_fd{fd.get(), POLLIN, 0};
  int left = timeout_milliseconds;
  while (true) {
    const int n = ::poll(&poll_fd, 1, left);
    if (n >= 0) {
      return n > 0;
    }
    if (errno != EINTR) {
      return fail_errno("wait for descriptor {}", fd.get());
    }
    if (timeout_milliseconds >= 0) {
      const auto rest = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      left = rest.count() > 0 ? static_cast<int>(rest.count()) : 0;
    }
  }
}

}  // namespace tess::sys
