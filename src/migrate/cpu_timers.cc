#include "migrate/cpu_timers.h"

#include <fstream>
#include <string>

namespace tess::migrate {
namespace {

// Of a descriptor otherwise; the fixed clocks are shown as such of the caller's.
bool counts_cpu_time(int32_t clock) {
  constexpr int32_t kKinds = 3, kDescriptor = 3;
  return clock < 0 && (clock & kKinds) != kDescriptor;
}

}  // namespace

std::vector<CpuTimer> parse_cpu_timers(std::istream& text) {
  constexpr std::string_view kOfThread = "signal/tid.", kNobody = "none/";
  std::vector<CpuTimer> timers;
  CpuTimer timer;
  std::string key;
  while (text >> key) {
    std::string value;
    if (key == "ID:") {
      timer = {};
      text >> timer.id;
    } else if (key == "signal:" && text >> value) {
      timer.signal = std::atoi(value.c_str());
    } else if (key == "notify:" && text >> value) {
      if (value.starts_with(kOfThread)) {
        timer.notified_thread = std::atoi(value.c_str() + kOfThread.size());
      } else if (value.starts_with(kNobody)) {
        timer.signal = 0;
      }
    } else if (key == "ClockID:" && text >> timer.clock && counts_cpu_time(timer.clock)) {
      timers.push_back(timer);
    }
  }
  return timers;
}

std::vector<CpuTimer> cpu_timers_of(pid_t pid) {
  std::ifstream text("/proc/" + std::to_string(pid) + "/timers");
  return parse_cpu_timers(text);
}

}  // namespace tess::migrate
