// Chooses and reads the pages that must travel: present or swapped private anonymous pages that are
// not all zero; private file pages that were copied on write (present and not of the file, or
// swapped); of shared mappings every page that has data. Clean file pages are not pages of the
// process (see image_stream.h), unless the mapping has no content_hash.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/address_space.h"
#include "memory/pagemap.h"

namespace tess::memory {

class PageSource {
 public:
  static Result<PageSource> open(pid_t pid, Pagemap::Method method = Pagemap::Method::kBest);

  // The ranges of one mapping that may have to travel (zero pages are only found when reading).
  Result<std::vector<PageRange>> candidates(const Mapping& mapping) const;
  // Reads them in runs of at most `run_max` bytes and gives each maximal stretch to `take`. Zero
  // pages are left out where a fresh mapping would read as zero too (anonymous private memory).
  using Take = std::function<Result<>(uint64_t address, std::span<const std::byte> pages)>;
  Result<> read_pages(const Mapping& mapping, uint32_t run_max, const Take& take) const;

  // Upper bound of what the process will need elsewhere, from candidates (bytes).
  Result<uint64_t> count_bytes(std::span<const Mapping> mappings) const;

 private:
  PageSource(pid_t pid, Pagemap pagemap, sys::Fd mem);
  Result<size_t> read_some(const Mapping& mapping, uint64_t address,
                           std::span<std::byte> into) const;

  pid_t pid_;
  Pagemap pagemap_;
  sys::Fd mem_;
};

bool is_zero_page(const std::byte* page);

}  // namespace tess::memory
