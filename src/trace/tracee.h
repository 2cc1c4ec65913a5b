// One traced thread. Every call needs the thread stopped, except seize and interrupt. A thread that
// died is kDisconnected: a normal result (SIGKILL may come at any time), to be treated as "gone".
// Used by the tracing thread only: ptrace is bound to it. A Tracee is a name for the thread, not
// its owner: dropping it changes nothing.
#pragma once

#include <sys/ptrace.h>
#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"

namespace tess::trace {

using Registers = user_regs_struct;
// Of code of 64 bits (__USER_CS, __USER_DS).
inline constexpr uint64_t kCodeSegment = 0x33;
inline constexpr uint64_t kStackSegment = 0x2b;

inline constexpr uint64_t kAllSignals = ~uint64_t{0};

// Configuration that the thread has given to rseq(2); address 0: none.
struct RseqConfiguration {
  uint64_t address = 0;
  uint32_t size = 0;
  uint32_t signature = 0;
  uint32_t flags = 0;
};

class Tracee {
 public:
  // PTRACE_SEIZE with PTRACE_O_* options (TRACESYSGOOD is added). The thread goes on running.
  static Result<Tracee> seize(pid_t tid, int options);
  // A thread that the kernel attached by PTRACE_O_TRACECLONE and its like.
  static Tracee attached(pid_t tid) { return Tracee(tid); }

  pid_t tid() const { return tid_; }

  Result<> set_options(int options) const;  // PTRACE_O_*, TRACESYSGOOD added
  Result<> interrupt() const;
  Result<> resume(int signal = 0) const;             // PTRACE_CONT
  Result<> resume_to_syscall(int signal = 0) const;  // PTRACE_SYSCALL
  Result<> step(int signal = 0) const;               // PTRACE_SINGLESTEP
  Result<> listen() const;                           // stay in a group-stop
  Result<> detach(int signal = 0) const;

  // Stands where a call begins (PTRACE_GET_SYSCALL_INFO, since Linux 5.3).
  bool begins_call() const;
  Result<Registers> registers() const;
  Result<> set_registers(const Registers& registers) const;
  Result<std::vector<std::byte>> xstate() const;
  Result<uint64_t> signal_mask() const;  // the one to be in force after the current call
  Result<> set_signal_mask(uint64_t mask) const;
  Result<RseqConfiguration> rseq() const;
  Result<uint64_t> event_message() const;
  // PR_SET_SYSCALL_USER_DISPATCH is in force. False where the kernel cannot tell (before
  // Linux 6.4).
  bool dispatches_calls() const;

 private:
  explicit Tracee(pid_t tid) : tid_(tid) {}
  Result<long> request(int what, void* address, void* data, const char* name) const;

  pid_t tid_;
};

// Of a thread; what waits for it or for its process, and what that does with signals
// (/proc/TID/status). None if it is gone.
struct SignalMasks {
  uint64_t pending = 0;
  uint64_t blocked = 0;
  uint64_t ignored = 0;  // by SIG_IGN
  uint64_t caught = 0;   // by a handler
};
SignalMasks signal_masks(pid_t tid);

// A SIGCONT waits in the process of this thread, blocked: the process is meant to go on. Sending it
// a stop would take that SIGCONT away (signal(7)).
bool continue_pending(pid_t tid);

// Remembers registers and signal mask of a stopped thread and puts them back, unless released or
// the thread is dead.
class RegisterGuard {
 public:
  static Result<RegisterGuard> take(const Tracee& tracee);
  ~RegisterGuard();
  RegisterGuard(RegisterGuard&& other) noexcept
      : tracee_(other.tracee_),
        registers_(other.registers_),
        mask_(other.mask_),
        armed_(std::exchange(other.armed_, false)) {}
  RegisterGuard(const RegisterGuard&) = delete;
  RegisterGuard& operator=(const RegisterGuard&) = delete;
  RegisterGuard& operator=(RegisterGuard&&) = delete;

  const Registers& registers() const { return registers_; }
  uint64_t signal_mask() const { return mask_; }
  void release() { armed_ = false; }

 private:
  RegisterGuard(Tracee tracee, const Registers& registers, uint64_t mask)
      : tracee_(tracee), registers_(registers), mask_(mask), armed_(true) {}

  Tracee tracee_;
  Registers registers_;
  uint64_t mask_;
  bool armed_;
};

}  // namespace tess::trace
