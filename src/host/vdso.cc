#include "host/vdso.h"

#include <elf.h>
#include <sys/syscall.h>

#include <cstring>

namespace tess::host {
namespace {

using memory::Mapping;
using memory::MappingKind;

template <typename T>
std::optional<T> read_at(std::string_view image, uint64_t offset) {
  if (offset > image.size() || image.size() - offset < sizeof(T)) {
    return std::nullopt;
  }
  T value;
  std::memcpy(&value, image.data() + offset, sizeof(T));
  return value;
}

std::string string_at(std::string_view image, uint64_t offset) {
  if (offset >= image.size()) {
    return {};
  }
  const std::string_view rest = image.substr(offset);
  return std::string(rest.substr(0, std::min(rest.find('\0'), rest.size())));
}

// "__vdso_time" and its weak alias "time" are one function.
std::string_view plain_name(std::string_view name) {
  return name.starts_with("__vdso_") ? name.substr(7) : name;
}

void put(std::string& code, std::initializer_list<int> bytes) {
  for (const int byte : bytes) {
    code.push_back(static_cast<char>(byte));
  }
}

// movabs $target,%rax; jmp *%rax. rax is free at a function's entry.
std::string jump_to(uint64_t target) {
  std::string code;
  put(code, {0x48, 0xb8});
  code.append(reinterpret_cast<const char*>(&target), sizeof(target));
  put(code, {0xff, 0xe0});
  return code;
}

std::string call_kernel(uint32_t number) {
  std::string code;
  put(code, {0xb8});
  code.append(reinterpret_cast<const char*>(&number), sizeof(number));
  put(code, {0x0f, 0x05, 0xc3});  // syscall; ret
  return code;
}

// The state that a program keeps for vgetrandom belongs to the kernel that laid it out, so it is
// the system call here whatever the host offers. A question for the layout (opaque_len == -1 in r8)
// is answered as by a kernel without it.
std::string call_getrandom() {
  std::string code;
  put(code, {0x49, 0x83, 0xf8, 0xff});                    // cmp $-1,%r8
  put(code, {0x74, 0x08});                                // je 1f
  code += call_kernel(SYS_getrandom);                     // 8 bytes
  put(code, {0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff});  // 1: mov $-ENOSYS,%rax
  put(code, {0xc3});
  return code;
}

std::optional<std::string> as_system_call(std::string_view name) {
  struct Known {
    const char* name;
    uint32_t number;
  };
  constexpr Known kKnown[] = {{"clock_gettime", SYS_clock_gettime},
                              {"gettimeofday", SYS_gettimeofday},
                              {"clock_getres", SYS_clock_getres},
                              {"time", SYS_time},
                              {"getcpu", SYS_getcpu}};
  for (const Known& known : kKnown) {
    if (name == known.name) {
      return call_kernel(known.number);
    }
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<VdsoSymbol>> vdso_symbols(std::string_view image) {
  const auto header = read_at<Elf64_Ehdr>(image, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_machine != EM_X86_64 || header->e_shentsize != sizeof(Elf64_Shdr)) {
    return fail(ErrorKind::kBadInput, "the vDSO is no x86-64 ELF image");
  }
  std::vector<VdsoSymbol> found;
  for (unsigned i = 0; i < header->e_shnum; ++i) {
    const auto section = read_at<Elf64_Shdr>(image, header->e_shoff + i * sizeof(Elf64_Shdr));
    if (!section || section->sh_type != SHT_DYNSYM) {
      continue;
    }
    const auto strings =
        read_at<Elf64_Shdr>(image, header->e_shoff + section->sh_link * sizeof(Elf64_Shdr));
    if (!strings) {
      break;
    }
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= section->sh_size; at += sizeof(Elf64_Sym)) {
      const auto symbol = read_at<Elf64_Sym>(image, section->sh_offset + at);
      if (!symbol) {
        break;
      }
      if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF &&
          symbol->st_value < image.size()) {
        found.push_back({string_at(image, strings->sh_offset + symbol->st_name), symbol->st_value,
                         symbol->st_size});
      }
    }
  }
  if (found.empty()) {
    return fail(ErrorKind::kBadInput, "the vDSO exports no function");
  }
  return found;
}

Result<std::string> patch_vdso(std::string_view home, std::string_view host,
                               uint64_t host_address) {
  TESS_TRY_ASSIGN(const std::vector<VdsoSymbol> wanted, vdso_symbols(home));
  TESS_TRY_ASSIGN(const std::vector<VdsoSymbol> offered, vdso_symbols(host));
  std::string patched(home);
  for (const VdsoSymbol& symbol : wanted) {
    const std::string_view name = plain_name(symbol.name);
    std::string code;
    if (name == "getrandom") {
      code = call_getrandom();
    } else if (name == "sgx_enter_enclave") {
      put(code, {0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, 0xc3});  // -ENOSYS: no enclave moves
    } else {
      for (const VdsoSymbol& candidate : offered) {
        if (plain_name(candidate.name) == name) {
          code = jump_to(host_address + candidate.offset);
          break;
        }
      }
      if (code.empty() || code.size() > symbol.size) {
        // Too short for the jump, or not there: the system call is 8 bytes.
        const auto call = as_system_call(name);
        code = call ? *call : std::string();
      }
    }
    if (code.empty() || code.size() > symbol.size || symbol.offset + code.size() > patched.size()) {
      return fail(ErrorKind::kNotPossible, "the function {} of home's vDSO cannot be carried here",
                  symbol.name);
    }
    patched.replace(symbol.offset, code.size(), code);
  }
  return patched;
}

std::vector<Mapping> vdso_ranges(std::span<const Mapping> mappings) {
  std::vector<Mapping> found;
  for (const Mapping& mapping : mappings) {
    if (mapping.kind == MappingKind::kVdso || mapping.kind == MappingKind::kVvar) {
      found.push_back(mapping);
    }
  }
  if (found.empty() || found.back().kind != MappingKind::kVdso) {
    return {};  // no vDSO, or data behind it: not a layout we know
  }
  return found;
}

bool same_layout(std::span<const Mapping> a, std::span<const Mapping> b) {
  if (a.size() != b.size() || a.empty()) {
    return false;
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].kind != b[i].kind || a[i].size() != b[i].size() ||
        a[i].start - a[0].start != b[i].start - b[0].start) {
      return false;
    }
  }
  return true;
}

}  // namespace tess::host
