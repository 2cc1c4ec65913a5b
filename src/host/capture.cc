#include "host/capture.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <string_view>
#include <tuple>

#include "host/vdso.h"
#include "memory/address_space.h"
#include "memory/image_stream.h"
#include "memory/page_source.h"
#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/process.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

using memory::Mapping;

// Which part of which file: device, inode, offset, size.
using Place = std::tuple<uint32_t, uint32_t, uint64_t, uint64_t, uint64_t>;

Place place_of(const Mapping& mapping) {
  return {mapping.dev_major, mapping.dev_minor, mapping.inode, mapping.offset, mapping.size()};
}

// The names that files had as the process came, for this kernel tells others: content of home's
// files is memory here.
void restore_names(std::vector<Mapping>& mappings, const std::vector<Mapping>& old) {
  std::map<Place, std::string_view> names;
  for (const Mapping& mapping : old) {
    if (mapping.inode != 0) {
      names.insert_or_assign(place_of(mapping), mapping.path);
    }
  }
  for (Mapping& mapping : mappings) {
    if (mapping.inode != 0 && mapping.path.starts_with("/memfd:")) {
      if (const auto name = names.find(place_of(mapping)); name != names.end()) {
        mapping.path = name->second;
      }
    }
  }
}

// What the body's kernel cannot tell: home's vDSO (which may be plain memory here), locks that this
// node's limit did not allow, hashes known since the content arrived.
Result<std::vector<Mapping>> mappings_of_body(pid_t pid, uint64_t region_base,
                                              const wire::ProcessImage& before, bool to_home) {
  TESS_TRY_ASSIGN(const std::vector<Mapping> all, memory::read_address_space(pid));
  std::vector<Mapping> mappings =
      memory::without_range(all, region_base, region_base + stub::kRegionSize);
  std::erase_if(mappings, [](const Mapping& mapping) { return mapping.special(); });
  TESS_TRY_ASSIGN(const std::vector<Mapping> old, memory::mappings_of(before));
  for (const Mapping& mapping : old) {
    if (mapping.special()) {
      mappings = memory::without_range(mappings, mapping.start, mapping.end);
    }
  }
  for (const wire::Vma& was : before.vmas()) {
    if (!was.locked() || !was.lock_failed()) {
      continue;
    }
    for (Mapping& mapping : mappings) {
      mapping.locked = mapping.locked || (was.start() < mapping.end && mapping.start < was.end());
    }
  }
  if (to_home) {
    memory::mark_clean_at_home(mappings);
  } else {
    TESS_TRY(memory::hash_file_content(pid, mappings, ""));
  }
  for (const Mapping& mapping : old) {
    if (mapping.special()) {
      mappings.push_back(mapping);
    }
  }
  restore_names(mappings, old);
  std::sort(mappings.begin(), mappings.end(),
            [](const Mapping& a, const Mapping& b) { return a.start < b.start; });
  return mappings;
}

Result<> capture_threads(stub::Session& session, wire::ProcessImage& image) {
  TESS_TRY_ASSIGN(const std::vector<stub::Session::SlotInfo> slots, session.slots());
  std::map<uint32_t, wire::Thread> before;
  for (const wire::Thread& thread : image.threads()) {
    before[thread.slot()] = thread;
  }
  std::vector<wire::Thread> threads;
  std::string context(sizeof(stub::ThreadContext), '\0');
  for (const auto& slot : slots) {
    if (slot.state != stub::kSlotParked) {
      continue;
    }
    const uint64_t address =
        stub::slot_address(session.region_base(), slot.index) + offsetof(stub::Slot, thread);
    TESS_TRY(session.memory().read(address, std::as_writable_bytes(std::span(context))));
    wire::Thread thread = before[slot.index];  // policy and nice value, if it was there before
    thread.set_context(context);
    thread.set_slot(slot.index);
    threads.insert(slot.tid == image.pid() ? threads.begin() : threads.end(), std::move(thread));
  }
  if (threads.empty()) {
    return fail(ErrorKind::kFailed, "no thread of the body is parked");
  }
  image.clear_threads();
  for (wire::Thread& thread : threads) {
    *image.add_threads() = std::move(thread);
  }
  return {};
}

// What the limits of memory and stack would be here if the process had not set them since it came:
// Restorer::set_limits.
uint64_t limit_as_restored(uint64_t soft, uint64_t own, uint64_t hard) {
  return std::min(soft > RLIM_INFINITY - own ? RLIM_INFINITY : soft + own, hard);
}

