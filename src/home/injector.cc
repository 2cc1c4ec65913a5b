#include "home/injector.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

#include "base/log.h"
#include "home/thread_capture.h"
#include "stub/repeat.h"
#include "sys/proc_status.h"
#include "sys/process.h"
#include "trace/step_out.h"

namespace tess::home {
namespace {

using trace::RemoteCalls;
using trace::Tracee;

constexpr uint64_t kRegionAlignment = 2 << 20;
constexpr auto kHoldTimeout = std::chrono::milliseconds(10'000);
constexpr uint64_t kArgumentsOffset =
    stub::kSlotArenaOffset;  // of slot 0: scratch for remote calls

std::vector<std::pair<uint64_t, uint64_t>> read_ranges(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  std::string line;
  while (std::getline(maps, line)) {
    uint64_t start = 0;
    uint64_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &start, &end) == 2) {
      ranges.emplace_back(start, end);
    }
  }
  return ranges;
}

Result<FdLimits> read_fd_limits(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  FdLimits limits{.soft = 0, .hard = 0, .highest_open = -1};
  bool found = false;
  std::ifstream file(proc + "/limits");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with("Max open files")) {
      std::istringstream numbers(line.substr(14));
      found = static_cast<bool>(numbers >> limits.soft >> limits.hard);
    }
  }
  std::error_code error;
  for (std::filesystem::directory_iterator it(proc + "/fd", error), end; !error && it != end;
       it.increment(error)) {
    limits.highest_open = std::max(limits.highest_open, std::stoi(it->path().filename().string()));
  }
  if (!found || error) {
    return fail(ErrorKind::kFailed, "read the descriptor limits of process {}", pid);
  }
  return limits;
}

// Takes the region out again if the placement does not succeed.
class RegionGuard {
 public:
  RegionGuard(RemoteCalls& calls, uint64_t base) : calls_(calls), base_(base) {}
  ~RegionGuard() {
    if (armed_) {
      (void)calls_.raw(SYS_munmap, {base_, stub::kRegionSize});
    }
    if (armed_ && fd_ >= 0) {
      (void)calls_.raw(SYS_close, {static_cast<uint64_t>(fd_)});
    }
  }
  RegionGuard(const RegionGuard&) = delete;
  RegionGuard& operator=(const RegionGuard&) = delete;
  void also_close(int32_t fd) { fd_ = fd; }
  void release() { armed_ = false; }

 private:
  RemoteCalls& calls_;
  uint64_t base_;
  int32_t fd_ = -1;
  bool armed_ = true;
};

Result<> map_region(RemoteCalls& calls, uint64_t base, uint64_t slot_count) {
  TESS_TRY(calls.call("mprotect of the stub's code", SYS_mprotect,
                      {base, stub::kCodeMax, PROT_READ | PROT_EXEC}));
  TESS_TRY(calls.call("mprotect of the stub's control block", SYS_mprotect,
                      {base + stub::kControlOffset, stub::kControlSize, PROT_READ | PROT_WRITE}));
  TESS_TRY(calls.call(
      "mprotect of the stub's slots", SYS_mprotect,
      {stub::slot_address(base, 0), slot_count * stub::kSlotSize, PROT_READ | PROT_WRITE}));
  return {};
}

// The process changes its limit itself: an agent without CAP_SYS_RESOURCE may not do it for another
// user's process.
Result<> set_fd_limit(RemoteCalls& calls, const stub::RemoteMemory& memory, uint64_t scratch,
                      uint64_t soft, uint64_t hard) {
  TESS_TRY(memory.put(scratch, rlimit{.rlim_cur = soft, .rlim_max = hard}));
  TESS_TRY(calls.call("set RLIMIT_NOFILE", SYS_prlimit64, {0, RLIMIT_NOFILE, scratch, 0}));
  return {};
}

// Both ends may have got any number, fd_base too.
Result<sys::Fd> make_pair(RemoteCalls& calls, const stub::RemoteMemory& memory, pid_t pid,
                          uint64_t scratch, int32_t fd_base) {
  TESS_TRY(calls.call("socketpair", SYS_socketpair,
                      {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, scratch}));
  struct Pair {
    int32_t ours;
    int32_t theirs;
  };
  TESS_TRY_ASSIGN(const Pair pair, memory.get<Pair>(scratch));
  auto ours = sys::copy_descriptor(pid, pair.ours);
  Result<> placed;
  if (pair.theirs != fd_base) {
    if (auto made = calls.call(
            "dup3", SYS_dup3,
            {static_cast<uint64_t>(pair.theirs), static_cast<uint64_t>(fd_base), O_CLOEXEC});
        !made) {
      placed = tl::unexpected(std::move(made.error()));
    }
  }
  for (const int32_t number : {pair.ours, pair.theirs}) {
    if (number != fd_base) {
      TESS_TRY(calls.raw(SYS_close, {static_cast<uint64_t>(number)}));
    }
  }
  TESS_TRY(placed);
  return ours;
}

