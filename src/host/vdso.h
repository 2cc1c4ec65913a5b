// The vDSO of a process that comes from another kernel. Equal content: this machine's vDSO and its
// data pages are moved to the old addresses. Otherwise the old bytes stay, as ordinary memory, with
// every exported function patched to jump to this machine's; a function this machine has not got
// becomes the system call. Works on bytes only.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/address_space.h"

namespace tess::host {

struct VdsoSymbol {
  std::string name;
  uint64_t offset = 0;  // from the image's start
  uint64_t size = 0;
};

// The exported functions of a vDSO image. kBadInput if it is no vDSO.
Result<std::vector<VdsoSymbol>> vdso_symbols(std::string_view image);

// `home` with its functions leading to `host`, which is mapped at `host_address`. kNotPossible
// names a function that cannot be carried.
Result<std::string> patch_vdso(std::string_view home, std::string_view host, uint64_t host_address);

// The vDSO and vvar ranges of an address space, in order; the vDSO is the last. Empty if there is
// none.
std::vector<memory::Mapping> vdso_ranges(std::span<const memory::Mapping> mappings);

// True if one set of ranges can stand for the other: same sizes, same distances.
bool same_layout(std::span<const memory::Mapping> a, std::span<const memory::Mapping> b);

}  // namespace tess::host
