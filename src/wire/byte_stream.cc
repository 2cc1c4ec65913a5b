#include "wire/byte_stream.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace tess::wire {
namespace {

// True: ready (or in error, which the next call reports); false: timed out.
Result<bool> wait_ready(int fd, short events, Timeout timeout) {
  pollfd poll_fd{fd, events, 0};
  while (true) {
    const int n = ::poll(&poll_fd, 1, static_cast<int>(timeout.count()));
    if (n > 0) {
      return true;
    }
    if (n == 0) {
      return false;
    }
    if (errno != EINTR) {
      return fail_errno("poll");
    }
  }
}

bool is_gone(int error) {
  return error == EPIPE || error == ECONNRESET || error == ETIMEDOUT;
}

}  // namespace

size_t unread_bytes(int fd) {
  int count = 0;
  return ::ioctl(fd, FIONREAD, &count) == 0 && count > 0 ? static_cast<size_t>(count) : 0;
}

Result<> FdStream::read_exact(std::span<std::byte> into, Timeout timeout) {
  while (!into.empty()) {
    TESS_TRY_ASSIGN(const bool ready, wait_ready(fd_.get(), POLLIN, timeout));
    if (!ready) {
      return fail(ErrorKind::kRetry, "nothing received for {} ms", timeout.count());
    }
    const ssize_t n = ::read(fd_.get(), into.data(), into.size());
    if (n > 0) {
      into = into.subspan(static_cast<size_t>(n));
    } else if (n == 0) {
      return fail(ErrorKind::kDisconnected, "end of stream");
    } else if (is_gone(errno)) {
      return fail(ErrorKind::kDisconnected, "connection lost: {}", ::strerror(errno));
    } else if (errno != EINTR && errno != EAGAIN) {
      return fail_errno("read");
    }
  }
  return {};
}

Result<> FdStream::write_all(std::span<const std::byte> from, Timeout timeout) {
  while (!from.empty()) {
    TESS_TRY_ASSIGN(const bool ready, wait_ready(fd_.get(), POLLOUT, timeout));
    if (!ready) {
      return fail(ErrorKind::kRetry, "nothing could be sent for {} ms", timeout.count());
    }
    // MSG_DONTWAIT: a blocking socket would otherwise wait for room for everything, beyond the
    // timeout.
    ssize_t n = ::send(fd_.get(), from.data(), from.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK) {
      // A pipe: writable means at least PIPE_BUF bytes fit.
      n = ::write(fd_.get(), from.data(), std::min<size_t>(from.size(), 4096));
    }
    if (n >= 0) {
      from = from.subspan(static_cast<size_t>(n));
    } else if (is_gone(errno)) {
      return fail(ErrorKind::kDisconnected, "connection lost: {}", ::strerror(errno));
    } else if (errno != EINTR && errno != EAGAIN) {
      return fail_errno("write");
    }
  }
  return {};
}

}  // namespace tess::wire
