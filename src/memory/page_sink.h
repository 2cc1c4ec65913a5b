// Puts pages into a process, wherever it lives: into the ranges registered with its userfaultfd by
// large UFFDIO_COPY, into all others by process_vm_writev (or /proc/PID/mem where the mapping is
// not writable). The process must be stopped or parked. Needs nothing of the body: the home agent
// uses the same sink for the original process.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/address_space.h"
#include "sys/fd.h"

namespace tess::memory {

class PageSink {
 public:
  virtual ~PageSink() = default;
  // `address` and size are multiples of the page size.
  virtual Result<> put(uint64_t address, std::span<const std::byte> pages) = 0;
};

// Usage at the target, with the process parked and the memory mapped:
//   fd number = session.call(SYS_userfaultfd, {kUserfaultFlags}); fd = pidfd_getfd;
//   ProcessSink::create(pid, fd); sink.register_range(..) for ranges that are anonymous or shared
//   memory (memfd, shmem) and empty there; receive_pages(stream, sink); sink.unregister_all();
//   close the number in the process.
class ProcessSink final : public PageSink {
 public:
  static constexpr uint64_t kUserfaultFlags = 02000000 | 1;  // O_CLOEXEC | UFFD_USER_MODE_ONLY

  // `userfault` may be invalid: then everything is written.
  static Result<ProcessSink> create(pid_t pid, sys::Fd userfault);
  // kNotPossible if the kernel refuses that range (a file on disk, say): it will be written
  // instead; not an error.
  Result<> register_range(uint64_t start, uint64_t end);
  Result<> put(uint64_t address, std::span<const std::byte> pages) override;
  // Also done by the destructor (closing the userfaultfd).
  Result<> unregister_all();

 private:
  struct Range {
    uint64_t start;
    uint64_t end;
  };
  ProcessSink(pid_t pid, sys::Fd userfault, sys::Fd mem);
  Result<> copy(uint64_t address, std::span<const std::byte> pages);
  Result<> write(uint64_t address, std::span<const std::byte> pages);

  pid_t pid_;
  sys::Fd userfault_;
  sys::Fd mem_;
  std::vector<Range> registered_;  // sorted
};

}  // namespace tess::memory
