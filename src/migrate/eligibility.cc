#include "migrate/eligibility.h"

#include <elf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "memory/address_space.h"
#include "memory/pagemap.h"
#include "migrate/cpu_timers.h"
#include "migrate/sharing.h"
#include "sys/proc_status.h"

namespace tess::migrate {
namespace {

using Reasons = std::vector<std::string>;
constexpr unsigned kKernelThreadFlag = 0x00200000;  // PF_KTHREAD, field 9 of /proc/PID/stat

bool is_kernel_thread(const std::string& directory) {
  std::ifstream file(directory + "/stat");
  std::string text;
  std::getline(file, text);
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string state;
  long ignored = 0;
  unsigned flags = 0;
  rest >> state;
  for (int field = 4; field < 9; ++field) {
    rest >> ignored;
  }
  rest >> flags;
  return (flags & kKernelThreadFlag) != 0;
}

std::string read_link(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof(target));
  return n > 0 ? std::string(target, static_cast<size_t>(n)) : std::string();
}

void check_state(pid_t pid, const sys::ProcStatus& status, const EligibilityOptions& options,
                 Reasons& reasons) {
  const pid_t tracer = status.pid_field("TracerPid");
  if (tracer != 0 && tracer != options.own_tracer) {
    reasons.push_back(fmt::format(
        "process {} is being traced by process {} (a debugger or strace); end that first", pid,
        tracer));
  }
  const uint64_t seccomp = status.number("Seccomp");
  if (seccomp != 0) {
    reasons.push_back(fmt::format(
        "process {} has confined itself with seccomp{}; such processes stay at home for now", pid,
        seccomp == 2 ? " filters" : ""));
  }
  if (status.field("x86_Thread_features").find("shstk") != std::string_view::npos) {
    reasons.push_back(fmt::format(
        "process {} runs with a hardware shadow stack, which cannot be moved; start it with "
        "GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
        pid));
  }
}

// A host has one time namespace for a whole job, with home's clocks.
void check_clocks(pid_t pid, const std::string& directory, Reasons& reasons) {
  const std::string ours = read_link("/proc/self/ns/time");
  const auto differs = [&ours](const std::string& theirs) {
    return !theirs.empty() && theirs != ours;
  };
  if (differs(read_link(directory + "/ns/time")) ||
      differs(read_link(directory + "/ns/time_for_children"))) {
    reasons.push_back(fmt::format(
        "process {}, or what it starts, has clocks of its own (a time namespace)", pid));
  }
}

void check_threads(pid_t pid, Reasons& reasons) {
  const auto first = sys::ProcStatus::read_thread(pid, pid);
  if (first && first->state() == 'Z') {
    reasons.push_back(fmt::format(
        "the first thread of process {} has ended while others go on; such a process stays", pid));
  }
}

void check_program(pid_t pid, const std::string& directory, Reasons& reasons) {
  std::ifstream exe(directory + "/exe", std::ios::binary);
  unsigned char ident[EI_NIDENT] = {};
  exe.read(reinterpret_cast<char*>(ident), sizeof(ident));
  if (exe && std::memcmp(ident, ELFMAG, SELFMAG) == 0 && ident[EI_CLASS] != ELFCLASS64) {
    reasons.push_back(
        fmt::format("process {} is a 32-bit program ({}); only 64-bit programs can move", pid,
                    read_link(directory + "/exe")));
  }
}

void check_descriptors(pid_t pid, const std::string& directory, Reasons& reasons) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory + "/fd", error), end; !error && it != end;
       it.increment(error)) {
    if (read_link(it->path().string()) == "anon_inode:[io_uring]") {
      reasons.push_back(fmt::format(
          "process {} uses io_uring (descriptor {}), whose rings are memory shared with the "
          "kernel; "
          "most programs have an option or variable to do without (UV_USE_IO_URING=0 for node)",
          pid, it->path().filename().string()));
    }
  }
}

std::string range_name(const memory::Mapping& mapping) {
  return fmt::format("{:x}-{:x}{}{}", mapping.start, mapping.end, mapping.path.empty() ? "" : " ",
                     mapping.path);
}

void check_mapping(pid_t pid, const memory::Mapping& mapping, Reasons& reasons) {
  if (mapping.special()) {
    return;
  }
  const auto add = [&](std::string_view what, std::string_view advice) {
    reasons.push_back(
        fmt::format("process {} has {} mapped ({}); {}", pid, what, range_name(mapping), advice));
  };
  if ((mapping.traits & memory::kTraitHugetlb) != 0) {
    add("pages of the hugetlb pool", "use transparent huge pages (madvise) instead");
  } else if ((mapping.traits & memory::kTraitAio) != 0) {
    add("a ring of kernel asynchronous I/O (io_setup)", "turn libaio off in the program");
  } else if ((mapping.traits & (memory::kTraitIo | memory::kTraitPfnMap | memory::kTraitDevice)) !=
             0) {
    add("a device's memory", "it stays where the device is");
  } else if (mapping.path.starts_with("anon_inode:")) {
    add("a kernel object", "it stays at home while it uses that");
  } else if ((mapping.traits & memory::kTraitUserfault) != 0) {
    add("memory under its own userfaultfd", "it stays at home while it uses that");
  } else if ((mapping.traits & memory::kTraitSealed) != 0) {
    add("sealed memory (mseal)", "it cannot be put back after a move");
  }
}

