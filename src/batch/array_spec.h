// ArraySpec: which tasks a job has ("1-100", "1,5,10-30:2", "0-99%8": at most eight at once).
// Plain values; the parser's errors are sentences for the person who wrote it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tess::batch {

inline constexpr size_t kMaxTasks = 100000;

struct ArraySpec {
  std::vector<uint32_t> tasks;  // ascending, each once; empty: no array, one task
  uint32_t at_most = 0;         // so many at once; 0: no limit
};

Result<ArraySpec> parse_array(std::string_view text);

}  // namespace tess::batch
