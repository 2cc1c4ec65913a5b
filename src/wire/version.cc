#include "wire/version.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace tess::wire {

unsigned protocol_version() {
  const char* given = std::getenv("TESS_PROTOCOL_VERSION");
  const unsigned long value = given == nullptr ? 0 : std::strtoul(given, nullptr, 10);
  return value == 0 ? kProtocolVersion : static_cast<unsigned>(value);
}

std::optional<unsigned> common_version(unsigned ours, unsigned theirs) {
  const unsigned older = std::min(ours, theirs);
  if (older == 0 || std::max(ours, theirs) - older > 1) {
    return std::nullopt;
  }
  return older;
}

std::string version_mismatch(const std::string& here, unsigned ours, const std::string& there,
                             unsigned theirs) {
  return fmt::format(
      "protocol versions differ by more than one: {} speaks {}, {} speaks {}; upgrade {} first",
      here, ours, there, theirs, ours < theirs ? here : there);
}

}  // namespace tess::wire
