// The terminal of `tess top`: a loop that shows what Control lays out, hands it keys, and carries
// its wishes to tessd. The only place where curses is used.
#pragma once

#include <chrono>
#include <string>

#include "base/result.h"
#include "cli/top_model.h"

namespace tess::cli::top {

// Until the person quits. An error if the terminal is of no use.
Result<> run_screen(Sort sort, const std::string& filter, std::chrono::milliseconds interval);

}  // namespace tess::cli::top
