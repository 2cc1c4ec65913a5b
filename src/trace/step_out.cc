#include "trace/step_out.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace tess::trace {
namespace {

constexpr auto kTimeout = std::chrono::milliseconds(5'000);

}  // namespace

CodeRange vdso_code(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::string line;
  CodeRange range;
  while (std::getline(maps, line)) {
    if (line.ends_with("[vdso]")) {
      std::sscanf(line.c_str(), "%lx-%lx", &range.begin, &range.end);
    }
  }
  return range;
}

Result<> step_out_of(WaitHub& hub, const Tracee& tracee, const CodeRange& range) {
  TESS_TRY_ASSIGN(Registers registers, tracee.registers());
  if (!range.contains(registers.rip)) {
    return {};
  }
  TESS_TRY_ASSIGN(const uint64_t mask, tracee.signal_mask());
  // Not SIGTRAP: one that is blocked would take the application's handler away when it is forced.
  TESS_TRY(tracee.set_signal_mask(kAllSignals & ~(uint64_t{1} << (SIGTRAP - 1))));
  const Deadline deadline = after(kTimeout);
  int inject = 0;
  bool stopped = false;
  while (range.contains(registers.rip)) {
    TESS_TRY(tracee.step(std::exchange(inject, 0)));
    TESS_TRY_ASSIGN(const WaitEvent event, hub.wait_for(tracee.tid(), deadline));
    if (event.is_end()) {
      hub.put_back(event);
      return fail(ErrorKind::kDisconnected, "thread {} died", event.tid());
    }
    if (event.kind() == WaitEvent::Kind::kSignal && event.signal() != SIGTRAP) {
      inject = event.signal();  // only SIGSTOP is never blocked
    }
    stopped = stopped || event.kind() == WaitEvent::Kind::kGroupStop;
    TESS_TRY_ASSIGN(registers, tracee.registers());
  }
  TESS_TRY(tracee.set_signal_mask(mask));
  if ((stopped || inject == SIGSTOP) && !continue_pending(tracee.tid())) {
    ::syscall(SYS_tkill, tracee.tid(), SIGSTOP);
  }
  return {};
}

}  // namespace tess::trace
