// Result<T>: an expected failure as a value. An Error says what kind of thing went wrong (what a caller can do
// about it), a sentence for a person, and errno where one was the cause. Each layer adds its context once:
//   return std::move(r.error()).context("open the control socket {}", path);
// `what failed: why` order: the outermost context comes first in message().
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace tess {

// What a caller can do about a failure.
enum class ErrorKind {
  kFailed,        // the operation failed; the message says why
  kNotPossible,   // refused for a reason a person can read and act on
  kDisconnected,  // the peer or tracee is gone
  kRetry,         // may succeed later
  kBadInput,      // a peer or a user sent something that makes no sense
};

class [[nodiscard]] Error {
 public:
  Error(ErrorKind kind, std::string message, int sys_errno = 0)
      : kind_(kind), sys_errno_(sys_errno), message_(std::move(message)) {}

  ErrorKind kind() const { return kind_; }
  int sys_errno() const { return sys_errno_; }
  const std::string& message() const { return message_; }

  template <typename... Args>
  Error context(fmt::format_string<Args...> format, Args&&... args) && {
    message_ = fmt::format(format, std::forward<Args>(args)...) + ": " + message_;
    return std::move(*this);
  }

 private:
  ErrorKind kind_;
  int sys_errno_;
  std::string message_;
};

template <typename T = void>
using Result = tl::expected<T, Error>;

template <typename... Args>
tl::unexpected<Error> fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error(kind, fmt::format(format, std::forward<Args>(args)...)));
}

// For a failed system call: keeps errno and appends its text.
template <typename... Args>
tl::unexpected<Error> fail_errno(fmt::format_string<Args...> format, Args&&... args) {
  const int saved = errno;
  return tl::unexpected<Error>(Error(
      ErrorKind::kFailed,
      fmt::format(format, std::forward<Args>(args)...) + ": " + ::strerror(saved), saved));
}

// Passes on a failure with one more layer of context.
template <typename... Args>
tl::unexpected<Error> fail_with(Error error, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(
      std::move(error).context(format, std::forward<Args>(args)...));
}

}  // namespace tess

#define TESS_CONCAT_INNER(a, b) a##b
#define TESS_CONCAT(a, b) TESS_CONCAT_INNER(a, b)

// TESS_TRY(expr): returns the error of a Result<void> expression from this function.
#define TESS_TRY(expr)                                                   \
  do {                                                                   \
    auto tess_try_result = (expr);                                       \
    if (!tess_try_result) {                                              \
      return tl::unexpected<::tess::Error>(std::move(tess_try_result.error())); \
    }                                                                    \
  } while (false)

// TESS_TRY_ASSIGN(declaration, expr): declares from the value of a Result, or returns its error.
#define TESS_TRY_ASSIGN(declaration, expr) \
  TESS_TRY_ASSIGN_INNER(TESS_CONCAT(tess_result_, __LINE__), declaration, expr)
#define TESS_TRY_ASSIGN_INNER(result, declaration, expr)               \
  auto result = (expr);                                                \
  if (!result) {                                                       \
    return tl::unexpected<::tess::Error>(std::move(result.error()));   \
  }                                                                    \
  declaration = std::move(*result)
