#include "memory/page_source.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "memory/proc_file.h"

namespace tess::memory {
namespace {

// Gaps up to this are read along with their neighbours when the pages count anyway (shared data):
// fewer, larger runs.
void append(std::vector<PageRange>& ranges, uint64_t start, uint64_t end) {
  if (!ranges.empty() && ranges.back().end == start) {
    ranges.back().end = end;
  } else {
    ranges.push_back({start, end, 0});
  }
}

}  // namespace

bool is_zero_page(const std::byte* page) {
  uint64_t first;
  std::memcpy(&first, page, sizeof(first));
  return first == 0 && std::memcmp(page, page + 8, kPageSize - 8) == 0;
}

PageSource::PageSource(pid_t pid, Pagemap pagemap, sys::Fd mem)
    : pid_(pid), pagemap_(std::move(pagemap)), mem_(std::move(mem)) {}

Result<PageSource> PageSource::open(pid_t pid, Pagemap::Method method) {
  TESS_TRY_ASSIGN(Pagemap pagemap, Pagemap::open(pid, method));
  TESS_TRY_ASSIGN(sys::Fd mem, open_proc(pid, "mem", O_RDONLY));
  return PageSource(pid, std::move(pagemap), std::move(mem));
}

Result<std::vector<PageRange>> PageSource::candidates(const Mapping& mapping) const {
  std::vector<PageRange> ranges;
  if (mapping.special()) {
    return ranges;
  }
  if (mapping.shared() && mapping.content_hash.empty()) {
    // What the page table shows says nothing about shared memory: data may be in the file without
    // being mapped. Ask the file for its holes, and take everything where it cannot tell.
    auto file =
        open_proc(pid_, fmt::format("map_files/{:x}-{:x}", mapping.start, mapping.end), O_RDONLY);
    if (!file) {
      append(ranges, mapping.start, mapping.end);
      return ranges;
    }
    const off_t file_end = static_cast<off_t>(mapping.offset + mapping.size());
    off_t at = static_cast<off_t>(mapping.offset);
    while (at < file_end) {
      const off_t data = ::lseek(file->get(), at, SEEK_DATA);
      if (data < 0 && errno == ENXIO) {
        break;  // only holes from here on, or beyond the end of the file
      }
      if (data < 0) {
        append(ranges, mapping.start + (static_cast<uint64_t>(at) - mapping.offset), mapping.end);
        break;
      }
      if (data >= file_end) {
        break;
      }
      off_t hole = ::lseek(file->get(), data, SEEK_HOLE);
      hole = hole < 0 ? file_end : std::min<off_t>(hole, file_end);
      const uint64_t from = static_cast<uint64_t>(data) & ~(kPageSize - 1);
      const uint64_t to =
          std::min(page_up(static_cast<uint64_t>(hole)), static_cast<uint64_t>(file_end));
      append(ranges, mapping.start + (from - mapping.offset),
             mapping.start + (to - mapping.offset));
      at = static_cast<off_t>(to);
    }
    return ranges;
  }
  TESS_TRY_ASSIGN(const std::vector<PageRange> pages, pagemap_.scan(mapping.start, mapping.end));
  const bool clean_pages_too =
      mapping.kind == MappingKind::kFilePrivate && mapping.content_hash.empty();
  if (clean_pages_too) {
    // Nobody else will supply the file's content: take the whole mapping (pages beyond the file's
    // end cannot be read and are left out).
    append(ranges, mapping.start, mapping.end);
    return ranges;
  }
  for (const PageRange& range : pages) {
    const bool clean = (range.bits & kPageFile) != 0 && (range.bits & kPageSwapped) == 0;
    if (!clean) {
      append(ranges, range.start, range.end);
    }
  }
  return ranges;
}

// Reads what can be read from `address` on; 0 if the first page cannot be read at all.
Result<size_t> PageSource::read_some(const Mapping& mapping, uint64_t address,
                                     std::span<std::byte> into) const {
  while (true) {
    ssize_t n;
    if ((mapping.prot & PROT_READ) != 0) {
      iovec local{into.data(), into.size()};
      iovec remote{reinterpret_cast<void*>(address), into.size()};
      n = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    } else {
      n = ::pread(mem_.get(), into.data(), into.size(), static_cast<off_t>(address));  // forces
    }
    if (n >= 0) {
      return static_cast<size_t>(n) & ~(kPageSize - 1);
    }
    if (errno == EINTR) {
      continue;
    }
    if (errno == ESRCH) {
      return fail(ErrorKind::kDisconnected, "process {} is gone", pid_);
    }
    if (errno == EFAULT || errno == EIO) {
      return size_t{0};
    }
    return fail_errno("read memory of process {} at {:x}", pid_, address);
  }
}

Result<> PageSource::read_pages(const Mapping& mapping, uint32_t run_max, const Take& take) const {
  TESS_TRY_ASSIGN(const std::vector<PageRange> ranges, candidates(mapping));
  const bool skip_zero = mapping.kind == MappingKind::kAnon;
  const bool may_fail = mapping.kind != MappingKind::kAnon;  // beyond the end of a file
  std::vector<std::byte> buffer;
  for (const PageRange& range : ranges) {
    uint64_t address = range.start;
    while (address < range.end) {
      const size_t wanted = std::min<uint64_t>(run_max, range.end - address);
      if (buffer.size() < wanted) {
        buffer.resize(wanted);
      }
      TESS_TRY_ASSIGN(const size_t got,
                      read_some(mapping, address, std::span(buffer).first(wanted)));
      if (got == 0) {
        if (!may_fail) {
          return fail(ErrorKind::kFailed, "memory of process {} at {:x} cannot be read", pid_,
                      address);
        }
        address += kPageSize;
        continue;
      }
      // Stretches without zero pages.
      size_t at = 0;
      while (at < got) {
        if (skip_zero && is_zero_page(buffer.data() + at)) {
          at += kPageSize;
          continue;
        }
        size_t end = at + kPageSize;
        while (end < got && !(skip_zero && is_zero_page(buffer.data() + end))) {
          end += kPageSize;
        }
        TESS_TRY(take(address + at, std::span(buffer).subspan(at, end - at)));
        at = end;
      }
      address += got;
    }
  }
  return {};
}

Result<uint64_t> PageSource::count_bytes(std::span<const Mapping> mappings) const {
  uint64_t total = 0;
  for (const Mapping& mapping : mappings) {
    TESS_TRY_ASSIGN(const std::vector<PageRange> ranges, candidates(mapping));
    for (const PageRange& range : ranges) {
      total += range.end - range.start;
    }
  }
  return total;
}

}  // namespace tess::memory