// Limits that the host's kernel applies, as the process has set them here
// (stub/blob/body_limits.cc) are for the next host to apply.
Result<> capture_limits(stub::Session& session, wire::ProcessImage& image) {
  const auto control = std::make_unique<stub::ControlBlock>();
  TESS_TRY(session.memory().read(session.control_address(),
                                 std::as_writable_bytes(std::span(control.get(), 1))));
  image.set_rlimits(2 * RLIMIT_CPU, control->cpu_limit_soft);
  image.set_rlimits(2 * RLIMIT_CPU + 1, control->cpu_limit_hard);
  TESS_TRY_ASSIGN(const auto slots, session.slots());
  constexpr uint64_t kSpareSlots = 4;
  const uint64_t data = (slots.size() + kSpareSlots) * stub::kSlotSize + stub::kControlSize;
  constexpr uint64_t kScratchOffset = stub::kSlotArenaOffset + (64 << 10);  // commands use the rest
  const uint64_t at =
      stub::slot_address(session.region_base(), slots.front().index) + kScratchOffset;
  struct Limit {
    int resource;
    uint64_t restored_with;  // of the stub, on top
    uint64_t set_with;
  };
  for (const Limit& limit : {Limit{RLIMIT_AS, stub::kRegionSize, stub::kRegionSize},
                             Limit{RLIMIT_DATA, 0, data}, Limit{RLIMIT_STACK, 0, 0}}) {
    const int index = 2 * limit.resource;
    TESS_TRY(session.call(SYS_prlimit64, {0, static_cast<uint64_t>(limit.resource), 0, at}));
    TESS_TRY_ASSIGN(const rlimit now, session.memory().get<rlimit>(at));
    if (now.rlim_cur !=
        limit_as_restored(image.rlimits(index), limit.restored_with, now.rlim_max)) {
      image.set_rlimits(index, now.rlim_cur == now.rlim_max
                                   ? RLIM_INFINITY
                                   : now.rlim_cur - std::min(now.rlim_cur, limit.set_with));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<ThreadIds>> threads_of(pid_t outer_pid) {
  const std::string dir = fmt::format("/proc/{}/task", outer_pid);
  DIR* listing = ::opendir(dir.c_str());
  if (listing == nullptr) {
    return fail(ErrorKind::kDisconnected, "the body is gone");
  }
  std::vector<ThreadIds> threads;
  while (const dirent* entry = ::readdir(listing)) {
    if (entry->d_name[0] == '.') {
      continue;
    }
    const auto tid = static_cast<pid_t>(std::atoi(entry->d_name));
    const auto status = sys::ProcStatus::read(tid);
    const int32_t inside = status ? status->innermost_id() : 0;
    if (inside > 0) {  // else it has ended meanwhile
      threads.push_back({inside, tid});
    }
  }
  ::closedir(listing);
  return threads;
}

bool has_more_threads(pid_t outer_pid, size_t count) {
  // The folder's links are one for each thread and two more (proc_task_getattr): mostly that is
  // all.
  struct stat info {};
  if (::stat(fmt::format("/proc/{}/task", outer_pid).c_str(), &info) != 0 ||
      info.st_nlink <= count + 2) {
    return false;
  }
  const auto threads = threads_of(outer_pid);
  const auto lives = [outer_pid](const ThreadIds& thread) {
    return !sys::has_ended(outer_pid, thread.outside);
  };
  return threads &&
         static_cast<size_t>(std::count_if(threads->begin(), threads->end(), lives)) > count;
}

Result<> capture(const Sandbox& sandbox, pid_t outer_pid, stub::Session& session, bool to_home,
                 wire::ProcessImage& image) {
  TESS_TRY_ASSIGN(const std::vector<Mapping> mappings,
                  mappings_of_body(outer_pid, session.region_base(), image, to_home));
  image.clear_vmas();
  for (const Mapping& mapping : mappings) {
    memory::to_wire(mapping, *image.add_vmas());
  }
  TESS_TRY(capture_threads(session, image));
  if (!to_home) {
    TESS_TRY(capture_limits(session, image));
  }
  TESS_TRY_ASSIGN(const int64_t brk, session.call(SYS_brk, {0}));
  image.set_brk(static_cast<uint64_t>(brk));
  if (const auto comm = sys::read_file(fmt::format("/proc/{}/comm", outer_pid)); comm) {
    image.set_comm(comm->substr(0, comm->find('\n')));
  }
  TESS_TRY_ASSIGN(const memory::PageSource source, memory::PageSource::open(outer_pid));
  TESS_TRY_ASSIGN(const uint64_t bytes, source.count_bytes(mappings));
  image.set_memory_bytes(bytes);
  image.set_membarrier(session.membarrier_registrations());  // it may have made some since it came
  image.set_home_monotonic_ns(sandbox.monotonic_ns());
  image.set_home_boottime_ns(sandbox.boottime_ns());
  return {};
}

Result<ProcessUsage> usage_of(pid_t outer_pid) {
  TESS_TRY_ASSIGN(const std::string stat, sys::read_file(fmt::format("/proc/{}/stat", outer_pid)));
  const size_t close = stat.rfind(')');
  if (close == std::string::npos) {
    return fail(ErrorKind::kDisconnected, "the body is gone");
  }
  // proc(5): utime is field 14, stime 15, rss 24; the field after the command is 3.
  uint64_t fields[25] = {};
  const char* at = stat.c_str() + close + 2;
  for (int i = 3; i < 25 && at != nullptr; ++i) {
    fields[i] = std::strtoull(at, nullptr, 10);
    at = std::strchr(at, ' ');
    at = at != nullptr ? at + 1 : nullptr;
  }
  const uint64_t tick_ns = 1'000'000'000 / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  return ProcessUsage{(fields[14] + fields[15]) * tick_ns, fields[24] * memory::kPageSize};
}

}  // namespace tess::host
