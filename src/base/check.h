// TESS_CHECK(condition, format, ...): a broken invariant of ours; logs and aborts, in release builds too.
// Bad input from a peer or a user is never a check: return an Error of kBadInput and drop the peer.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace tess {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);
}  // namespace tess

#define TESS_CHECK(condition, ...)                                                     \
  do {                                                                                 \
    if (!(condition)) [[unlikely]] {                                                   \
      ::tess::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
    }                                                                                  \
  } while (false)
