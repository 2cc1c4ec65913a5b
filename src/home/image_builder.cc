#include "home/image_builder.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>

#include "home/injector.h"
#include "memory/cpu_features.h"
#include "memory/image_stream.h"
#include "memory/page_source.h"
#include "sys/clock.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

using memory::kPageSize;
using memory::Mapping;
using memory::MappingKind;

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// /proc/PID/limits has the limits in the order of their numbers: name, soft, hard, units. Asking
// prlimit would need CAP_SYS_RESOURCE.
Result<> add_limits(pid_t pid, wire::ProcessImage& image) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/limits");
  std::string line;
  std::getline(file, line);
  constexpr size_t kNameWidth = 25;
  const auto parse = [](const std::string& word) {
    return word == "unlimited" ? ~uint64_t{0} : std::stoull(word);
  };
  while (std::getline(file, line)) {
    std::istringstream words(line.size() > kNameWidth ? line.substr(kNameWidth) : std::string());
    std::string soft;
    std::string hard;
    if (words >> soft >> hard) {
      image.add_rlimits(parse(soft));
      image.add_rlimits(parse(hard));
    }
  }
  if (image.rlimits_size() != 2 * RLIM_NLIMITS) {
    return fail(ErrorKind::kFailed, "read the limits of process {}", pid);
  }
  return {};
}

Result<> add_vdso(const stub::RemoteMemory& memory, const std::vector<Mapping>& mappings,
                  wire::ProcessImage& image) {
  for (const Mapping& mapping : mappings) {
    if (mapping.kind == MappingKind::kVdso) {
      std::string bytes(mapping.size(), '\0');
      TESS_TRY(memory.read(mapping.start, std::as_writable_bytes(std::span(bytes))));
      image.set_vdso(std::move(bytes));
    }
  }
  return {};
}

// The answer of a call made by the process; 0 where its kernel does not know the call.
uint64_t ask(stub::Session& session, int64_t number, std::array<uint64_t, 6> args) {
  const auto answer = session.call(number, args);
  return answer ? static_cast<uint64_t>(*answer) : 0;
}

Result<> add_threads(pid_t pid, stub::Session& session, wire::ProcessImage& image) {
  TESS_TRY_ASSIGN(const auto slots, session.slots());
  auto context = std::make_unique<stub::ThreadContext>();
  const int32_t leader = innermost_id(pid, pid);
  std::vector<wire::Thread> threads;
  for (const auto& slot : slots) {
    if (slot.state != stub::kSlotParked) {
      continue;
    }
    TESS_TRY(session.memory().read(stub::slot_address(session.region_base(), slot.index),
                                   std::as_writable_bytes(std::span(context.get(), 1))));
    wire::Thread thread;
    thread.set_context(context.get(), sizeof(*context));
    thread.set_slot(slot.index);
    // The policy is that of home's scheduler; a host may or may not grant it.
    thread.set_scheduling_policy(static_cast<uint32_t>(std::max(0, ::sched_getscheduler(pid))));
    thread.set_nice(::getpriority(PRIO_PROCESS, static_cast<id_t>(pid)));
    threads.insert(context->tid == leader ? threads.begin() : threads.end(), std::move(thread));
  }
  if (threads.empty()) {
    return fail(ErrorKind::kFailed, "no thread of process {} is parked", pid);
  }
  for (wire::Thread& thread : threads) {
    *image.add_threads() = std::move(thread);
  }
  return {};
}

}  // namespace

ClockReading read_clocks() {
  return {.monotonic_ns = sys::clock_ns(CLOCK_MONOTONIC),
          .boottime_ns = sys::clock_ns(CLOCK_BOOTTIME)};
}

void set_clocks(wire::ProcessImage& image) {
  const ClockReading now = read_clocks();
  image.set_home_monotonic_ns(now.monotonic_ns);
  image.set_home_boottime_ns(now.boottime_ns);
}

Result<> build_image(pid_t pid, stub::Session& session, const std::string& cache_dir,
                     const std::set<ObjectKey>& shared, wire::ProcessImage& image) {
  image.Clear();
  image.set_abi_version(stub::kAbiVersion);
  image.set_pid(innermost_id(pid, pid));
  image.set_comm(read_line("/proc/" + std::to_string(pid) + "/comm"));
  image.set_region_base(session.region_base());
  TESS_TRY(add_threads(pid, session, image));
  TESS_TRY_ASSIGN(const auto all, memory::read_address_space(pid));
  auto mappings =
      memory::without_range(all, session.region_base(), session.region_base() + stub::kRegionSize);
  TESS_TRY(memory::hash_file_content(pid, mappings, cache_dir));
  for (Mapping& mapping : mappings) {
    if (mapping.shared() &&
        shared.contains({mapping.dev_major, mapping.dev_minor, mapping.inode})) {
      mapping.content_hash.clear();  // read-only here, but others write to it
    }
  }
  for (const Mapping& mapping : mappings) {
    memory::to_wire(mapping, *image.add_vmas());
  }
  TESS_TRY_ASSIGN(memory::MmFields fields, memory::read_mm_fields(pid));
  TESS_TRY_ASSIGN(const int64_t brk, session.call(SYS_brk, {0}));
  fields.brk = static_cast<uint64_t>(brk);
  memory::to_wire(fields, image);
  TESS_TRY(add_limits(pid, image));
  TESS_TRY(add_vdso(session.memory(), mappings, image));
  image.set_membarrier(session.membarrier_registrations());
  image.set_dumpable(ask(session, SYS_prctl, {PR_GET_DUMPABLE}) == 1);
  image.set_cpu_features(memory::host_cpu_features());
  TESS_TRY_ASSIGN(const auto source, memory::PageSource::open(pid));
  TESS_TRY_ASSIGN(const uint64_t bytes, source.count_bytes(mappings));
  image.set_memory_bytes(bytes);
  set_clocks(image);
  return {};
}

std::vector<std::pair<uint64_t, uint64_t>> discardable(const std::vector<Mapping>& mappings,
                                                       uint64_t region_base, uint64_t arg_start,
                                                       uint64_t env_end) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  const uint64_t keep_start = arg_start & ~(kPageSize - 1);
  const uint64_t keep_end = memory::page_up(env_end);
  for (const Mapping& mapping :
       memory::without_range(mappings, region_base, region_base + stub::kRegionSize)) {
    if (mapping.special() || mapping.shared()) {
      continue;
    }
    const std::vector<Mapping> one{mapping};
    for (const Mapping& part :
         keep_end > keep_start ? memory::without_range(one, keep_start, keep_end) : one) {
      ranges.emplace_back(part.start, part.size());
    }
  }
  return ranges;
}

}  // namespace tess::home
