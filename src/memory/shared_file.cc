#include "memory/shared_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <set>

#include "memory/address_space.h"
#include "memory/page_source.h"

namespace tess::memory {
namespace {

constexpr uint64_t kReadAtOnce = 1 << 20;

}  // namespace

Result<SharedFile> SharedFile::create(const std::string& name, uint64_t size) {
  sys::Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC));
  if (!fd.valid()) {
    return fail_errno("make shared memory {}", name);
  }
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
    return fail_errno("size shared memory {}", name);
  }
  return SharedFile(std::move(fd), size);
}

std::optional<SharedFile::Hash> SharedFile::hash_page(std::span<const std::byte> page) {
  if (is_zero_page(page.data())) {
    return std::nullopt;
  }
  const XXH128_hash_t hash = XXH3_128bits(page.data(), page.size());
  return Hash(hash.low64, hash.high64);
}

std::optional<SharedFile::Hash> SharedFile::recorded(uint64_t page) const {
  const auto it = pages_.find(page);
  return it == pages_.end() ? std::nullopt : std::optional(it->second);
}

void SharedFile::record(uint64_t page, std::optional<Hash> hash) {
  if (hash) {
    pages_[page] = *hash;
  } else {
    pages_.erase(page);
  }
}

// ---- what is known ----

void SharedFile::add_known(uint64_t offset, uint64_t end) {
  auto at = known_.upper_bound(offset);
  if (at != known_.begin() && std::prev(at)->second >= offset) {
    --at;
    offset = at->first;
    end = std::max(end, at->second);
  }
  while (at != known_.end() && at->first <= end) {
    end = std::max(end, at->second);
    at = known_.erase(at);
  }
  known_[offset] = end;
}

bool SharedFile::knows(uint64_t offset, uint64_t size) const {
  const uint64_t end = std::min(offset + size, page_up(size_));
  if (end <= offset) {
    return true;
  }
  const auto next = known_.upper_bound(offset);
  return next != known_.begin() && std::prev(next)->second >= end;
}

bool SharedFile::page_known(uint64_t page) const {
  const auto next = known_.upper_bound(page);
  return next != known_.begin() && std::prev(next)->second > page;
}

// ---- from home ----

Result<> SharedFile::read_page(uint64_t page, std::span<std::byte> into) const {
  const ssize_t n = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(page));
  if (n < 0) {
    return fail_errno("read shared memory");
  }
  std::fill(into.begin() + n, into.end(), std::byte{0});
  return {};
}

Result<> SharedFile::write(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n <= 0) {
      return fail_errno("write shared memory");
    }
    offset += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

// A page as home has it. One that bodies have changed since home last had theirs stays theirs.
Result<> SharedFile::fill_page(uint64_t page, std::span<const std::byte> content, bool fresh) {
  const auto theirs = hash_page(content);
  if (!fresh) {
    const auto before = recorded(page);
    if (theirs == before) {
      return {};
    }
    std::array<std::byte, kPageSize> ours;
    TESS_TRY(read_page(page, ours));
    if (hash_page(ours) != before) {
      return {};
    }
  }
  record(page, theirs);
  if (fresh && !theirs) {
    return {};  // nothing has been there
  }
  return write(page, content.first(std::min(kPageSize, size_ - page)));
}

Result<> SharedFile::fill(uint64_t offset, uint64_t size, std::span<const Run> runs) {
  const uint64_t begin = offset & ~(kPageSize - 1);
  const uint64_t end = std::max(begin, page_up(offset + size));
  std::array<std::byte, kPageSize> page;
  std::set<uint64_t> seen;
  const auto after = known_.lower_bound(end);
  const bool all_fresh = after == known_.begin() || std::prev(after)->second <= begin;
  for (const Run& run : runs) {
    if (run.offset % kPageSize != 0 || run.offset < begin || run.data.size() > end - run.offset) {
      return fail(ErrorKind::kBadInput, "shared memory arrives that nobody wanted");
    }
    for (uint64_t done = 0; done < run.data.size(); done += kPageSize) {
      const uint64_t at = run.offset + done;
      if (at >= size_) {
        break;  // it has become shorter since
      }
      const auto part = run.data.subspan(done, std::min(kPageSize, run.data.size() - done));
      std::copy(part.begin(), part.end(), page.begin());
      std::fill(page.begin() + static_cast<ptrdiff_t>(part.size()), page.end(), std::byte{0});
      TESS_TRY(fill_page(at, page, !page_known(at)));
      seen.insert(at);
    }
  }
  // Pages that home had and has no longer.
  page.fill(std::byte{0});
  std::vector<uint64_t> gone;
  if (!all_fresh) {
    for (const auto& [at, hash] : pages_) {
      if (at >= begin && at < end && !seen.contains(at)) {
        gone.push_back(at);
      }
    }
  }
  for (const uint64_t at : gone) {
    TESS_TRY(fill_page(at, page, false));
  }
  if (end > begin) {
    add_known(begin, end);
  }
  return {};
}

Result<> SharedFile::update_page(uint64_t offset, std::span<const std::byte> bytes) {
  const uint64_t page = offset & ~(kPageSize - 1);
  if (!page_known(page)) {
    return {};  // comes as a whole when somebody wants it
  }
  std::array<std::byte, kPageSize> content;
  TESS_TRY(read_page(page, content));
  const bool clean = hash_page(content) == recorded(page);
  std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<ptrdiff_t>(offset - page));
  if (clean) {
    // Of what was read, not of what is there now: a body may have written meanwhile.
    record(page, hash_page(content));
  }
  return write(offset, bytes);
}

