#include "memory/pagemap.h"

#include <fcntl.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>

#include "memory/address_space.h"
#include "memory/proc_file.h"

namespace tess::memory {
namespace {

// linux/fs.h of 6.7; Debian 12's headers are older.
struct ScanRegion {
  uint64_t start, end, categories;
};
struct ScanArg {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
static_assert(sizeof(ScanArg) == 96 && sizeof(ScanRegion) == 24);
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArg);
constexpr uint64_t kScanFile = 1 << 2;
constexpr uint64_t kScanPresent = 1 << 3;
constexpr uint64_t kScanSwapped = 1 << 4;
constexpr uint64_t kScanGuard = 1 << 8;  // of 6.15

// Bits of a /proc/PID/pagemap entry (Documentation/admin-guide/mm/pagemap.rst).
constexpr uint64_t kEntryFile = uint64_t{1} << 61;
constexpr uint64_t kEntrySwapped = uint64_t{1} << 62;
constexpr uint64_t kEntryPresent = uint64_t{1} << 63;

void append(std::vector<PageRange>& ranges, uint64_t start, uint64_t end, uint32_t bits) {
  if ((bits & (kPagePresent | kPageSwapped)) == 0) {
    return;
  }
  if (!ranges.empty() && ranges.back().end == start && ranges.back().bits == bits) {
    ranges.back().end = end;
  } else {
    ranges.push_back({start, end, bits});
  }
}

bool kernel_can_scan(int fd) {
  ScanArg arg{};
  arg.size = sizeof(arg);
  return ::ioctl(fd, kPagemapScan, &arg) == 0;  // an empty range: 0 where the request is known
}

}  // namespace

Result<Pagemap> Pagemap::open(pid_t pid, Method method) {
  TESS_TRY_ASSIGN(sys::Fd fd, open_proc(pid, "pagemap", O_RDONLY));
  const bool can_scan = method != Method::kPlain && kernel_can_scan(fd.get());
  if (method == Method::kScan && !can_scan) {
    return fail(ErrorKind::kNotPossible, "this kernel has no PAGEMAP_SCAN (Linux 6.7)");
  }
  return Pagemap(std::move(fd), can_scan ? Method::kScan : Method::kPlain);
}

Result<std::vector<PageRange>> Pagemap::scan(uint64_t start, uint64_t end) const {
  return method_ == Method::kScan ? scan_by_ioctl(start, end) : scan_by_reading(start, end);
}

Result<std::vector<PageRange>> Pagemap::scan_by_ioctl(uint64_t start, uint64_t end) const {
  std::vector<PageRange> ranges;
  std::array<ScanRegion, 512> regions;
  ScanArg arg{};
  arg.size = sizeof(arg);
  arg.category_anyof_mask = kScanPresent | kScanSwapped;
  arg.return_mask = kScanPresent | kScanSwapped | kScanFile;
  arg.vec = reinterpret_cast<uint64_t>(regions.data());
  arg.vec_len = regions.size();
  arg.end = end;
  while (start < end) {
    arg.start = start;
    const int count = ::ioctl(fd_.get(), kPagemapScan, &arg);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return fail_errno("scan the page map from {:x} to {:x}", start, end);
    }
    for (int i = 0; i < count; ++i) {
      const ScanRegion& region = regions[static_cast<size_t>(i)];
      append(ranges, region.start, region.end,
             ((region.categories & kScanPresent) != 0 ? kPagePresent : 0u) |
                 ((region.categories & kScanSwapped) != 0 ? kPageSwapped : 0u) |
                 ((region.categories & kScanFile) != 0 ? kPageFile : 0u));
    }
    if (arg.walk_end <= start) {
      break;
    }
    start = arg.walk_end;
  }
  return ranges;
}

uint64_t Pagemap::first_guard_page() const {
  constexpr uint64_t kEnd = 0x7fff'ffff'f000;
  ScanRegion found{};
  ScanArg arg{};
  arg.size = sizeof(arg);
  arg.end = kEnd;
  arg.category_mask = arg.return_mask = kScanGuard;
  arg.vec = reinterpret_cast<uint64_t>(&found);
  arg.vec_len = arg.max_pages = 1;
  while (method_ == Method::kScan && arg.start < kEnd) {
    const int count = ::ioctl(fd_.get(), kPagemapScan, &arg);
    if (count > 0) {
      return found.start;
    }
    if ((count < 0 && errno != EINTR) || (count == 0 && arg.walk_end <= arg.start)) {
      break;
    }
    arg.start = count == 0 ? arg.walk_end : arg.start;
  }
  return 0;
}

Result<std::vector<PageRange>> Pagemap::scan_by_reading(uint64_t start, uint64_t end) const {
  std::vector<PageRange> ranges;
  std::vector<uint64_t> entries(8192);
  while (start < end) {
    const size_t wanted = std::min<uint64_t>(entries.size(), (end - start) / kPageSize);
    const ssize_t n =
        ::pread(fd_.get(), entries.data(), wanted * 8, static_cast<off_t>(start / kPageSize * 8));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read the page map at {:x}", start);
    }
    if (n < 8) {
      break;  // beyond the address space
    }
    for (size_t i = 0; i < static_cast<size_t>(n) / 8; ++i, start += kPageSize) {
      const uint64_t entry = entries[i];
      append(ranges, start, start + kPageSize,
             ((entry & kEntryPresent) != 0 ? kPagePresent : 0u) |
                 ((entry & kEntrySwapped) != 0 ? kPageSwapped : 0u) |
                 ((entry & kEntryFile) != 0 ? kPageFile : 0u));
    }
  }
  return ranges;
}

}  // namespace tess::memory
