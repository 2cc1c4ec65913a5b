// SHA-256 of a range of a file, remembered in a directory by everything that identifies the file's
// content: device, inode, mtime, ctime, size, range. A changed file thus never answers with an old
// hash.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::memory {

struct RangeHash {
  std::string hash;     // 32 bytes
  uint64_t length = 0;  // bytes of the file in the range (it may end earlier)
};

class ContentHasher {
 public:
  // Empty: nothing is remembered. The directory is made when needed and kept below kCacheEntries.
  explicit ContentHasher(std::string cache_dir) : cache_dir_(std::move(cache_dir)) {}
  // kNotPossible if it is not a regular file.
  Result<RangeHash> hash(const sys::Fd& file, uint64_t offset, uint64_t size) const;

  static constexpr size_t kCacheEntries = 8192;

 private:
  std::string cache_dir_;
};

std::string sha256(std::string_view bytes);

}  // namespace tess::memory