Result<> SharedFile::update(uint64_t offset, std::span<const std::byte> bytes) {
  if (offset + bytes.size() > size_) {
    return fail(ErrorKind::kBadInput, "bytes beyond the end of shared memory");
  }
  while (!bytes.empty()) {
    const uint64_t n = std::min<uint64_t>(bytes.size(), kPageSize - offset % kPageSize);
    TESS_TRY(update_page(offset, bytes.first(n)));
    offset += n;
    bytes = bytes.subspan(n);
  }
  return {};
}

Result<> SharedFile::resize(uint64_t size) {
  if (size == size_) {
    return {};
  }
  const uint64_t tail = size & ~(kPageSize - 1);
  const bool cuts = size < size_ && tail != size && page_known(tail);
  std::array<std::byte, kPageSize> content;
  bool clean = false;
  if (cuts) {
    TESS_TRY(read_page(tail, content));
    clean = hash_page(content) == recorded(tail);
    std::fill(content.begin() + static_cast<ptrdiff_t>(size - tail), content.end(), std::byte{0});
  }
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    return fail_errno("size shared memory");
  }
  if (clean) {
    record(tail, hash_page(content));
  }
  if (size < size_) {
    std::erase_if(pages_, [&](const auto& page) { return page.first >= size; });
  } else if (knows(0, size_)) {
    add_known(0, page_up(size));  // what home has added is zero until it says otherwise
  }
  size_ = size;
  return {};
}

// ---- to home ----

SharedFile::Extents SharedFile::data_extents(const sys::Fd& fd, uint64_t from, uint64_t to) {
  Extents extents;
  while (from < to) {
    const off_t data = ::lseek(fd.get(), static_cast<off_t>(from), SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
      break;
    }
    if (data < 0) {
      extents.emplace_back(from, to);  // it cannot tell
      break;
    }
    if (static_cast<uint64_t>(data) >= to) {
      break;
    }
    const off_t hole = ::lseek(fd.get(), data, SEEK_HOLE);
    const uint64_t end = hole < 0 ? to : std::min(to, page_up(static_cast<uint64_t>(hole)));
    extents.emplace_back(static_cast<uint64_t>(data) & ~(kPageSize - 1), end);
    from = end;
  }
  return extents;
}

// Joins neighbouring pages into stretches.
class SharedFile::Collector {
 public:
  Collector(uint64_t run_max, const Take& take) : run_max_(run_max), take_(take) {}

  Result<> add(uint64_t offset, std::span<const std::byte> bytes) {
    if (!buffer_.empty() &&
        (offset != start_ + buffer_.size() || buffer_.size() + bytes.size() > run_max_)) {
      TESS_TRY(flush());
    }
    if (buffer_.empty()) {
      start_ = offset;
    }
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return {};
  }
  Result<> flush() {
    if (buffer_.empty()) {
      return {};
    }
    const auto given = take_(start_, buffer_);
    buffer_.clear();
    return given;
  }

 private:
  uint64_t run_max_;
  const Take& take_;
  uint64_t start_ = 0;
  std::vector<std::byte> buffer_;
};

// Zeros where home has data: somebody has punched holes (MADV_REMOVE).
Result<> SharedFile::collect_holes(uint64_t from, uint64_t to, const Extents& extents,
                                   Collector& dirty) {
  const std::array<std::byte, kPageSize> zeros{};
  std::vector<uint64_t> punched;
  const auto look_at = [&](uint64_t page) {
    const bool has_data = std::any_of(extents.begin(), extents.end(), [&](const auto& e) {
      return page >= e.first && page < page_up(e.second);
    });
    if (!has_data) {
      punched.push_back(page);
    }
  };
  if ((to - from) / kPageSize < pages_.size()) {
    for (uint64_t page = from; page < to; page += kPageSize) {
      if (pages_.contains(page)) {
        look_at(page);
      }
    }
  } else {
    for (const auto& [page, hash] : pages_) {
      if (page >= from && page < to) {
        look_at(page);
      }
    }
    std::sort(punched.begin(), punched.end());
  }
  for (const uint64_t page : punched) {
    pages_.erase(page);
    TESS_TRY(dirty.add(page, std::span(zeros).first(std::min(kPageSize, size_ - page))));
  }
  return {};
}

Result<> SharedFile::collect(uint64_t run_max, const Take& take, uint64_t offset, uint64_t size) {
  const uint64_t from = offset & ~(kPageSize - 1);
  const uint64_t to = size < size_ && offset < size_ - size ? page_up(offset + size) : size_;
  if (from >= to) {
    return {};
  }
  Collector dirty(run_max, take);
  const Extents extents = data_extents(fd_, from, to);
  std::vector<std::byte> buffer(std::min(page_up(to - from), kReadAtOnce));
  size_t met = 0;  // pages with a record
  for (const auto& [start, end] : extents) {
    for (uint64_t at = start; at < end;) {
      const auto part = std::span(buffer).first(std::min(kReadAtOnce, page_up(end) - at));
      TESS_TRY(read_page(at, part));
      for (uint64_t done = 0; done < part.size(); done += kPageSize) {
        const uint64_t page = at + done;
        if (page >= size_ || !page_known(page)) {
          continue;
        }
        const auto bytes = part.subspan(done, kPageSize);
        const auto before = recorded(page);
        met += before ? 1 : 0;
        const auto now = hash_page(bytes);
        if (now != before) {
          record(page, now);
          met += !before && now ? 1 : 0;
          met -= before && !now ? 1 : 0;
          TESS_TRY(dirty.add(page, bytes.first(std::min(kPageSize, size_ - page))));
        }
      }
      at += part.size();
    }
  }
  if (met < pages_.size()) {
    TESS_TRY(collect_holes(from, to, extents, dirty));
  }
  return dirty.flush();
}

}  // namespace tess::memory
