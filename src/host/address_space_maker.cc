#include "host/address_space_maker.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "host/vdso.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

namespace tess::host {
namespace {

using memory::Mapping;
using memory::MappingKind;

constexpr size_t kFilesAtOnce = 200;

}  // namespace

AddressSpaceMaker::AddressSpaceMaker(stub::Session& session, pid_t pid, int32_t home_pid,
                                     Contents contents, std::span<const Mapping> image)
    : session_(session), pid_(pid), home_pid_(home_pid), contents_(contents), image_(image) {}

Result<> AddressSpaceMaker::clear() {
  const uint64_t base = session_.region_base();
  TESS_TRY_ASSIGN(const std::vector<Mapping> all, memory::read_address_space(pid_));
  const std::vector<Mapping> rest = memory::without_range(all, base, base + stub::kRegionSize);
  Batch batch;
  uint64_t start = 0, end = 0;
  for (const Mapping& mapping : rest) {
    if (mapping.special()) {
      continue;
    }
    if (mapping.start != end) {
      if (end > start) {
        batch.add(SYS_munmap, start, end - start);
      }
      start = mapping.start;
    }
    end = mapping.end;
  }
  if (end > start) {
    batch.add(SYS_munmap, start, end - start);
  }
  TESS_TRY(batch.run(session_, "clear the blank body"));
  host_vdso_ = vdso_ranges(rest);
  if (host_vdso_.empty()) {
    return {};
  }
  const uint64_t from = host_vdso_.front().start;
  const uint64_t to = base + kVdsoParkOffset;
  for (const Mapping& range : host_vdso_) {
    batch.add(SYS_mremap, range.start, range.size(), range.size(), MREMAP_MAYMOVE | MREMAP_FIXED,
              to + (range.start - from));
  }
  if (auto moved = batch.run(session_, "move this machine's vDSO"); !moved) {
    // A kernel that seals its own mappings: it stays where it is, and the image is refused if it
    // wants that place.
    log::info("host", "event=vdso_stays reason=\"{}\"", moved.error().message());
    return {};
  }
  for (Mapping& range : host_vdso_) {
    range.start = range.start - from + to;
    range.end = range.end - from + to;
  }
  return {};
}

Result<> AddressSpaceMaker::restore_vdso(const std::string& home_vdso, bool force_patch) {
  const std::vector<Mapping> home = vdso_ranges(image_);
  if (home.empty() || host_vdso_.empty()) {
    if (!home.empty()) {
      return fail(ErrorKind::kNotPossible, "this node's kernel has no vDSO, home's has one");
    }
    return {};
  }
  const Mapping& ours = host_vdso_.back();
  const Mapping& theirs = home.back();
  const uint64_t control = session_.control_address();
  TESS_TRY(session_.memory().put(control + offsetof(stub::ControlBlock, vdso_begin), theirs.start));
  TESS_TRY(session_.memory().put(control + offsetof(stub::ControlBlock, vdso_end), theirs.end));
  std::string host_vdso(ours.size(), '\0');
  TESS_TRY(session_.memory().read(ours.start, std::as_writable_bytes(std::span(host_vdso))));
  const bool parked = ours.start - session_.region_base() < stub::kRegionSize;
  Batch batch;
  if (!force_patch && parked && same_layout(home, host_vdso_) && host_vdso == home_vdso) {
    for (size_t i = 0; i < home.size(); ++i) {
      batch.add(SYS_mremap, host_vdso_[i].start, home[i].size(), home[i].size(),
                MREMAP_MAYMOVE | MREMAP_FIXED, home[i].start);
      // The region keeps its size: what the process is told of its own is the rest.
      batch.add(SYS_mmap, host_vdso_[i].start, home[i].size(), PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    }
    return batch.run(session_, "move the vDSO to home's address");
  }
  TESS_TRY_ASSIGN(const std::string patched, patch_vdso(home_vdso, host_vdso, ours.start));
  if (patched.size() > theirs.size()) {
    return fail(ErrorKind::kBadInput, "the image's vDSO is larger than its mapping");
  }
  batch.add(SYS_mmap, theirs.start, theirs.size(), PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  TESS_TRY(batch.run(session_, "make room for home's vDSO"));
  TESS_TRY(session_.memory().write(theirs.start, std::as_bytes(std::span(patched))));
  TESS_TRY(session_.memory().put(
      session_.control_address() + offsetof(stub::ControlBlock, host_vdso), ours.start));
  batch.add(SYS_mprotect, theirs.start, theirs.size(), PROT_READ | PROT_EXEC);
  return batch.run(session_, "protect home's vDSO");
}

Result<> AddressSpaceMaker::map_all() {
  TESS_TRY(map_anonymous());
  return map_files();
}

Result<> AddressSpaceMaker::map_anonymous() {
  Batch batch;
  for (const Mapping& mapping : image_) {
    if (mapping.kind == MappingKind::kAnon) {
      const uint32_t flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE |
                             (mapping.flags & (MAP_GROWSDOWN | MAP_NORESERVE));
      const bool was_writable = (mapping.madvise & memory::kWasWritable) != 0;
      batch.add(SYS_mmap, mapping.start, mapping.size(),
                was_writable ? mapping.prot | PROT_WRITE : mapping.prot, flags, -1, 0);
    }
  }
  return batch.run(session_, "map the process's memory");
}

Result<> AddressSpaceMaker::collect_files(std::vector<SharedFile>& files) {
  for (const Mapping& mapping : image_) {
    if (mapping.kind == MappingKind::kAnon || mapping.special()) {
      continue;
    }
    const bool live = mapping.shared() && mapping.content_hash.empty();
    if (!live && mapping.content_hash.empty()) {
      // A file that could not be read at home: memory of its own, filled from the stream.
      TESS_TRY(add_own_memory(mapping, files));
      continue;
    }
    if (!live) {
      SharedFile& file = files.emplace_back();
      TESS_TRY_ASSIGN(file.fd, contents_.files.open(mapping));
      file.mappings.push_back(&mapping);
      continue;
    }
    TESS_TRY_ASSIGN(SharedFile* const file, live_file(mapping, files));
    file->mappings.push_back(&mapping);
  }
  return {};
}

// Home says for each mapping whether it may be written: one that is need not be asked about, nor
// what mprotect has cut from its neighbour.
Result<AddressSpaceMaker::SharedFile*> AddressSpaceMaker::live_file(
    const Mapping& mapping, std::vector<SharedFile>& files) {
  for (SharedFile& file : files) {
    const Mapping& known = *file.mappings.back();
    const bool same = known.shared() && known.content_hash.empty() &&
                      memory::body_file_name(known) == memory::body_file_name(mapping);
    const bool writes = (mapping.prot & PROT_WRITE) != 0;
    const bool continues =
        known.end == mapping.start && known.offset + known.size() == mapping.offset;
    const bool both_written = writes && std::ranges::any_of(file.mappings, [](const Mapping* m) {
                                return (m->prot & PROT_WRITE) != 0;
                              });
    if (same && (both_written || (!writes && continues))) {
      return &file;
    }
  }
  auto opened = contents_.shared.open(home_pid_, mapping);
  if (!opened) {
    return fail_with(std::move(opened.error()), "share {}", mapping.path);
  }
  TESS_TRY(session_.memory().put(session_.control_address() + offsetof(stub::ControlBlock, shares),
                                 uint32_t{1}));
  files.emplace_back().fd = std::move(*opened);
  return &files.back();
}

Result<> AddressSpaceMaker::add_own_memory(const Mapping& mapping, std::vector<SharedFile>& files) {
  SharedFile& file = files.emplace_back();
  file.fd = sys::Fd(::memfd_create(memory::body_file_name(mapping).c_str(), MFD_CLOEXEC));
  if (!file.fd.valid() ||
      ::ftruncate(file.fd.get(), static_cast<off_t>(mapping.offset + mapping.size())) != 0) {
    return fail_errno("make memory for {}", mapping.path);
  }
  file.mappings.push_back(&mapping);
  return {};
}

Result<> AddressSpaceMaker::map_files() {
  std::vector<SharedFile> files;
  TESS_TRY(collect_files(files));
  for (size_t at = 0; at < files.size(); at += kFilesAtOnce) {
    TESS_TRY(map_files_of(std::span(files).subspan(at, std::min(kFilesAtOnce, files.size() - at))));
  }
  return {};
}

Result<> AddressSpaceMaker::map_files_of(std::span<const SharedFile> files) {
  std::vector<int> ours;
  std::vector<int32_t> targets;
  Batch batch;
  for (const SharedFile& file : files) {
    const int32_t target = kTemporaryFd + static_cast<int32_t>(ours.size());
    ours.push_back(file.fd.get());
    targets.push_back(target);
    for (const Mapping* mapping : file.mappings) {
      const uint32_t flags = (mapping->shared() ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED_NOREPLACE |
                             (mapping->flags & MAP_NORESERVE);
      batch.add(SYS_mmap, mapping->start, mapping->size(), mapping->prot, flags, target,
                mapping->offset);
    }
  }
  TESS_TRY(session_.place_fds(ours, targets));
  TESS_TRY(batch.run(session_, "map the process's files"));
  batch.add(SYS_close_range, kTemporaryFd, kTemporaryFd + static_cast<int>(files.size()) - 1, 0);
  return batch.run(session_, "close the process's files");
}

void AddressSpaceMaker::register_all(memory::ProcessSink& sink) const {
  for (const Mapping& mapping : image_) {
    if (!mapping.special() && !mapping.shared()) {
      (void)sink.register_range(mapping.start, mapping.end);
    }
  }
}

Result<> AddressSpaceMaker::protect() {
  Batch batch;
  for (const Mapping& mapping : image_) {
    if ((mapping.madvise & memory::kWasWritable) != 0) {
      batch.add(SYS_mprotect, mapping.start, mapping.size(), mapping.prot);
    }
  }
  return batch.run(session_, "protect the process's memory");
}

std::vector<uint64_t> AddressSpaceMaker::advise_all() {
  constexpr struct {
    uint32_t bit;
    int advice;
  } kAdvice[] = {
      {memory::kAdviseHugepage, MADV_HUGEPAGE},     {memory::kAdviseNoHugepage, MADV_NOHUGEPAGE},
      {memory::kAdviseDontFork, MADV_DONTFORK},     {memory::kAdviseDontDump, MADV_DONTDUMP},
      {memory::kAdviseWipeOnFork, MADV_WIPEONFORK}, {memory::kAdviseMergeable, MADV_MERGEABLE},
      {memory::kAdviseSequential, MADV_SEQUENTIAL}, {memory::kAdviseRandom, MADV_RANDOM}};
  Batch batch;
  for (const Mapping& mapping : image_) {
    if (mapping.special()) {
      continue;
    }
    for (const auto& advice : kAdvice) {
      if ((mapping.madvise & advice.bit) != 0) {
        batch.add(SYS_madvise, mapping.start, mapping.size(), advice.advice);
      }
    }
    if (mapping.locked) {
      const bool on_fault = (mapping.madvise & memory::kAdviseLockOnFault) != 0;
      batch.add(SYS_mlock2, mapping.start, mapping.size(),  // as far as this node's limit goes
                on_fault ? MLOCK_ONFAULT : 0);
    }
  }
  std::vector<uint64_t> not_locked;
  for (const stub::SyscallRequest& request : batch.try_all(session_)) {
    if (request.number == SYS_mlock2 && request.result != 0) {
      not_locked.push_back(request.args[0]);
    }
  }
  return not_locked;
}

}  // namespace tess::host