// A socket pair made by the process: one end at fd_base there, the other here. The soft limit may
// forbid that number, or leave no other.
Result<sys::Fd> make_mailbox(RemoteCalls& calls, const stub::RemoteMemory& memory, pid_t pid,
                             uint64_t scratch, int32_t fd_base, const FdLimits& limits) {
  const bool raise = static_cast<uint64_t>(fd_base) >= limits.soft;
  if (raise) {
    TESS_TRY(set_fd_limit(calls, memory, scratch, limits.hard, limits.hard));
  }
  auto ours = make_pair(calls, memory, pid, scratch, fd_base);
  if (raise) {
    TESS_TRY(set_fd_limit(calls, memory, scratch, limits.soft, limits.hard));
  }
  return ours;
}

struct ThreadPlan {
  Tracee tracee;
  std::unique_ptr<RemoteCalls> calls;
};

Result<> write_slot(const stub::RemoteMemory& memory, const Tracee& tracee, RemoteCalls& calls,
                    uint64_t region_base, uint32_t index, int32_t fd_base, int32_t tid,
                    const SleepClock& sleeps) {
  const uint64_t address = stub::slot_address(region_base, index);
  auto slot = std::make_unique<stub::Slot>();
  stub::make_slot(*slot, region_base, index, fd_base);
  auto captured =
      capture_thread(tracee, calls, memory, address + kArgumentsOffset, sleeps, slot->thread);
  TESS_TRY(captured);
  slot->thread.tid = tid;
  if (index == 0) {
    capture_cpu_timers(tracee.tid(), slot->thread);
  }
  return memory.put(address, *slot);
}

Result<> enter_stub(const Tracee& tracee, RemoteCalls& calls, uint64_t region_base,
                    uint32_t index) {
  constexpr uint64_t kCleanFlags = 0x202;
  trace::Registers registers = calls.registers();
  const uint64_t address = stub::slot_address(region_base, index);
  registers.rip = region_base + stub::blob_header().entry_park;
  registers.cs = trace::kCodeSegment;  // it may execute code of 32 bits
  registers.ss = trace::kStackSegment;
  registers.rdi = address;
  registers.rsp = address + stub::kSlotSize;
  registers.eflags = kCleanFlags;
  registers.orig_rax = ~uint64_t{0};
  registers.rax = 0;
  TESS_TRY(tracee.set_registers(registers));
  calls.release();  // signals stay blocked
  return {};
}

}  // namespace

int32_t innermost_id(pid_t pid, pid_t tid) {
  const auto status = sys::ProcStatus::read_thread(pid, tid);
  return status ? status->innermost_id() : 0;
}

Result<uint64_t> choose_region(const std::vector<std::pair<uint64_t, uint64_t>>& used,
                               uint64_t random) {
  // A page of air on both sides, so that the kernel never merges the region with a neighbour.
  constexpr uint64_t kAir = kRegionAlignment;
  struct Hole {
    uint64_t first;
    uint64_t choices;
  };
  std::vector<Hole> holes;
  uint64_t choices = 0;
  uint64_t from = stub::kRegionLowest;
  const auto add = [&](uint64_t end) {
    const uint64_t first = (from + kAir + kRegionAlignment - 1) & ~(kRegionAlignment - 1);
    if (end > first + stub::kRegionSize + kAir) {
      holes.push_back({first, (end - kAir - stub::kRegionSize - first) / kRegionAlignment + 1});
      choices += holes.back().choices;
    }
  };
  for (const auto& [start, end] : used) {
    if (start > from) {
      add(std::min(start, stub::kRegionHighest));
    }
    from = std::max(from, end);
    if (from >= stub::kRegionHighest) {
      break;
    }
  }
  if (from < stub::kRegionHighest) {
    add(stub::kRegionHighest);
  }
  if (choices == 0) {
    return fail(ErrorKind::kNotPossible,
                "the process leaves no hole of 2 GiB in the middle of its address space");
  }
  uint64_t pick = random % choices;
  for (const Hole& hole : holes) {
    if (pick < hole.choices) {
      return hole.first + pick * kRegionAlignment;
    }
    pick -= hole.choices;
  }
  return fail(ErrorKind::kFailed, "no hole was picked");  // not reached: pick < choices
}

