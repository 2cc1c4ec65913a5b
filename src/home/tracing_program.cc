#include "home/tracing_program.h"

#include <elf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace tess::home {
namespace {

using namespace std::string_view_literals;

constexpr uint64_t kNamesMax = 16 << 20;

bool read_at(const sys::Fd& file, uint64_t offset, void* into, size_t size) {
  return ::pread(file.get(), into, size, static_cast<off_t>(offset)) == static_cast<ssize_t>(size);
}

template <typename Entry>
std::vector<Entry> read_table(const sys::Fd& file, uint64_t offset, size_t count) {
  constexpr size_t kCountMax = 4096;
  std::vector<Entry> table(std::min(count, kCountMax));
  if (!read_at(file, offset, table.data(), table.size() * sizeof(Entry))) {
    table.clear();
  }
  return table;
}

uint64_t file_offset(const std::vector<Elf64_Phdr>& parts, uint64_t address) {
  for (const Elf64_Phdr& part : parts) {
    if (part.p_type == PT_LOAD && address - part.p_vaddr < part.p_filesz) {
      return part.p_offset + (address - part.p_vaddr);
    }
  }
  return 0;
}

// The names of symbols and libraries that it is linked against.
std::string dynamic_names(const sys::Fd& file) {
  Elf64_Ehdr header{};
  if (!read_at(file, 0, &header, sizeof(header)) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      header.e_phentsize != sizeof(Elf64_Phdr)) {
    return {};
  }
  const auto parts = read_table<Elf64_Phdr>(file, header.e_phoff, header.e_phnum);
  uint64_t address = 0;
  uint64_t size = 0;
  for (const Elf64_Phdr& part : parts) {
    if (part.p_type != PT_DYNAMIC) {
      continue;
    }
    for (const Elf64_Dyn& entry :
         read_table<Elf64_Dyn>(file, part.p_offset, part.p_filesz / sizeof(Elf64_Dyn))) {
      address = entry.d_tag == DT_STRTAB ? entry.d_un.d_ptr : address;
      size = entry.d_tag == DT_STRSZ ? entry.d_un.d_val : size;
    }
  }
  std::string names(std::min(size, kNamesMax), '\0');
  return read_at(file, file_offset(parts, address), names.data(), names.size()) ? names
                                                                                : std::string();
}

}  // namespace

bool traces_others(const sys::Fd& program) {
  const std::string names = dynamic_names(program);
  return std::ranges::any_of(
      std::initializer_list{"\0ptrace\0"sv, "\0libasan.so"sv, "\0liblsan.so"sv, "\0__asan_init\0"sv,
                            "\0__lsan_init\0"sv},
      [&](std::string_view name) { return names.find(name) != std::string::npos; });
}

bool traces_others(pid_t pid) {
  const sys::Fd program(
      ::open(("/proc/" + std::to_string(pid) + "/exe").c_str(), O_RDONLY | O_CLOEXEC));
  return program.valid() && traces_others(program);
}

}  // namespace tess::home
