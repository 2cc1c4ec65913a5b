// File content kept on this node under its SHA-256, for the next process that maps the same file.
// Bounded; the oldest used goes first. Content is verified when stored and is root's alone. Several
// agents use one directory at a time: files appear by rename only.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::host {

class ContentStore {
 public:
  static constexpr uint64_t kDefaultLimit = uint64_t{1} << 30;

  // The directory is made when needed. `limit` in bytes of content.
  explicit ContentStore(std::string dir, uint64_t limit = kDefaultLimit)
      : dir_(std::move(dir)), limit_(limit) {}

  // Open for reading, or nullopt. Marks it as used.
  std::optional<sys::Fd> find(const std::string& hash) const;
  // Copies `length` bytes at `offset` of `from`. kBadInput if they have not got that hash. Content
  // larger than the limit is not kept.
  Result<> store(const std::string& hash, const sys::Fd& from, uint64_t offset,
                 uint64_t length) const;

 private:
  std::string path_of(const std::string& hash) const;
  void make_room(uint64_t wanted) const;

  std::string dir_;
  uint64_t limit_;
  // Bytes that may be stored before the next look at what is kept; guests' threads take of it.
  std::shared_ptr<std::atomic<uint64_t>> allowance_ = std::make_shared<std::atomic<uint64_t>>(0);
};

}  // namespace tess::host
