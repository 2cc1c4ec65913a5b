// ByteStream: an ordered, reliable stream of bytes that is read and written in whole pieces. What
// frames, images and pages travel on: a TLS connection (net/tls_stream.h), a plain descriptor
// (FdStream), memory in tests. A timeout is the longest time without any progress, not the time of
// the whole transfer; kNoTimeout waits for ever. End of file and a broken connection are
// ErrorKind::kDisconnected, a timeout is kRetry (the stream is then in the middle of something:
// close it). One thread may read while another writes.
#pragma once

#include <chrono>
#include <cstddef>
#include <span>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::wire {

using Timeout = std::chrono::milliseconds;
inline constexpr Timeout kNoTimeout{-1};

class ByteStream {
 public:
  virtual ~ByteStream() = default;
  virtual Result<> read_exact(std::span<std::byte> into, Timeout timeout) = 0;
  virtual Result<> write_all(std::span<const std::byte> from, Timeout timeout) = 0;
  // Bytes that have come and wait in the kernel, as they travelled; 0 if that is not known. By the
  // thread that reads.
  virtual size_t unread() const { return 0; }
};

// What waits in the kernel to be read from this socket or pipe.
size_t unread_bytes(int fd);

// Over a socket or pipe, blocking or not.
class FdStream final : public ByteStream {
 public:
  explicit FdStream(sys::Fd fd) : fd_(std::move(fd)) {}
  Result<> read_exact(std::span<std::byte> into, Timeout timeout) override;
  Result<> write_all(std::span<const std::byte> from, Timeout timeout) override;
  size_t unread() const override { return unread_bytes(fd_.get()); }
  const sys::Fd& fd() const { return fd_; }

 private:
  sys::Fd fd_;
};

}  // namespace tess::wire
