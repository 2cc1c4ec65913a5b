// The name that a machine gives its node if nobody says another.
#pragma once

#include <unistd.h>

#include <string>

namespace tess::cli {

// Up to the first dot.
inline std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  const std::string full = name;
  return full.substr(0, full.find('.'));
}

}  // namespace tess::cli
