#include "memory/address_space.h"

#include <sys/mman.h>

#include <charconv>
#include <cstdio>

#include "memory/object_number.h"
#include "memory/proc_file.h"
#include "wire/agent.pb.h"

namespace tess::memory {
namespace {

constexpr uint64_t kUserEnd = 0x7ffffffff000;

bool take_number(std::string_view& text, uint64_t& value, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc()) {
    return false;
  }
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

bool take_char(std::string_view& text, char wanted) {
  if (text.empty() || text.front() != wanted) {
    return false;
  }
  text.remove_prefix(1);
  return true;
}

void skip_spaces(std::string_view& text) {
  while (!text.empty() && text.front() == ' ') {
    text.remove_prefix(1);
  }
}

// What the name of a mapping without a file on disk says.
void classify(Mapping& mapping) {
  const std::string_view path = mapping.path;
  const bool shared = (mapping.flags & MAP_SHARED) != 0;
  if (path == "[vdso]") {
    mapping.kind = MappingKind::kVdso;
  } else if (path.starts_with("[vvar")) {
    mapping.kind = MappingKind::kVvar;
  } else if (path == "[vsyscall]") {
    mapping.kind = MappingKind::kVsyscall;
  } else if (const auto home = parse_body_file_name(path)) {
    mapping.dev_major = home->dev_major;
    mapping.dev_minor = home->dev_minor;
    mapping.inode = home->inode;
    mapping.kind = home->anonymous ? MappingKind::kAnonShared
                   : shared        ? MappingKind::kFileShared
                                   : MappingKind::kFilePrivate;
  } else if (path.starts_with("/dev/zero") && !shared) {
    mapping.kind =
        MappingKind::kAnon;  // reads as zero and is copied on write, as anonymous memory is
    mapping.inode = mapping.offset = mapping.dev_major = mapping.dev_minor = 0;
  } else if (path.starts_with("/dev/zero (deleted)") || path.starts_with("[anon_shmem:") ||
             path.starts_with("/SYSV")) {
    mapping.kind = MappingKind::kAnonShared;
  } else if (mapping.inode != 0 || path.starts_with("/")) {
    mapping.kind = shared ? MappingKind::kFileShared : MappingKind::kFilePrivate;
  } else {
    mapping.kind = shared ? MappingKind::kAnonShared : MappingKind::kAnon;
    mapping.offset = 0;  // the kernel shows a page number for some anonymous ranges
  }
  if (path.starts_with("/SYSV")) {
    mapping.inode = object_number(mapping.inode, path);
    mapping.traits |= kTraitSysv;
  }
  if (path.find("[aio]") != std::string_view::npos) {
    mapping.traits |= kTraitAio;
  }
}

// "7f12a000-7f12b000 r-xp 00001000 08:01 1234   /usr/lib/x.so"
bool parse_line(std::string_view line, Mapping& mapping) {
  uint64_t major = 0, minor = 0;
  if (!take_number(line, mapping.start, 16) || !take_char(line, '-') ||
      !take_number(line, mapping.end, 16) || !take_char(line, ' ') || line.size() < 5) {
    return false;
  }
  mapping.prot = (line[0] == 'r' ? PROT_READ : 0u) | (line[1] == 'w' ? PROT_WRITE : 0u) |
                 (line[2] == 'x' ? PROT_EXEC : 0u);
  mapping.flags = line[3] == 's' ? MAP_SHARED : MAP_PRIVATE;
  line.remove_prefix(5);
  if (!take_number(line, mapping.offset, 16) || !take_char(line, ' ') ||
      !take_number(line, major, 16) || !take_char(line, ':') || !take_number(line, minor, 16) ||
      !take_char(line, ' ') || !take_number(line, mapping.inode, 10)) {
    return false;
  }
  mapping.dev_major = static_cast<uint32_t>(major);
  mapping.dev_minor = static_cast<uint32_t>(minor);
  skip_spaces(line);
  mapping.path = std::string(line);
  classify(mapping);
  return mapping.start < mapping.end;
}

// Clean file content: a body's shared mapping of it was read-only at home.
bool is_clean_body_file(std::string_view path) {
  return path.starts_with("/memfd:tess:");
}

struct FlagMeaning {
  char code[3];
  uint32_t flags = 0, madvise = 0, traits = 0;
};
constexpr FlagMeaning kFlagMeanings[] = {
    {"gd", MAP_GROWSDOWN, 0, 0},      {"nr", MAP_NORESERVE, 0, 0},
    {"hg", 0, kAdviseHugepage, 0},    {"nh", 0, kAdviseNoHugepage, 0},
    {"dc", 0, kAdviseDontFork, 0},    {"dd", 0, kAdviseDontDump, 0},
    {"wf", 0, kAdviseWipeOnFork, 0},  {"mg", 0, kAdviseMergeable, 0},
    {"io", 0, 0, kTraitIo},           {"pf", 0, 0, kTraitPfnMap},
    {"mm", 0, 0, kTraitPfnMap},       {"ht", 0, 0, kTraitHugetlb},
    {"um", 0, 0, kTraitUserfault},    {"uw", 0, 0, kTraitUserfault},
    {"ui", 0, 0, kTraitUserfault},    {"sl", 0, 0, kTraitSealed},
    {"sr", 0, kAdviseSequential, 0},  {"rr", 0, kAdviseRandom, 0},
    {"lf", 0, kAdviseLockOnFault, 0},
};

void apply_vm_flags(std::string_view codes, Mapping& mapping) {
  while (codes.size() >= 2) {
    const std::string_view code = codes.substr(0, 2);
    if (code == "lo") {
      mapping.locked = true;
    } else if (code == "mw" && mapping.shared() && !is_clean_body_file(mapping.path)) {
      mapping.traits |= kTraitMayWrite;
    }
    if (code == "ac" && mapping.kind == MappingKind::kAnon && (mapping.prot & PROT_WRITE) == 0) {
      mapping.madvise |= kWasWritable;
    }
    for (const FlagMeaning& meaning : kFlagMeanings) {
      if (code == meaning.code) {
        mapping.flags |= meaning.flags;
        mapping.madvise |= meaning.madvise;
        mapping.traits |= meaning.traits;
      }
    }
    codes.remove_prefix(std::min<size_t>(3, codes.size()));
  }
}

}  // namespace

Result<std::vector<Mapping>> parse_address_space(std::string_view smaps) {
  std::vector<Mapping> mappings;
  while (!smaps.empty()) {
    const size_t end = std::min(smaps.find('\n'), smaps.size());
    std::string_view line = smaps.substr(0, end);
    smaps.remove_prefix(std::min(end + 1, smaps.size()));
    if (line.empty()) {
      continue;
    }
    // A field of smaps starts with a capital letter, a mapping with a lower-case hexadecimal
    // number.
    if (line.front() >= 'A' && line.front() <= 'Z') {
      if (line.starts_with("VmFlags: ") && !mappings.empty()) {
        apply_vm_flags(line.substr(9), mappings.back());
      }
      continue;
    }
    Mapping mapping;
    if (!parse_line(line, mapping)) {
      return fail(ErrorKind::kBadInput, "a line of /proc/PID/maps that makes no sense: {}", line);
    }
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

Result<std::vector<Mapping>> read_address_space(pid_t pid) {
  TESS_TRY_ASSIGN(const std::string text, read_proc(pid, "smaps"));
  TESS_TRY_ASSIGN(std::vector<Mapping> mappings, parse_address_space(text));
  if (mappings.empty()) {
    return fail(ErrorKind::kDisconnected, "process {} has no memory any more", pid);
  }
  for (Mapping& mapping : mappings) {
    if (mapping.kind == MappingKind::kFilePrivate || mapping.kind == MappingKind::kFileShared) {
      const bool device =
          mapping.path.starts_with("/dev/") && !mapping.path.starts_with("/dev/shm/");
      if (device || mapping.path.starts_with("anon_inode:")) {
        mapping.traits |= kTraitDevice;
      }
    }
  }
  return mappings;
}

Result<MmFields> read_mm_fields(pid_t pid) {
  TESS_TRY_ASSIGN(const std::string stat, read_proc(pid, "stat"));
  // The command name may hold anything; what follows its closing parenthesis does not.
  const size_t close = stat.rfind(')');
  if (close == std::string::npos) {
    return fail(ErrorKind::kFailed, "read /proc/{}/stat: no command in it", pid);
  }
  std::vector<uint64_t> values(3);  // fields 0 (none), 1 pid, 2 comm; proc(5) counts from one
  std::string_view rest = std::string_view(stat).substr(close + 1);
  skip_spaces(rest);
  values.push_back(0);  // 3: state, a letter
  rest.remove_prefix(std::min<size_t>(1, rest.size()));
  while (values.size() < 53) {
    skip_spaces(rest);
    const bool negative = take_char(rest, '-');
    uint64_t value = 0;
    if (!take_number(rest, value, 10)) {
      return fail(ErrorKind::kFailed, "read /proc/{}/stat: only {} fields", pid, values.size());
    }
    values.push_back(negative ? 0 : value);
  }
  MmFields fields;
  fields.start_code = values[26];
  fields.end_code = values[27];
  fields.start_stack = values[28];
  fields.start_data = values[45];
  fields.end_data = values[46];
  fields.start_brk = values[47];
  fields.arg_start = values[48];
  fields.arg_end = values[49];
  fields.env_start = values[50];
  fields.env_end = values[51];
  fields.brk = fields.start_brk;
  TESS_TRY_ASSIGN(const std::string maps_text, read_proc(pid, "maps"));
  TESS_TRY_ASSIGN(const std::vector<Mapping> mappings, parse_address_space(maps_text));
  for (const Mapping& mapping : mappings) {
    if (mapping.path == "[heap]") {
      fields.brk = mapping.end;
    }
  }
  TESS_TRY_ASSIGN(const std::string auxv, read_proc(pid, "auxv"));
  fields.auxv.assign(auxv.begin(), auxv.end());
  return fields;
}

std::string body_file_name(const Mapping& mapping) {
  const bool written_through =
      mapping.kind == MappingKind::kFileShared && mapping.content_hash.empty();
  const char* prefix = mapping.kind == MappingKind::kAnonShared ? "tess-a"
                       : written_through                        ? "tess-s"
                                                                : "tess";
  return fmt::format("{}:{:x}:{:x}:{}", prefix, mapping.dev_major, mapping.dev_minor,
                     mapping.inode);
}

std::optional<HomeFile> parse_body_file_name(std::string_view path) {
  if (path.starts_with("/memfd:")) {
    path.remove_prefix(7);
  }
  if (path.ends_with(" (deleted)")) {
    path.remove_suffix(10);
  }
  HomeFile file{};
  if (path.starts_with("tess-a:")) {
    file.anonymous = true;
    path.remove_prefix(7);
  } else if (path.starts_with("tess-s:")) {
    path.remove_prefix(7);
  } else if (path.starts_with("tess:")) {
    path.remove_prefix(5);
  } else {
    return std::nullopt;
  }
  uint64_t major = 0, minor = 0;
  if (!take_number(path, major, 16) || !take_char(path, ':') || !take_number(path, minor, 16) ||
      !take_char(path, ':') || !take_number(path, file.inode, 10) || !path.empty() ||
      major > UINT32_MAX || minor > UINT32_MAX) {
    return std::nullopt;
  }
  file.dev_major = static_cast<uint32_t>(major);
  file.dev_minor = static_cast<uint32_t>(minor);
  return file;
}

std::vector<Mapping>::const_iterator first_behind(const std::vector<Mapping>& mappings,
                                                  uint64_t address) {
  return std::upper_bound(mappings.begin(), mappings.end(), address,
                          [](uint64_t a, const Mapping& m) { return a < m.end; });
}

const Mapping* mapping_at(const std::vector<Mapping>& mappings, uint64_t address) {
  const auto first = first_behind(mappings, address);
  return first != mappings.end() && first->start <= address ? &*first : nullptr;
}

std::vector<Mapping> without_range(std::span<const Mapping> mappings, uint64_t hole_start,
                                   uint64_t hole_end) {
  std::vector<Mapping> rest;
  for (const Mapping& mapping : mappings) {
    if (mapping.start < hole_start) {
      rest.push_back(mapping);
      rest.back().end = std::min(mapping.end, hole_start);
    }
    if (mapping.end > hole_end) {
      rest.push_back(mapping);
      Mapping& tail = rest.back();
      tail.start = std::max(mapping.start, hole_end);
      if (tail.kind != MappingKind::kAnon) {
        tail.offset += tail.start - mapping.start;
      }
    }
  }
  return rest;
}

void to_wire(const Mapping& mapping, wire::Vma& vma) {
  vma.set_start(mapping.start);
  vma.set_end(mapping.end);
  vma.set_prot(mapping.prot);
  vma.set_flags(mapping.flags);
  vma.set_kind(static_cast<wire::Vma::Kind>(mapping.kind));
  vma.set_dev_major(mapping.dev_major);
  vma.set_dev_minor(mapping.dev_minor);
  vma.set_inode(mapping.inode);
  vma.set_offset(mapping.offset);
  vma.set_path(mapping.path);
  vma.set_madvise(mapping.madvise);
  vma.set_locked(mapping.locked);
  vma.set_content_hash(mapping.content_hash);
}

Result<Mapping> from_wire(const wire::Vma& vma) {
  Mapping mapping;
  mapping.start = vma.start();
  mapping.end = vma.end();
  mapping.prot = vma.prot() & (PROT_READ | PROT_WRITE | PROT_EXEC);
  mapping.flags = vma.flags() & (MAP_PRIVATE | MAP_SHARED | MAP_GROWSDOWN | MAP_NORESERVE);
  mapping.kind = static_cast<MappingKind>(vma.kind());
  mapping.dev_major = vma.dev_major();
  mapping.dev_minor = vma.dev_minor();
  mapping.inode = vma.inode();
  mapping.offset = vma.offset();
  mapping.path = vma.path();
  mapping.madvise = vma.madvise();
  mapping.locked = vma.locked();
  mapping.content_hash = vma.content_hash();
  const bool in_user_space = mapping.kind == MappingKind::kVsyscall || mapping.end <= kUserEnd;
  if (mapping.start >= mapping.end || (mapping.start | mapping.end) % kPageSize != 0 ||
      mapping.offset % kPageSize != 0 || mapping.offset > (uint64_t{1} << 62) || !in_user_space ||
      static_cast<unsigned>(vma.kind()) > static_cast<unsigned>(MappingKind::kVsyscall) ||
      (!mapping.content_hash.empty() && mapping.content_hash.size() != 32)) {
    return fail(ErrorKind::kBadInput, "the image has an impossible mapping {:x}-{:x}",
                mapping.start, mapping.end);
  }
  return mapping;
}

void to_wire(const MmFields& fields, wire::ProcessImage& image) {
  image.set_start_code(fields.start_code);
  image.set_end_code(fields.end_code);
  image.set_start_data(fields.start_data);
  image.set_end_data(fields.end_data);
  image.set_start_brk(fields.start_brk);
  image.set_brk(fields.brk);
  image.set_start_stack(fields.start_stack);
  image.set_arg_start(fields.arg_start);
  image.set_arg_end(fields.arg_end);
  image.set_env_start(fields.env_start);
  image.set_env_end(fields.env_end);
  image.set_auxv(std::string(fields.auxv.begin(), fields.auxv.end()));
}

Result<std::vector<Mapping>> mappings_of(const wire::ProcessImage& image) {
  constexpr uint64_t kRegionBytes = uint64_t{2}
                                    << 30;  // stub::kRegionSize; memory/ does not know the stub
  std::vector<Mapping> mappings;
  mappings.reserve(static_cast<size_t>(image.vmas_size()));
  for (const wire::Vma& vma : image.vmas()) {
    TESS_TRY_ASSIGN(Mapping mapping, from_wire(vma));
    if (!mappings.empty() && mapping.start < mappings.back().end) {
      return fail(ErrorKind::kBadInput, "the image's mappings overlap at {:x}", mapping.start);
    }
    if (mapping.start < image.region_base() + kRegionBytes && mapping.end > image.region_base()) {
      return fail(ErrorKind::kBadInput, "mapping {:x} of the image lies in the stub's region",
                  mapping.start);
    }
    mappings.push_back(std::move(mapping));
  }
  return mappings;
}

}  // namespace tess::memory
