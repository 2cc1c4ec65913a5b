// RemotePtr<T>: an address in another process. It cannot be dereferenced, and does not convert to
// or from a pointer of ours.
#pragma once

#include <cstdint>

namespace tess::trace {

template <typename T>
class RemotePtr {
 public:
  constexpr RemotePtr() = default;
  constexpr explicit RemotePtr(uint64_t address) : address_(address) {}

  constexpr uint64_t address() const { return address_; }
  constexpr bool null() const { return address_ == 0; }
  constexpr RemotePtr operator+(uint64_t elements) const {
    return RemotePtr(address_ + elements * sizeof(T));
  }
  template <typename U>
  constexpr RemotePtr<U> as() const {
    return RemotePtr<U>(address_);
  }
  friend constexpr auto operator<=>(RemotePtr, RemotePtr) = default;

 private:
  uint64_t address_ = 0;
};

}  // namespace tess::trace
