#include "home/image_apply.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "home/address_diff.h"
#include "home/image_builder.h"
#include "home/injector.h"
#include "memory/page_sink.h"
#include "sys/clock.h"
#include "sys/process.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

using memory::Mapping;
using memory::MappingKind;

constexpr size_t kBatch = 256;

// Pages of the vDSO are the host's: they never come home.
class OrdinaryPages final : public memory::PageSink {
 public:
  OrdinaryPages(memory::PageSink& sink, const std::vector<Mapping>& mappings) : sink_(sink) {
    std::copy_if(mappings.begin(), mappings.end(), std::back_inserter(special_),
                 [](const Mapping& mapping) { return mapping.special(); });
  }
  Result<> put(uint64_t address, std::span<const std::byte> pages) override {
    for (const Mapping& mapping : special_) {
      if (address < mapping.end && address + pages.size() > mapping.start) {
        return {};
      }
    }
    return sink_.put(address, pages);
  }

 private:
  memory::PageSink& sink_;
  std::vector<Mapping> special_;
};

std::string describe(const stub::SyscallRequest& request) {
  const char* const name = request.number == SYS_mmap       ? "mmap"
                           : request.number == SYS_munmap   ? "munmap"
                           : request.number == SYS_mprotect ? "mprotect"
                                                            : "call";
  return fmt::format("{} of {:x}+{:x} in the process: {}", name, request.args[0], request.args[1],
                     ::strerror(static_cast<int>(-request.result)));
}

// `must`: a failure of mmap, munmap or mprotect is one of the whole; advice and locks are best
// effort.
Result<> run_all(stub::Session& session, std::vector<stub::SyscallRequest>& requests) {
  for (size_t i = 0; i < requests.size(); i += kBatch) {
    const std::span part(requests.data() + i, std::min(kBatch, requests.size() - i));
    TESS_TRY(session.batch(part, false));
    for (const stub::SyscallRequest& request : part) {
      const bool must = request.number == SYS_mmap || request.number == SYS_munmap ||
                        request.number == SYS_mprotect;
      if (must && request.result < 0 && request.result > -4096) {
        return fail(ErrorKind::kFailed, "{}", describe(request));
      }
    }
  }
  return {};
}

