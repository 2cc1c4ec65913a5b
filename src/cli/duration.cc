#include "cli/duration.h"

#include <charconv>

namespace tess::cli {
namespace {

int64_t seconds_of(char unit) {
  switch (unit) {
    case 's':
      return 1;
    case 'm':
      return 60;
    case 'h':
      return 3600;
    case 'd':
      return 24 * 3600;
    default:
      return 0;
  }
}

}  // namespace

Result<std::chrono::seconds> parse_duration(const std::string& text) {
  constexpr int64_t kMost = 100'000;
  int64_t number = 0;
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, number);
  const int64_t unit = error == std::errc() && end + 1 == last ? seconds_of(*end) : 0;
  if (unit == 0 || number < 1 || number > kMost) {
    return fail(ErrorKind::kBadInput, "'{}' is not a span of time: 90s, 30m, 12h or 7d", text);
  }
  return std::chrono::seconds(number * unit);
}

std::string duration_text(std::chrono::seconds time) {
  const int64_t count = time.count();
  for (const char unit : {'d', 'h', 'm'}) {
    if (count >= 2 * seconds_of(unit) || count == seconds_of(unit)) {
      return fmt::format("{}{}", (count + seconds_of(unit) / 2) / seconds_of(unit), unit);
    }
  }
  return fmt::format("{}s", count);
}

}  // namespace tess::cli
