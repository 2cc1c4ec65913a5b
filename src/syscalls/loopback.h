// Test only: a body and a deputy in one process. `carried` plans a call, writes the request to a
// byte string, executes it from these bytes with the deputy's rules (src/stub/abi.h), and finishes
// it from the reply's bytes. `direct` makes the same call as it is. Both return value or -errno, so
// that a test compares what the two did.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace tess::syscalls {

using Args = std::array<uint64_t, 6>;

struct Carried {
  int64_t result = 0;
  size_t request_bytes = 0;
  size_t reply_bytes = 0;
  bool asked_home = false;
};

Carried carry(uint64_t number, const Args& args);
int64_t direct_call(uint64_t number, const Args& args);

// How a test makes a call; pointers and integers alike.
class Caller {
 public:
  explicit Caller(bool carried) : carried_(carried) {}
  bool carried() const { return carried_; }

  template <typename... T>
  int64_t operator()(uint64_t number, T... values) const {
    const Args args = {to_word(values)...};
    return carried_ ? carry(number, args).result : direct_call(number, args);
  }

 private:
  template <typename T>
  static uint64_t to_word(T value) {
    if constexpr (std::is_pointer_v<T>) {
      return reinterpret_cast<uint64_t>(value);
    } else if constexpr (std::is_null_pointer_v<T>) {
      return 0;
    } else {
      return static_cast<uint64_t>(static_cast<int64_t>(value));
    }
  }
  bool carried_;
};

}  // namespace tess::syscalls
