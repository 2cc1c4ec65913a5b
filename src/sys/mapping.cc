#include "sys/mapping.h"

namespace tess::sys {

Result<Mapping> Mapping::anonymous(size_t size, int prot, int flags) {
  void* address = ::mmap(nullptr, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (address == MAP_FAILED) {
    return fail_errno("map {} bytes of memory", size);
  }
  return Mapping(address, size);
}

Result<Mapping> Mapping::anonymous_at(uint64_t where, size_t size, int prot, int flags) {
  void* address = ::mmap(reinterpret_cast<void*>(where), size, prot,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | flags, -1, 0);
  if (address == MAP_FAILED) {
    return fail_errno("map {} bytes at {:#x}", size, where);
  }
  return Mapping(address, size);
}

Result<Mapping> Mapping::file(const Fd& fd, off_t offset, size_t size, int prot, int share) {
  void* address = ::mmap(nullptr, size, prot, share, fd.get(), offset);
  if (address == MAP_FAILED) {
    return fail_errno("map {} bytes of a file", size);
  }
  return Mapping(address, size);
}

Result<> Mapping::protect(int prot) const {
  if (::mprotect(address_, size_, prot) != 0) {
    return fail_errno("change the protection of {} bytes at {:#x}", size_, address());
  }
  return {};
}

void Mapping::reset() {
  if (address_ != nullptr) {
    ::munmap(std::exchange(address_, nullptr), std::exchange(size_, 0));
  }
}

std::span<std::byte> Mapping::release() {
  const std::span<std::byte> range = bytes();
  address_ = nullptr;
  size_ = 0;
  return range;
}

}  // namespace tess::sys
