// System calls made by a stopped thread on our behalf, through a `syscall` instruction that is
// already in its memory. While it lives, the thread's signals are blocked; when it goes, registers
// and mask are put back and the thread stands in a stop from which the kernel's own restart of an
// interrupted call still works. release() leaves the thread where it is instead. Tracing thread
// only. SIGSTOP cannot be blocked: one that arrives meanwhile is sent again at the end.
#pragma once

#include <array>

#include "trace/tracee.h"
#include "trace/wait_hub.h"

namespace tess::trace {

// Address of a `syscall` instruction in the process: in its vDSO, else in any executable mapping.
Result<uint64_t> find_syscall_site(pid_t pid);

// The registers the thread would have if it went on now: an rseq critical section that the stop has
// interrupted goes to its abort handler, as the kernel does at every preemption.
Result<Registers> settled_registers(const Tracee& tracee);

class RemoteCalls {
 public:
  // `tracee` must be in a stop of kind kInterrupt. `site` from find_syscall_site.
  static Result<RemoteCalls> begin(WaitHub& hub, const Tracee& tracee, uint64_t site);
  ~RemoteCalls();
  RemoteCalls(RemoteCalls&& other) noexcept;
  RemoteCalls(const RemoteCalls&) = delete;
  RemoteCalls& operator=(const RemoteCalls&) = delete;
  RemoteCalls& operator=(RemoteCalls&&) = delete;

  // What the kernel returned, -errno included. Must not block for long (2 s), must not end the
  // thread.
  Result<int64_t> raw(int64_t number, std::array<uint64_t, 6> args);
  // The same with -errno turned into an Error; `what` names the attempt.
  Result<uint64_t> call(const char* what, int64_t number, std::array<uint64_t, 6> args);

  // As they were at begin(), rseq settled.
  const Registers& registers() const { return saved_; }
  uint64_t signal_mask() const { return mask_; }
  // Gives up putting things back: the thread stays in the stop after its last call, all signals
  // blocked.
  void release();
  // Puts back now and says whether that worked.
  Result<> finish();

 private:
  RemoteCalls(WaitHub& hub, Tracee tracee, uint64_t site, const Registers& saved, uint64_t mask)
      : hub_(&hub), tracee_(tracee), site_(site), saved_(saved), mask_(mask), armed_(true) {}
  Result<bool> wait_syscall_stop();  // true: at an exit
  void stop_again();

  WaitHub* hub_;
  Tracee tracee_;
  uint64_t site_;
  Registers saved_;
  uint64_t mask_;
  bool armed_;
  bool stop_arrived_ = false;
};

}  // namespace tess::trace
