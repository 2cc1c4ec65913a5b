// The clean content of home's files as the bodies of one job map it: memfds in which every range
// stands at the offset it has at home, named so that /proc/PID/maps tells the home file
// (memory::body_file_name). All bodies of the job share them. Filled from the content store or from
// the stream. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "host/content_store.h"
#include "memory/address_space.h"
#include "sys/fd.h"

namespace tess::host {

class FileContent {
 public:
  explicit FileContent(ContentStore store) : store_(std::move(store)) {}

  // True if the mapping's content (by content_hash) is here or in the store.
  bool has(const memory::Mapping& mapping);
  // A draft for content that comes from home.
  class Draft {
   public:
    Result<> write(uint64_t offset_in_mapping, std::span<const std::byte> bytes);

   private:
    friend class FileContent;
    sys::Fd file_;  // plain memfd; offset 0 is the mapping's start
    uint64_t length_ = 0;
  };
  Result<Draft> begin(const memory::Mapping& mapping);
  // Verifies the draft and makes it known. kBadInput if the content is not what was promised.
  Result<> finish(const memory::Mapping& mapping, Draft draft);
  // A descriptor to map it from, read-only, at the mapping's own offset. Only after has() or
  // finish().
  Result<sys::Fd> open(const memory::Mapping& mapping);

 private:
  struct Range {
    uint64_t length;  // of the file's bytes; the mapping may reach beyond
    uint64_t size;    // of the mapping
    std::string hash;
  };
  struct File {
    sys::Fd memfd;
    uint64_t size = 0;
    std::map<uint64_t, Range> ranges;  // by offset
  };
  using Key = std::pair<uint64_t, uint64_t>;  // device, inode

  File* find(const memory::Mapping& mapping);
  Result<> add(const memory::Mapping& mapping, const sys::Fd& from, uint64_t length);
  static bool overlaps(const File& file, const memory::Mapping& mapping);

  std::mutex mutex_;
  ContentStore store_;
  std::map<Key, std::vector<std::unique_ptr<File>>> files_;
};

}  // namespace tess::host
