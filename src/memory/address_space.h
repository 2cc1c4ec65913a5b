// What a process's address space looks like: mappings from /proc/PID/maps and the VmFlags of smaps,
// and the mm fields (brk, stack, arguments) from /proc/PID/stat. `pid` is in the caller's pid
// namespace; the caller may ptrace it. A file mapping of a body (a memfd named by body_file_name)
// is reported as the home file that it stands for, so an image made from a body says the same as
// one made at home.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tess::wire {
class ProcessImage;
class Vma;
}  // namespace tess::wire

namespace tess::memory {

inline constexpr uint64_t kPageSize = 4096;
constexpr uint64_t page_up(uint64_t bytes) {
  return (bytes + kPageSize - 1) & ~(kPageSize - 1);
}

// The order is that of wire::Vma::Kind.
enum class MappingKind { kAnon, kFilePrivate, kFileShared, kAnonShared, kVdso, kVvar, kVsyscall };

// Bits of Mapping::madvise, as on the wire.
enum MadviseBit : uint32_t {
  kAdviseHugepage = 1,
  kAdviseNoHugepage = 2,
  kAdviseDontFork = 4,
  kAdviseDontDump = 8,
  kAdviseWipeOnFork = 16,
  kAdviseMergeable = 32,
  kAdviseSequential = 64,
  kAdviseRandom = 128,
  kAdviseLockOnFault = 256,  // of locked memory: not populated
  // No advice: private memory that could be written to once, and cannot now. The kernel joins it
  // with what is beside it when it can be again, if it was mapped writable there, too.
  kWasWritable = 512,
};

// Bits of Mapping::traits: what may forbid a move.
enum MappingTrait : uint32_t {
  kTraitIo = 1,      // VM_IO
  kTraitPfnMap = 2,  // VM_PFNMAP or VM_MIXEDMAP of a device
  kTraitHugetlb = 4,
  kTraitMayWrite = 8,    // shared: may be made writable by mprotect
  kTraitAio = 16,        // "[aio]" or "/[aio]"
  kTraitUserfault = 32,  // registered with a userfaultfd
  kTraitDevice = 64,     // a file mapping whose file is not a regular file
  kTraitSysv = 128,      // "/SYSV…"
  kTraitSealed = 256,    // mseal
};

struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  uint32_t prot = 0;   // PROT_*
  uint32_t flags = 0;  // MAP_PRIVATE or MAP_SHARED, MAP_GROWSDOWN, MAP_NORESERVE
  MappingKind kind = MappingKind::kAnon;
  uint32_t dev_major = 0;  // of the file at home
  uint32_t dev_minor = 0;
  uint64_t inode = 0;
  uint64_t offset = 0;
  std::string path;
  uint32_t madvise = 0;
  bool locked = false;
  uint32_t traits = 0;       // not on the wire
  std::string content_hash;  // 32 bytes or empty

  uint64_t size() const { return end - start; }
  bool shared() const {
    return kind == MappingKind::kFileShared || kind == MappingKind::kAnonShared;
  }
  bool special() const { return kind >= MappingKind::kVdso; }
  bool operator==(const Mapping&) const = default;
};

struct MmFields {
  uint64_t start_code = 0, end_code = 0, start_data = 0, end_data = 0;
  uint64_t start_brk = 0, brk = 0, start_stack = 0;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  std::vector<char> auxv;
};

// Sorted by address. kDisconnected if the process is gone.
Result<std::vector<Mapping>> read_address_space(pid_t pid);
// The same from text, for tests and for fuzzing: `smaps` in the format of /proc/PID/smaps (maps
// lines alone work too).
Result<std::vector<Mapping>> parse_address_space(std::string_view smaps);
// brk is not in /proc/PID/stat: it is the end of the [heap] mapping, start_brk if there is none. A
// caller inside the process can learn the exact value by brk(0).
Result<MmFields> read_mm_fields(pid_t pid);

// Name of the memfd that stands for a home file in a body (without the "/memfd:" that the kernel
// adds), and back: "tess:MAJOR:MINOR:INODE" clean content (private mappings, and shared ones that
// nobody may write), "tess-s:" a shared mapping that may be written, "tess-a:" shared anonymous
// memory. The device in hexadecimal, the inode in decimal, as /proc/PID/maps has them.
std::string body_file_name(const Mapping& mapping);
struct HomeFile {
  uint32_t dev_major, dev_minor;
  uint64_t inode;
  bool anonymous;
};
std::optional<HomeFile> parse_body_file_name(std::string_view path);

// Of sorted mappings: the first that ends behind the address, and the one that holds it (null:
// none).
std::vector<Mapping>::const_iterator first_behind(const std::vector<Mapping>& mappings,
                                                  uint64_t address);
const Mapping* mapping_at(const std::vector<Mapping>& mappings, uint64_t address);

// Everything in [start, end) that is not in [hole_start, hole_end) of the sorted mappings, cut at
// the hole's borders.
std::vector<Mapping> without_range(std::span<const Mapping> mappings, uint64_t hole_start,
                                   uint64_t hole_end);

void to_wire(const Mapping& mapping, wire::Vma& vma);
// kBadInput for a range that is empty, not page aligned or beyond user space, or an unknown kind.
Result<Mapping> from_wire(const wire::Vma& vma);
void to_wire(const MmFields& fields, wire::ProcessImage& image);

// The vmas of an image: checked to be sorted, disjoint and outside the image's stub region.
Result<std::vector<Mapping>> mappings_of(const wire::ProcessImage& image);

}  // namespace tess::memory
