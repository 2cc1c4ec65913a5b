// Mapping: owns a range of this process's address space and unmaps it at the end.
#pragma once

#include <sys/mman.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::sys {

class Mapping {
 public:
  Mapping() = default;
  ~Mapping() { reset(); }
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    if (this != &other) {
      reset();
      address_ = std::exchange(other.address_, nullptr);
      size_ = std::exchange(other.size_, 0);
    }
    return *this;
  }

  // Private memory, zero. `flags` may add MAP_NORESERVE, MAP_POPULATE…
  static Result<Mapping> anonymous(size_t size, int prot = PROT_READ | PROT_WRITE, int flags = 0);
  // `share`: MAP_SHARED or MAP_PRIVATE.
  static Result<Mapping> file(const Fd& fd, off_t offset, size_t size, int prot, int share);
  // The same at exactly this address; fails where anything is mapped already.
  static Result<Mapping> anonymous_at(uint64_t address, size_t size, int prot, int flags = 0);

  bool valid() const { return address_ != nullptr; }
  std::byte* data() const { return static_cast<std::byte*>(address_); }
  size_t size() const { return size_; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(address_); }
  std::span<std::byte> bytes() const { return {data(), size_}; }

  Result<> protect(int prot) const;
  void reset();
  // Gives the range up without unmapping it.
  std::span<std::byte> release();

 private:
  Mapping(void* address, size_t size) : address_(address), size_(size) {}

  void* address_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tess::sys
