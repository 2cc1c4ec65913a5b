// Spans of time as people write them: "90s", "30m", "12h", "7d".
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"

namespace tess::cli {

Result<std::chrono::seconds> parse_duration(const std::string& text);
std::string duration_text(std::chrono::seconds time);

}  // namespace tess::cli
