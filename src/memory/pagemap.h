// Which pages of a process exist, by PAGEMAP_SCAN (Linux 6.7) where the kernel has it and by
// reading /proc/PID/pagemap where not. Both answer the same; tests run both.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::memory {

// What is known of a page. Neither present nor swapped: nothing is there (a hole; for a file the
// clean content).
enum PageBit : uint32_t {
  kPagePresent = 1,
  kPageSwapped = 2,
  kPageFile = 4,  // belongs to a file or to shared memory; a private file page that was copied on
                  // write has it not
};

struct PageRange {
  uint64_t start = 0;
  uint64_t end = 0;
  uint32_t bits = 0;
  bool operator==(const PageRange&) const = default;
};

class Pagemap {
 public:
  enum class Method { kBest, kScan, kPlain };
  // kNotPossible if the kernel has not got the wanted method.
  static Result<Pagemap> open(pid_t pid, Method method = Method::kBest);

  // Ranges within [start, end) that are present or swapped, in order, neighbours with equal bits
  // joined.
  Result<std::vector<PageRange>> scan(uint64_t start, uint64_t end) const;
  // The first page that MADV_GUARD_INSTALL has made a guard; 0: there is none, or the kernel cannot
  // tell (before 6.15).
  uint64_t first_guard_page() const;
  Method method() const { return method_; }

 private:
  Pagemap(sys::Fd fd, Method method) : fd_(std::move(fd)), method_(method) {}
  Result<std::vector<PageRange>> scan_by_ioctl(uint64_t start, uint64_t end) const;
  Result<std::vector<PageRange>> scan_by_reading(uint64_t start, uint64_t end) const;

  sys::Fd fd_;
  Method method_;
};

}  // namespace tess::memory
