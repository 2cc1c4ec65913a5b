// Fd: owns one file descriptor. Explicit: get(), release(), no implicit int. Every fd is born
// CLOEXEC; close never retries (the descriptor is gone either way, close(2)).
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "base/result.h"

namespace tess::sys {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

// Writes or reads all bytes, resuming after EINTR and short transfers. End of file while reading is
// kDisconnected.
Result<> write_all(const Fd& fd, std::span<const std::byte> data);
Result<> read_all(const Fd& fd, std::span<std::byte> data);

// True when there is something to read (or end of file, or an error to be read); false when the
// time is up. -1: no limit.
Result<bool> wait_readable(const Fd& fd, int timeout_milliseconds);

}  // namespace tess::sys