// A descriptor of the file behind a mapping, from any mapping of it that the process still has.
Result<sys::Fd> open_file_of(pid_t pid, const Mapping& wanted, const std::vector<Mapping>& now) {
  const bool writable = wanted.shared() && (wanted.prot & PROT_WRITE) != 0;
  for (const Mapping& mapping : now) {
    if (mapping.dev_major != wanted.dev_major || mapping.dev_minor != wanted.dev_minor ||
        mapping.inode != wanted.inode || mapping.kind == MappingKind::kAnon || mapping.special()) {
      continue;
    }
    const std::string path =
        fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, mapping.start, mapping.end);
    sys::Fd fd(::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    if (fd.valid()) {
      return fd;
    }
  }
  sys::Fd fd(::open(wanted.path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
  struct stat info {};
  if (fd.valid() && ::fstat(fd.get(), &info) == 0 && info.st_ino == wanted.inode) {
    return fd;
  }
  return fail(ErrorKind::kFailed, "the file of mapping {:x}-{:x} ({}) cannot be found at home",
              wanted.start, wanted.end, wanted.path);
}

// A number for a moment's use, which neither the program nor the stub has.
Result<int32_t> free_number(pid_t pid, const stub::Session& session) {
  TESS_TRY_ASSIGN(const auto control,
                  session.memory().get<stub::ControlBlock>(session.control_address()));
  const int32_t first = control.fd_base + 1;
  for (int32_t number = first; number < first + static_cast<int32_t>(stub::kSlotCount); ++number) {
    struct stat info {};
    const std::string path = fmt::format("/proc/{}/fd/{}", pid, number);
    if (::lstat(path.c_str(), &info) != 0) {
      return number;
    }
  }
  return fail(ErrorKind::kFailed, "the process has no free descriptor beside the stub's");
}

Result<> map_files(pid_t pid, stub::Session& session, const std::vector<Mapping>& files,
                   const std::vector<Mapping>& now) {
  if (files.empty()) {
    return {};
  }
  TESS_TRY_ASSIGN(const int32_t number, free_number(pid, session));
  std::vector<sys::Fd>
      opened;  // all before the first is mapped: that may cover the only mapping of another
  for (const Mapping& wanted : files) {
    TESS_TRY_ASSIGN(sys::Fd file, open_file_of(pid, wanted, now));
    opened.push_back(std::move(file));
  }
  for (size_t i = 0; i < files.size(); ++i) {
    const Mapping& wanted = files[i];
    const int ours = opened[i].get();
    TESS_TRY(session.place_fds(std::span(&ours, 1), std::span(&number, 1)));
    const uint64_t sharing = wanted.shared() ? uint64_t{MAP_SHARED} : uint64_t{MAP_PRIVATE};
    auto mapped = session.call(SYS_mmap, {wanted.start, wanted.size(), wanted.prot,
                                          sharing | MAP_FIXED | (wanted.flags & MAP_NORESERVE),
                                          static_cast<uint64_t>(number), wanted.offset});
    (void)session.call(SYS_close, {static_cast<uint64_t>(number)});
    if (!mapped) {
      return fail_with(mapped.error(), "map {} at {:x}", wanted.path, wanted.start);
    }
  }
  return {};
}

// Pages of locked memory that nobody has touched do not come with the image.
Result<> populate_locked(stub::Session& session, const std::vector<Mapping>& mappings) {
  std::vector<stub::SyscallRequest> requests;
  for (const Mapping& mapping : mappings) {
    if (mapping.locked && (mapping.madvise & memory::kAdviseLockOnFault) == 0) {
      const bool writes = !mapping.shared() && (mapping.prot & PROT_WRITE) != 0;
      requests.push_back({.number = SYS_madvise,
                          .args = {mapping.start, mapping.size(),
                                   writes ? uint64_t{MADV_POPULATE_WRITE} : MADV_POPULATE_READ},
                          .result = stub::kNotRun});
    }
  }
  return run_all(session, requests);
}

Result<std::vector<Mapping>> read_mappings(pid_t pid, const stub::Session& session) {
  TESS_TRY_ASSIGN(const auto all, memory::read_address_space(pid));
  return memory::without_range(all, session.region_base(),
                               session.region_base() + stub::kRegionSize);
}

// What is left to do when the pages are there.
Result<std::vector<stub::SyscallRequest>> apply_mappings(pid_t pid, stub::Session& session,
                                                         const wire::ProcessImage& image,
                                                         const std::vector<Mapping>& wanted) {
  // The heap's end first: growing it maps, shrinking unmaps, and the rest is a difference like any
  // other.
  TESS_TRY_ASSIGN(const int64_t brk, session.call(SYS_brk, {image.brk()}));
  (void)brk;  // refused only if something is in the way, which the differences below take care of
  TESS_TRY_ASSIGN(const auto now, read_mappings(pid, session));
  AddressDiff diff = diff_address_spaces(now, wanted);
  // Files first: one may be known only by a mapping that is about to go.
  TESS_TRY(map_files(pid, session, diff.files, now));
  TESS_TRY(run_all(session, diff.before));
  TESS_TRY(run_all(session, diff.after));
  return std::move(diff.last);
}

Result<sys::Fd> make_userfault(pid_t pid, stub::Session& session) {
  TESS_TRY_ASSIGN(const int64_t number,
                  session.call(SYS_userfaultfd, {memory::ProcessSink::kUserfaultFlags}));
  auto fd = sys::copy_descriptor(pid, static_cast<int>(number));
  TESS_TRY(session.call(SYS_close, {static_cast<uint64_t>(number)}));
  return fd;
}

// What the process has used is in the context of the lowest slot.
Result<uint64_t> write_contexts(stub::Session& session, const wire::ProcessImage& image) {
  TESS_TRY_ASSIGN(const auto slots, session.slots());
  if (slots.size() != static_cast<size_t>(image.threads_size())) {
    return fail(ErrorKind::kFailed, "the body has {} threads, its deputy {}", image.threads_size(),
                slots.size());
  }
  uint32_t lowest = stub::kSlotCount;
  uint64_t process_cpu_ns = 0;
  for (const wire::Thread& thread : image.threads()) {
    stub::ThreadContext context;
    if (thread.context().size() != sizeof(context)) {
      return fail(ErrorKind::kBadInput, "a thread context of {} bytes", thread.context().size());
    }
    std::memcpy(&context, thread.context().data(), sizeof(context));
    const auto slot = std::find_if(slots.begin(), slots.end(),
                                   [&](const auto& info) { return info.tid == context.tid; });
    if (slot == slots.end()) {
      return fail(ErrorKind::kBadInput, "the body has a thread {} that home does not know",
                  context.tid);
    }
    // The mask is home's business: the body's copy is as old as its leaving.
    const uint64_t at = stub::slot_address(session.region_base(), slot->index);
    TESS_TRY_ASSIGN(context.signal_mask, session.memory().get<uint64_t>(
                                             at + offsetof(stub::ThreadContext, signal_mask)));
    TESS_TRY(session.memory().put(at, context));
    if (slot->index < lowest) {
      lowest = slot->index;
      process_cpu_ns = context.process_cpu_ns;
    }
  }
  return process_cpu_ns;
}

// By a userfaultfd. The kernel lets /dev/zero mapped private be registered, and then fills none of
// it.
bool can_be_filled(const std::vector<Mapping>& mappings, uint64_t address) {
  const Mapping* const mapping = memory::mapping_at(mappings, address);
  return mapping != nullptr && mapping->kind == MappingKind::kAnon &&
         !mapping->path.starts_with("/");
}

}  // namespace

Result<Applied> receive_and_apply(wire::ByteStream& stream, pid_t pid, stub::Session& session) {
  wire::ProcessImage image;
  TESS_TRY(memory::receive_header(stream, image));
  if (image.abi_version() != stub::kAbiVersion || image.region_base() != session.region_base()) {
    return fail(ErrorKind::kBadInput, "the image that came is not that of this process");
  }
  TESS_TRY_ASSIGN(const auto wanted, memory::mappings_of(image));
  TESS_TRY(memory::send_want(stream, {}));
  TESS_TRY(memory::receive_content(stream, image, {},
                                   [](uint32_t, uint64_t, std::span<const std::byte>) -> Result<> {
                                     return fail(ErrorKind::kBadInput, "content nobody asked for");
                                   }));
  TESS_TRY_ASSIGN(auto last, apply_mappings(pid, session, image, wanted));

  TESS_TRY_ASSIGN(const auto now, read_mappings(pid, session));
  const auto empty = discardable(now, session.region_base(), image.arg_start(), image.env_end());
  TESS_TRY(session.discard_memory(empty));
  auto userfault = make_userfault(pid, session);
  TESS_TRY_ASSIGN(auto sink,
                  memory::ProcessSink::create(pid, userfault ? std::move(*userfault) : sys::Fd()));
  for (const auto& [start, size] : empty) {
    if (can_be_filled(now, start)) {
      if (auto registered = sink.register_range(start, start + size);
          !registered && registered.error().kind() != ErrorKind::kNotPossible) {
        return tl::unexpected(std::move(registered.error()));
      }
    }
  }
  OrdinaryPages pages(sink, now);
  TESS_TRY_ASSIGN(memory::StreamStats stats, memory::receive_pages(stream, image, pages));
  TESS_TRY(sink.unregister_all());
  TESS_TRY(run_all(session, last));
  TESS_TRY(populate_locked(session, wanted));
  TESS_TRY_ASSIGN(const uint64_t process_cpu_ns, write_contexts(session, image));
  // The host's clock was made equal to ours as well as the link let us see it.
  sys::catch_up(image.home_monotonic_ns() - sys::clock_ns(CLOCK_MONOTONIC));
  return Applied{stats, process_cpu_ns};
}

}  // namespace tess::home
