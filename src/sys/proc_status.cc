#include "sys/proc_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "sys/files.h"

namespace tess::sys {

std::optional<ProcStatus> ProcStatus::read(pid_t pid) {
  auto text = read_file(fmt::format("/proc/{}/status", pid));
  return text ? std::optional(ProcStatus(std::move(*text))) : std::nullopt;
}

std::optional<ProcStatus> ProcStatus::read_thread(pid_t pid, pid_t tid) {
  auto text = read_file(fmt::format("/proc/{}/task/{}/status", pid, tid));
  return text ? std::optional(ProcStatus(std::move(*text))) : std::nullopt;
}

std::string_view ProcStatus::field(std::string_view name) const {
  const std::string_view text = text_;
  for (size_t line = 0; line < text.size();) {
    const size_t end = std::min(text.find('\n', line), text.size());
    const std::string_view one = text.substr(line, end - line);
    if (one.size() > name.size() && one.starts_with(name) && one[name.size()] == ':') {
      const size_t from = one.find_first_not_of(" \t", name.size() + 1);
      return from == std::string_view::npos ? std::string_view() : one.substr(from);
    }
    line = end + 1;
  }
  return {};
}

uint64_t ProcStatus::number(std::string_view name, int base) const {
  const std::string_view value = field(name);
  uint64_t result = 0;
  std::from_chars(value.data(), value.data() + value.size(), result, base);
  return result;
}

int32_t ProcStatus::innermost_id() const {
  const std::string_view ids = field("NSpid");
  const size_t before = ids.find_last_of(" \t");
  const std::string_view last = ids.substr(before == std::string_view::npos ? 0 : before + 1);
  int32_t id = 0;
  std::from_chars(last.data(), last.data() + last.size(), id);
  return id;
}

char ProcStatus::state() const {
  const std::string_view value = field("State");
  return value.empty() ? 'X' : value.front();
}

}  // namespace tess::sys