void check_memory(pid_t pid, const EligibilityOptions& options, Reasons& reasons) {
  const auto mappings = memory::read_address_space(pid);
  if (!mappings) {
    reasons.push_back(fmt::format("the memory of process {} cannot be read: {}", pid,
                                  mappings.error().message()));
    return;
  }
  const size_t before = reasons.size();
  constexpr size_t kListedMax = 5;
  for (const memory::Mapping& mapping : *mappings) {
    if (reasons.size() - before < kListedMax) {
      check_mapping(pid, mapping, reasons);
    }
  }
  const auto pages = memory::Pagemap::open(pid);
  if (const uint64_t guard = pages ? pages->first_guard_page() : 0; guard != 0) {
    reasons.push_back(
        fmt::format("process {} has guard pages ({:x}; MADV_GUARD_INSTALL), which cannot be put "
                    "back after a move; it stays at home while it uses them",
                    pid, guard));
  }
  for (const Sharer& sharer : find_mapping_sharers(pid, *mappings)) {
    if (!options.moves_along || !options.moves_along(sharer.pid)) {
      reasons.push_back(fmt::format(
          "process {} shares writable memory ({}) with process {} ({}), which is not its "
          "parent, child or sibling of the same user and stays; memory cannot be shared between "
          "machines yet",
          pid, sharer.what.empty() ? "anonymous" : sharer.what, sharer.pid, sharer.command));
    }
  }
}

void check_clone_sharers(pid_t pid, Reasons& reasons) {
  for (const Sharer& sharer : find_clone_sharers(pid)) {
    reasons.push_back(
        fmt::format("process {} shares {} with process {} ({}), made by vfork or clone; try again "
                    "when that one "
                    "has executed its program or ended",
                    pid, sharer.what, sharer.pid, sharer.command));
  }
  if (!has_one_descriptor_table(pid)) {
    reasons.push_back(fmt::format(
        "threads of process {} have descriptor tables of their own (unshare); it stays where it is",
        pid));
  }
}

// They run where the process does. Of a timer on the CPU time of the thread that made it no kernel
// tells which thread that was.
void check_timers(pid_t pid, const sys::ProcStatus& status, Reasons& reasons) {
  const std::vector<CpuTimer> timers = cpu_timers_of(pid);
  if (timers.size() > kMostCpuTimers) {
    reasons.push_back(fmt::format("process {} has {} timers on CPU time; {} of them can move", pid,
                                  timers.size(), kMostCpuTimers));
  }
  for (const CpuTimer& timer : timers) {
    const int32_t owner = timer.owner();
    if (!timer.of_thread() && owner != 0 && owner != status.innermost_id()) {
      reasons.push_back(fmt::format(
          "process {} has a timer on the CPU time of process {} (timer_create)", pid, owner));
    } else if (timer.of_thread() && owner == 0 && timer.notified_thread == 0 &&
               status.number("Threads") != 1) {
      reasons.push_back(
          fmt::format("process {} has a timer on the CPU time of one of its threads, "
                      "of which the kernel does not say which (timer_create)",
                      pid));
    }
  }
}

}  // namespace

std::vector<std::string> check_eligibility(pid_t pid, const EligibilityOptions& options) {
  const std::string directory = "/proc/" + std::to_string(pid);
  const auto status = pid > 0 ? sys::ProcStatus::read(pid) : std::nullopt;
  if (!status) {
    return {fmt::format("there is no process {}", pid)};
  }
  if (status->pid_field("Tgid") != pid) {
    return {
        fmt::format("{} is a thread of process {}; name the process", pid, status->field("Tgid"))};
  }
  if (is_kernel_thread(directory)) {
    return {fmt::format("{} is a kernel thread ({}), part of this machine", pid,
                        status->field("Name"))};
  }
  if (const char state = status->state();
      state == 'X' || (state == 'Z' && status->number("Threads") == 1)) {
    return {fmt::format("process {} has ended and only waits for its parent {} to take its status",
                        pid, status->field("PPid"))};
  }
  if (status->innermost_id() == 1) {
    return {fmt::format("process {} is the init (pid 1) of {}, which everything there depends on",
                        pid, pid == 1 ? "this machine" : "its container")};
  }
  Reasons reasons;
  check_state(pid, *status, options, reasons);
  check_clocks(pid, directory, reasons);
  check_threads(pid, reasons);
  check_program(pid, directory, reasons);
  check_descriptors(pid, directory, reasons);
  check_timers(pid, *status, reasons);
  check_memory(pid, options, reasons);
  if (!options.ignore_clone_sharers) {
    check_clone_sharers(pid, reasons);
  }
  return reasons;
}

}  // namespace tess::migrate
