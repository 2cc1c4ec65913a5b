// Structured log lines: `log::info("home", "event=migrated pid={} node={}", pid, node)`. First argument is the module
// (the folder). Text is key=value. Goes to standard error (the journal under systemd), or to the file named by
// log::start. Nothing per page or per system call at info.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace tess::log {

enum class Level { kDebug, kInfo, kWarn, kError };

// Call once in main(). `program` goes in each line. Level comes from TESS_LOG (debug, info, warn, error).
// `file` empty means standard error.
void start(std::string_view program, const std::string& file = {});
void write(Level level, std::string_view module, std::string_view text);
bool enabled(Level level);

#define TESS_LOG_FUNCTION(name, level)                                                     \
  template <typename... Args>                                                              \
  void name(std::string_view module, fmt::format_string<Args...> format, Args&&... args) { \
    if (enabled(level)) {                                                                  \
      write(level, module, fmt::format(format, std::forward<Args>(args)...));              \
    }                                                                                      \
  }
TESS_LOG_FUNCTION(debug, Level::kDebug)
TESS_LOG_FUNCTION(info, Level::kInfo)
TESS_LOG_FUNCTION(warn, Level::kWarn)
TESS_LOG_FUNCTION(error, Level::kError)
#undef TESS_LOG_FUNCTION

}  // namespace tess::log
