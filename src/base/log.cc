#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>

namespace tess::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

}  // namespace

void start(std::string_view program, const std::string& file) {
  const std::string name(program);
  spdlog::drop(name);
  auto logger = file.empty() ? spdlog::stderr_logger_mt(name) : spdlog::basic_logger_mt(name, file);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %n[%P] %v");
  const char* wanted = std::getenv("TESS_LOG");
  logger->set_level(spdlog::level::from_str(wanted != nullptr ? wanted : "info"));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(logger);
}

bool enabled(Level level) {
  return spdlog::default_logger_raw()->should_log(to_spdlog(level));
}

void write(Level level, std::string_view module, std::string_view text) {
  spdlog::default_logger_raw()->log(to_spdlog(level), "{}: {}", module, text);
}

}  // namespace tess::log
