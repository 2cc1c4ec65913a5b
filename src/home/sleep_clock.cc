#include "home/sleep_clock.h"

#include <sched.h>
#include <sys/syscall.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "sys/clock.h"
#include "trace/tracer.h"

namespace tess::home {
namespace {

constexpr double kNsPerMs = 1e6;

std::string task_path(pid_t pid, pid_t tid, const char* name) {
  return "/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/" + name;
}

// "name   :   value" of a sched file.
std::optional<double> sched_field(const std::string& path, const char* name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(name)) {
      const size_t colon = line.find(':');
      return colon == std::string::npos ? std::nullopt
                                        : std::optional(std::atof(line.c_str() + colon + 1));
    }
  }
  return std::nullopt;
}

bool in_timed_call(pid_t pid, pid_t tid) {
  std::ifstream file(task_path(pid, tid, "syscall"));
  std::string word;
  file >> word;
  switch (std::atol(word.c_str())) {
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
    case SYS_poll:
      return word != "running" && word != "-1" && word != "0";
    case SYS_restart_syscall:
    case SYS_futex:
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_semtimedop:
    case SYS_rt_sigtimedwait:
      return true;
    default:
      return false;
  }
}

// What restart_syscall goes on with can only be what the kernel restarts with the rest of a
// relative time (kernel/time/hrtimer.c, fs/select.c, kernel/futex): where it waits, and the first
// argument, tell which. 0: the thread is in another call.
int64_t call_restarted(pid_t pid, pid_t tid) {
  constexpr int kHighestClock = 15;
  std::ifstream file(task_path(pid, tid, "syscall"));
  std::string number;
  std::string first;
  file >> number >> first;
  if (number != std::to_string(SYS_restart_syscall)) {
    return 0;
  }
  std::ifstream wchan(task_path(pid, tid, "wchan"));
  std::string where;
  std::getline(wchan, where);
  if (where.find("poll") != std::string::npos) {
    return SYS_poll;
  }
  if (where.find("futex") != std::string::npos) {
    return SYS_futex;
  }
  // A clock is a small number or, if it counts CPU time, a negative int; no address is either.
  const uint64_t argument =
      std::stoull("0" + first.substr(std::min<size_t>(first.size(), 1)), nullptr, 16);
  const bool clock = argument <= kHighestClock || static_cast<int64_t>(argument) < 0 ||
                     (argument >> 32 == 0 && static_cast<int32_t>(argument) < 0);
  return clock ? SYS_clock_nanosleep : SYS_nanosleep;
}

int last_cpu(pid_t pid, pid_t tid) {
  std::ifstream file(task_path(pid, tid, "stat"));
  std::string text;
  std::getline(file, text);
  std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string field;
  constexpr int kProcessorAfterName =
      37;  // field 39 of proc(5), counted from the one after the name
  for (int i = 0; i < kProcessorAfterName; ++i) {
    rest >> field;
  }
  return rest ? std::atoi(field.c_str()) : -1;
}

// The scheduler's clock differs between processors (it leaves out interrupts and stolen time), so
// it is compared with CLOCK_MONOTONIC on the processor in question: right after a short sleep the
// scheduler has just noted the time at which we came back. If we lose the processor before we have
// read what it has noted, that is later than our `now`, and the sleeper would seem to have begun as
// much earlier.
std::optional<double> clock_offset_ns(int cpu) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  CPU_SET(static_cast<size_t>(cpu), &wanted);
  if (::sched_setaffinity(0, sizeof(wanted), &wanted) != 0) {
    return std::nullopt;
  }
  constexpr int kAttempts = 5;
  constexpr int64_t kUndisturbedNs = 500'000;
  const timespec shortest{.tv_sec = 0, .tv_nsec = 1'000};
  std::optional<double> offset;
  for (int i = 0; i < kAttempts; ++i) {
    ::nanosleep(&shortest, nullptr);
    const int64_t before = sys::clock_ns(CLOCK_MONOTONIC);
    const auto own = sched_field("/proc/thread-self/sched", "se.exec_start");
    const int64_t after = sys::clock_ns(CLOCK_MONOTONIC);
    if (!own) {
      return std::nullopt;
    }
    const bool undisturbed = after - before < kUndisturbedNs;
    offset = static_cast<double>(undisturbed ? before : after) - *own * kNsPerMs;
    if (undisturbed) {
      break;
    }
  }
  return offset;
}

}  // namespace

SleepClock SleepClock::look_before_hold(pid_t pid) {
  SleepClock clock;
  struct Sleeper {
    pid_t tid;
    int cpu;
    double exec_start_ms;
    uint64_t switches;
  };
  std::vector<Sleeper> sleepers;
  for (const pid_t tid : trace::list_threads(pid)) {
    if (!in_timed_call(pid, tid)) {
      continue;
    }
    if (const int64_t number = call_restarted(pid, tid); number != 0) {
      clock.restarted_[tid] = number;
    }
    const auto switches = trace::voluntary_switches(pid, tid);
    const auto exec_start = sched_field(task_path(pid, tid, "sched"), "se.exec_start");
    const int cpu = last_cpu(pid, tid);
    if (switches && exec_start && cpu >= 0) {
      sleepers.push_back({tid, cpu, *exec_start, *switches});
    }
  }
  if (sleepers.empty()) {
    return clock;
  }
  cpu_set_t old;
  if (::sched_getaffinity(0, sizeof(old), &old) != 0) {
    return clock;
  }
  std::map<int, std::optional<double>> offsets;
  for (const Sleeper& sleeper : sleepers) {
    auto [it, fresh] = offsets.try_emplace(sleeper.cpu);
    if (fresh) {
      it->second = clock_offset_ns(sleeper.cpu);
    }
    if (it->second) {
      const double started = sleeper.exec_start_ms * kNsPerMs + *it->second;
      clock.entries_[sleeper.tid] = {.started_ns = static_cast<uint64_t>(std::max(started, 0.0)),
                                     .voluntary_switches = sleeper.switches};
    }
  }
  ::sched_setaffinity(0, sizeof(old), &old);
  return clock;
}

void SleepClock::confirm_after_hold(pid_t pid) {
  // Going to sleep was one switch, standing in our stop is the next: any more and the thread has
  // run in between.
  std::erase_if(entries_, [&](const auto& entry) {
    const auto switches = trace::voluntary_switches(pid, entry.first);
    return !switches || *switches != entry.second.voluntary_switches + 1;
  });
}

uint64_t SleepClock::started(pid_t tid) const {
  const auto it = entries_.find(tid);
  return it == entries_.end() ? 0 : it->second.started_ns;
}

int64_t SleepClock::restarted(pid_t tid) const {
  const auto it = restarted_.find(tid);
  return it == restarted_.end() ? 0 : it->second;
}

}  // namespace tess::home
