#include "base/size.h"

#include <cmath>
#include <cstdlib>

namespace tess {

uint64_t parse_size(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string units = "KMGT";
  const size_t unit = *end == '\0' ? std::string::npos : units.find(*end);
  const bool whole = *end == '\0' || (unit != std::string::npos && end[1] == '\0');
  if (!whole || !(value > 0)) {
    return 0;
  }
  const double bytes =
      std::ldexp(value, unit == std::string::npos ? 0 : 10 * (static_cast<int>(unit) + 1));
  return bytes < 9e18 ? static_cast<uint64_t>(bytes) : 0;
}

}  // namespace tess