Result<int32_t> choose_fd_base(const FdLimits& limits, uint64_t threads) {
  constexpr uint64_t kHighSoftLimit = 65536;
  // Mailbox, channels, those that have just come with a message, and some threads to come.
  const uint64_t needed = 64 + threads + std::min<uint64_t>(threads, stub::kFdsMax);
  const auto first_free = static_cast<uint64_t>(limits.highest_open + 1);
  if (limits.soft <= kHighSoftLimit) {
    const uint64_t base = std::max(limits.soft, first_free);
    if (limits.hard >= base + needed) {
      return static_cast<int32_t>(base);
    }
  }
  // Among numbers that the program may use: as far up as costs little.
  const uint64_t room =
      std::max(needed, std::min<uint64_t>(limits.hard / 4, uint64_t{1} + stub::kSlotCount));
  const uint64_t wanted = std::max<uint64_t>(first_free + 1024, 4096);
  const uint64_t base =
      std::max(first_free, std::min(wanted, limits.hard - std::min(limits.hard, room)));
  if (limits.hard < base + needed) {
    return fail(ErrorKind::kNotPossible,
                "the process has all but {} of its {} descriptors open; raise its limit (prlimit "
                "--nofile)",
                limits.hard - std::min(limits.hard, first_free), limits.hard);
  }
  return static_cast<int32_t>(base);
}

Result<> check_descriptor_room(pid_t pid, const Placement& placement) {
  rlimit limit{};
  const bool known = ::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) == 0;
  if (known && limit.rlim_max > static_cast<uint64_t>(placement.fd_base) + stub::kSlotCount + 1) {
    return {};
  }
  TESS_TRY_ASSIGN(const FdLimits limits, read_fd_limits(pid));
  if (limits.hard <= static_cast<uint64_t>(limits.highest_open)) {
    return fail(
        ErrorKind::kNotPossible,
        "the limit of descriptors of process {} has been lowered to {}, which leaves no room "
        "for a move to another host; it can return home",
        pid, limits.hard);
  }
  return {};
}

Result<Injected> put_stub_in(trace::Tracer& tracer, pid_t pid, uint64_t job,
                             const SleepClock& sleeps) {
  const std::vector<pid_t> tids = tracer.threads(pid);
  if (tids.empty() || tids[0] != pid) {
    return fail(ErrorKind::kNotPossible, "the first thread of process {} has ended", pid);
  }
  if (tids.size() > stub::kSlotCount) {
    return fail(ErrorKind::kNotPossible, "process {} has {} threads; at most {} can move", pid,
                tids.size(), stub::kSlotCount);
  }
  TESS_TRY_ASSIGN(const uint64_t site, trace::find_syscall_site(pid));
  TESS_TRY_ASSIGN(const FdLimits limits, read_fd_limits(pid));
  Injected injected;
  TESS_TRY_ASSIGN(injected.placement.fd_base, choose_fd_base(limits, tids.size()));
  std::random_device random;
  const uint64_t dice = uint64_t{random()} << 32 | random();
  TESS_TRY_ASSIGN(const uint64_t base, choose_region(read_ranges(pid), dice));
  injected.placement.region_base = base;
  TESS_TRY_ASSIGN(const stub::RemoteMemory memory, stub::RemoteMemory::open(pid));
  const int32_t inner_pid = innermost_id(pid, pid);

  std::vector<ThreadPlan> plans;
  plans.reserve(tids.size());
  const trace::CodeRange vdso = trace::vdso_code(pid);
  for (const pid_t tid : tids) {
    const Tracee tracee = Tracee::attached(tid);
    TESS_TRY(trace::step_out_of(tracer.hub(), tracee, vdso));
    TESS_TRY_ASSIGN(RemoteCalls calls, RemoteCalls::begin(tracer.hub(), tracee, site));
    plans.push_back({tracee, std::make_unique<RemoteCalls>(std::move(calls))});
  }
  RemoteCalls& leader = *plans[0].calls;
  TESS_TRY(leader.call(
      "mmap of the stub's region", SYS_mmap,
      {base, stub::kRegionSize, PROT_NONE,
       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, ~uint64_t{0}, 0}));
  RegionGuard guard(leader, base);
  TESS_TRY(map_region(leader, base, tids.size()));
  TESS_TRY(memory.write(base, stub::blob()));
  const uint64_t scratch = stub::slot_address(base, 0) + kArgumentsOffset;
  guard.also_close(injected.placement.fd_base);
  TESS_TRY_ASSIGN(injected.mailbox,
                  make_mailbox(leader, memory, pid, scratch, injected.placement.fd_base, limits));

  stub::ControlBlock control = stub::make_control_block(
      base, inner_pid, job, injected.placement.fd_base, injected.placement.fd_base);
  control.in_use = static_cast<uint32_t>(tids.size());
  for (uint32_t i = 0; i < tids.size(); ++i) {
    control.slot_bitmap[i / 64] |= uint64_t{1} << (i % 64);
  }
  TESS_TRY(memory.put(base + stub::kControlOffset, control));
  for (uint32_t i = 0; i < tids.size(); ++i) {
    const int32_t tid = innermost_id(pid, tids[i]);
    TESS_TRY(write_slot(memory, plans[i].tracee, *plans[i].calls, base, i,
                        injected.placement.fd_base, tid, sleeps));
    injected.tids.push_back(tid);
  }
  // Nothing can fail from here on but by the death of the process.
  guard.release();
  for (uint32_t i = 0; i < tids.size(); ++i) {
    TESS_TRY(enter_stub(plans[i].tracee, *plans[i].calls, base, i));
  }
  for (const ThreadPlan& plan : plans) {
    TESS_TRY(plan.tracee.resume());
  }
  tracer.mark_running(pid);
  return injected;
}

