#include "memory/page_sink.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "memory/proc_file.h"

namespace tess::memory {

ProcessSink::ProcessSink(pid_t pid, sys::Fd userfault, sys::Fd mem)
    : pid_(pid), userfault_(std::move(userfault)), mem_(std::move(mem)) {}

Result<ProcessSink> ProcessSink::create(pid_t pid, sys::Fd userfault) {
  TESS_TRY_ASSIGN(sys::Fd mem, open_proc(pid, "mem", O_RDWR));
  if (userfault.valid()) {
    uffdio_api api{};
    api.api = UFFD_API;
    if (::ioctl(userfault.get(), UFFDIO_API, &api) != 0) {
      return fail_errno("set up the userfaultfd of process {}", pid);
    }
  }
  return ProcessSink(pid, std::move(userfault), std::move(mem));
}

Result<> ProcessSink::register_range(uint64_t start, uint64_t end) {
  if (!userfault_.valid()) {
    return fail(ErrorKind::kNotPossible, "process {} has no userfaultfd", pid_);
  }
  uffdio_register request{};
  request.range = {start, end - start};
  request.mode = UFFDIO_REGISTER_MODE_MISSING;
  if (::ioctl(userfault_.get(), UFFDIO_REGISTER, &request) != 0) {
    if (errno == EINVAL || errno == EPERM || errno == EBUSY) {
      return fail(ErrorKind::kNotPossible, "{:x}-{:x} is no memory for a userfaultfd", start, end);
    }
    return fail_errno("register {:x}-{:x} with the userfaultfd", start, end);
  }
  const auto at = std::lower_bound(registered_.begin(), registered_.end(), start,
                                   [](const Range& r, uint64_t value) { return r.start < value; });
  registered_.insert(at, Range{start, end});
  return {};
}

Result<> ProcessSink::put(uint64_t address, std::span<const std::byte> pages) {
  while (!pages.empty()) {
    const auto next =
        std::upper_bound(registered_.begin(), registered_.end(), address,
                         [](uint64_t value, const Range& r) { return value < r.end; });
    const uint64_t run_end = address + pages.size();
    const bool inside = next != registered_.end() && next->start <= address;
    const uint64_t piece_end = next == registered_.end() ? run_end
                               : inside                  ? std::min(run_end, next->end)
                                                         : std::min(run_end, next->start);
    const auto piece = pages.first(piece_end - address);
    if (inside) {
      TESS_TRY(copy(address, piece));
    } else {
      TESS_TRY(write(address, piece));
    }
    address = piece_end;
    pages = pages.subspan(piece.size());
  }
  return {};
}

Result<> ProcessSink::copy(uint64_t address, std::span<const std::byte> pages) {
  while (!pages.empty()) {
    uffdio_copy request{};
    request.dst = address;
    request.src = reinterpret_cast<uint64_t>(pages.data());
    request.len = pages.size();
    request.mode = UFFDIO_COPY_MODE_DONTWAKE;
    size_t done = pages.size();
    if (::ioctl(userfault_.get(), UFFDIO_COPY, &request) != 0) {
      const int error = errno;
      done = request.copy > 0 ? static_cast<size_t>(request.copy) : 0;
      if (done == 0 && error == EEXIST) {
        done = kPageSize;  // a page is there already: overwrite it
        TESS_TRY(write(address, pages.first(done)));
      } else if (done == 0 && error != EAGAIN && error != EINTR) {
        errno = error;
        return error == ESRCH
                   ? Result<>(fail(ErrorKind::kDisconnected, "process {} is gone", pid_))
                   : Result<>(fail_errno("copy pages to {:x} of process {}", address, pid_));
      }
    }
    address += done;
    pages = pages.subspan(done);
  }
  return {};
}

Result<> ProcessSink::write(uint64_t address, std::span<const std::byte> pages) {
  while (!pages.empty()) {
    iovec local{const_cast<std::byte*>(pages.data()), pages.size()};
    iovec remote{reinterpret_cast<void*>(address), pages.size()};
    ssize_t n = ::process_vm_writev(pid_, &local, 1, &remote, 1, 0);
    if (n <= 0 && errno == EFAULT) {
      n = ::pwrite(mem_.get(), pages.data(), std::min<size_t>(pages.size(), kPageSize),
                   static_cast<off_t>(address));  // not writable: force
    }
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == ESRCH) {
      return fail(ErrorKind::kDisconnected, "process {} is gone", pid_);
    }
    if (n <= 0) {
      return fail_errno("write memory of process {} at {:x}", pid_, address);
    }
    address += static_cast<uint64_t>(n);
    pages = pages.subspan(static_cast<size_t>(n));
  }
  return {};
}

Result<> ProcessSink::unregister_all() {
  for (const Range& range : registered_) {
    uffdio_range request{range.start, range.end - range.start};
    if (::ioctl(userfault_.get(), UFFDIO_UNREGISTER, &request) != 0) {
      return fail_errno("unregister {:x}-{:x} from the userfaultfd", range.start, range.end);
    }
  }
  registered_.clear();
  userfault_.reset();
  return {};
}

}  // namespace tess::memory
