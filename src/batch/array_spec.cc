#include "batch/array_spec.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace tess::batch {
namespace {

constexpr uint32_t kMaxNumber = 999999999;

std::optional<uint32_t> number(std::string_view text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() ||
      value > kMaxNumber) {
    return std::nullopt;
  }
  return value;
}

// "7", "1-9" or "1-9:2".
Result<> add_range(std::string_view part, std::vector<uint32_t>& tasks) {
  const auto bad = [part] {
    return fail(ErrorKind::kBadInput, "'{}' is not a task number or a range like 1-10 or 1-10:2",
                part);
  };
  const size_t dash = part.find('-');
  const size_t colon = part.find(':');
  if (dash == std::string_view::npos && colon != std::string_view::npos) {
    return bad();
  }
  const auto first = number(part.substr(0, dash));
  const auto last =
      dash == std::string_view::npos
          ? first
          : number(
                part.substr(dash + 1, colon == std::string_view::npos ? colon : colon - dash - 1));
  const auto step =
      colon == std::string_view::npos ? std::optional<uint32_t>(1) : number(part.substr(colon + 1));
  if (!first || !last || !step || *step == 0 || *last < *first) {
    return bad();
  }
  if ((*last - *first) / *step + 1 > kMaxTasks - tasks.size()) {
    return fail(ErrorKind::kBadInput, "an array has at most {} tasks", kMaxTasks);
  }
  for (uint64_t task = *first; task <= *last; task += *step) {
    tasks.push_back(static_cast<uint32_t>(task));
  }
  return {};
}

}  // namespace

Result<ArraySpec> parse_array(std::string_view text) {
  ArraySpec spec;
  const size_t percent = text.find('%');
  if (percent != std::string_view::npos) {
    const auto most = number(text.substr(percent + 1));
    if (!most || *most == 0) {
      return fail(ErrorKind::kBadInput, "after % comes how many tasks may run at once, not '{}'",
                  text.substr(percent + 1));
    }
    spec.at_most = *most;
    text = text.substr(0, percent);
  }
  for (size_t start = 0; start <= text.size();) {
    const size_t end = std::min(text.find(',', start), text.size());
    TESS_TRY(add_range(text.substr(start, end - start), spec.tasks));
    start = end + 1;
  }
  std::sort(spec.tasks.begin(), spec.tasks.end());
  const auto twice = std::adjacent_find(spec.tasks.begin(), spec.tasks.end());
  if (twice != spec.tasks.end()) {
    return fail(ErrorKind::kBadInput, "task {} is named twice", *twice);
  }
  return spec;
}

}  // namespace tess::batch
