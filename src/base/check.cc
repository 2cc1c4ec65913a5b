#include "base/check.h"

#include <cstdlib>

#include "base/log.h"

namespace tess {

void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  log::error("base", "check=failed at={}:{} condition=\"{}\" message=\"{}\"", file, line, condition,
             message);
  std::abort();
}

}  // namespace tess