Result<> catch_leavers(trace::Tracer& tracer, pid_t pid, const Placement& placement) {
  TESS_TRY(tracer.hold(pid, kHoldTimeout));
  return tracer.release_until(pid, [base =
                                        placement.region_base](const trace::Registers& registers) {
    return registers.rip - base >= stub::kRegionSize && registers.rsp - base >= stub::kRegionSize;
  });
}

Result<> take_stub_out(trace::Tracer& tracer, pid_t pid, const Placement& placement) {
  TESS_TRY(tracer.hold(pid, kHoldTimeout));
  TESS_TRY_ASSIGN(const uint64_t site, trace::find_syscall_site(pid));
  TESS_TRY_ASSIGN(RemoteCalls calls, RemoteCalls::begin(tracer.hub(), Tracee::attached(pid), site));
  TESS_TRY(calls.call("munmap of the stub's region", SYS_munmap,
                      {placement.region_base, stub::kRegionSize}));
  TESS_TRY(calls.raw(SYS_close, {static_cast<uint64_t>(placement.fd_base)}));
  return calls.finish();
}

namespace {

constexpr uint64_t kSyscallLength = 2;

// What is left of a sleep that is ended before it has begun: all.
void tell_rest(pid_t pid, const trace::Registers& registers) {
  const bool absolute = (registers.rsi & TIMER_ABSTIME) != 0;
  const bool on_clock = registers.rax == SYS_clock_nanosleep && !absolute;
  const uint64_t rest_at = on_clock                         ? registers.r10
                           : registers.rax == SYS_nanosleep ? registers.rsi
                                                            : 0;
  if (rest_at == 0) {
    return;
  }
  const uint64_t length_at = on_clock ? registers.rdx : registers.rdi;
  // An address that is bad is the application's mistake; the kernel would have said EFAULT.
  if (const auto memory = stub::RemoteMemory::open(pid); memory) {
    if (const auto length = memory->get<timespec>(length_at); length) {
      (void)memory->put(rest_at, *length);
    }
  }
}

void end_wait(const trace::Tracee& tracee, pid_t pid, const stub::SignalAction& action) {
  auto registers = tracee.registers();
  const bool caught = action.handler > 1;
  if (!registers || !caught ||
      (registers->rcx != stub::kRepeatEndsMark &&
       !stub::handler_ends(static_cast<int64_t>(registers->rax), registers->r10, action.flags))) {
    return;
  }
  tell_rest(pid, *registers);
  registers->rax = static_cast<uint64_t>(-EINTR);
  registers->rip += kSyscallLength;
  (void)tracee.set_registers(*registers);  // gone if not
}

}  // namespace

Result<> enter_waits(trace::Tracer& tracer, pid_t pid, const Actions& actions) {
  const trace::Tracer::Entry entry{
      .into =
          [](const trace::Registers& registers) {
            return (registers.rcx == stub::kRepeatMark || registers.rcx == stub::kRepeatEndsMark) &&
                   registers.r11 == stub::kRepeatMark;
          },
      .before = [pid, &actions](
                    const trace::Tracee& tracee,
                    int signal) { end_wait(tracee, pid, actions[static_cast<size_t>(signal)]); },
  };
  return tracer.enter_calls(pid, entry, kHoldTimeout);
}

}  // namespace tess::home
