#include "trace/tracee.h"

#include <elf.h>
#include <signal.h>
#include <sys/uio.h>

#include <cerrno>
#include <string>

#include "base/log.h"
#include "sys/proc_status.h"

namespace tess::trace {
namespace {

constexpr size_t kXstateMax = 16 << 10;  // AMX included; the kernel says how much it filled
static_assert(sizeof(Registers) == 27 * 8);

}  // namespace

Result<long> Tracee::request(int what, void* address, void* data, const char* name) const {
  errno = 0;
  const long value = ::ptrace(static_cast<__ptrace_request>(what), tid_, address, data);
  if (value == -1 && errno != 0) {
    if (errno == ESRCH) {
      return fail(ErrorKind::kDisconnected, "thread {} is gone ({})", tid_, name);
    }
    return fail_errno("{} of thread {}", name, tid_);
  }
  return value;
}

Result<Tracee> Tracee::seize(pid_t tid, int options) {
  Tracee tracee(tid);
  void* const data =
      reinterpret_cast<void*>(static_cast<uintptr_t>(options | PTRACE_O_TRACESYSGOOD));
  TESS_TRY(tracee.request(PTRACE_SEIZE, nullptr, data, "PTRACE_SEIZE"));
  return tracee;
}

Result<> Tracee::set_options(int options) const {
  void* const data =
      reinterpret_cast<void*>(static_cast<uintptr_t>(options | PTRACE_O_TRACESYSGOOD));
  TESS_TRY(request(PTRACE_SETOPTIONS, nullptr, data, "PTRACE_SETOPTIONS"));
  return {};
}

Result<> Tracee::interrupt() const {
  TESS_TRY(request(PTRACE_INTERRUPT, nullptr, nullptr, "PTRACE_INTERRUPT"));
  return {};
}

SignalMasks signal_masks(pid_t tid) {
  const auto status = sys::ProcStatus::read(tid);
  if (!status) {
    return {};
  }
  const auto mask = [&](std::string_view name) { return status->number(name, 16); };
  return {.pending = mask("SigPnd") | mask("ShdPnd"),
          .blocked = mask("SigBlk"),
          .ignored = mask("SigIgn"),
          .caught = mask("SigCgt")};
}

bool continue_pending(pid_t tid) {
  return (signal_masks(tid).pending >> (SIGCONT - 1) & 1) != 0;
}

Result<> Tracee::resume(int signal) const {
  TESS_TRY(request(PTRACE_CONT, nullptr, reinterpret_cast<void*>(static_cast<intptr_t>(signal)),
                   "PTRACE_CONT"));
  return {};
}

Result<> Tracee::step(int signal) const {
  TESS_TRY(request(PTRACE_SINGLESTEP, nullptr,
                   reinterpret_cast<void*>(static_cast<intptr_t>(signal)), "PTRACE_SINGLESTEP"));
  return {};
}

Result<> Tracee::resume_to_syscall(int signal) const {
  TESS_TRY(request(PTRACE_SYSCALL, nullptr, reinterpret_cast<void*>(static_cast<intptr_t>(signal)),
                   "PTRACE_SYSCALL"));
  return {};
}

Result<> Tracee::listen() const {
  TESS_TRY(request(PTRACE_LISTEN, nullptr, nullptr, "PTRACE_LISTEN"));
  return {};
}

Result<> Tracee::detach(int signal) const {
  TESS_TRY(request(PTRACE_DETACH, nullptr, reinterpret_cast<void*>(static_cast<intptr_t>(signal)),
                   "PTRACE_DETACH"));
  return {};
}

bool Tracee::begins_call() const {
  __ptrace_syscall_info info{};
  void* const size = reinterpret_cast<void*>(sizeof(info));
  return request(PTRACE_GET_SYSCALL_INFO, size, &info, "PTRACE_GET_SYSCALL_INFO").has_value() &&
         info.op == PTRACE_SYSCALL_INFO_ENTRY;
}

Result<Registers> Tracee::registers() const {
  Registers registers{};
  TESS_TRY(request(PTRACE_GETREGS, nullptr, &registers, "PTRACE_GETREGS"));
  return registers;
}

Result<> Tracee::set_registers(const Registers& registers) const {
  TESS_TRY(request(PTRACE_SETREGS, nullptr, const_cast<Registers*>(&registers), "PTRACE_SETREGS"));
  return {};
}

Result<std::vector<std::byte>> Tracee::xstate() const {
  std::vector<std::byte> state(kXstateMax);
  iovec into{.iov_base = state.data(), .iov_len = state.size()};
  void* const kind = reinterpret_cast<void*>(static_cast<uintptr_t>(NT_X86_XSTATE));
  TESS_TRY(request(PTRACE_GETREGSET, kind, &into, "PTRACE_GETREGSET"));
  state.resize(into.iov_len);
  return state;
}

Result<uint64_t> Tracee::signal_mask() const {
  uint64_t mask = 0;
  void* const size = reinterpret_cast<void*>(sizeof(mask));
  TESS_TRY(request(PTRACE_GETSIGMASK, size, &mask, "PTRACE_GETSIGMASK"));
  return mask;
}

Result<> Tracee::set_signal_mask(uint64_t mask) const {
  void* const size = reinterpret_cast<void*>(sizeof(mask));
  TESS_TRY(request(PTRACE_SETSIGMASK, size, &mask, "PTRACE_SETSIGMASK"));
  return {};
}

Result<RseqConfiguration> Tracee::rseq() const {
  struct {  // linux/ptrace.h, struct ptrace_rseq_configuration
    uint64_t address;
    uint32_t size;
    uint32_t signature;
    uint32_t flags;
    uint32_t pad;
  } raw{};
  static_assert(sizeof(raw) == 24);
  void* const size = reinterpret_cast<void*>(sizeof(raw));
  TESS_TRY(request(PTRACE_GET_RSEQ_CONFIGURATION, size, &raw, "PTRACE_GET_RSEQ_CONFIGURATION"));
  return RseqConfiguration{
      .address = raw.address, .size = raw.size, .signature = raw.signature, .flags = raw.flags};
}

Result<uint64_t> Tracee::event_message() const {
  unsigned long message = 0;
  TESS_TRY(request(PTRACE_GETEVENTMSG, nullptr, &message, "PTRACE_GETEVENTMSG"));
  return uint64_t{message};
}

bool Tracee::dispatches_calls() const {
  constexpr int kGetConfiguration = 0x4211;  // PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
  struct {                                   // linux/ptrace.h, struct ptrace_sud_config
    uint64_t mode;
    uint64_t selector;
    uint64_t offset;
    uint64_t length;
  } raw{};
  void* const size = reinterpret_cast<void*>(sizeof(raw));
  return request(kGetConfiguration, size, &raw, "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG") &&
         raw.mode != 0;
}

Result<RegisterGuard> RegisterGuard::take(const Tracee& tracee) {
  TESS_TRY_ASSIGN(const Registers registers, tracee.registers());
  TESS_TRY_ASSIGN(const uint64_t mask, tracee.signal_mask());
  return RegisterGuard(tracee, registers, mask);
}

RegisterGuard::~RegisterGuard() {
  if (!armed_) {
    return;
  }
  Result<> result = tracee_.set_registers(registers_);
  if (result) {
    result = tracee_.set_signal_mask(mask_);
  }
  if (!result && result.error().kind() != ErrorKind::kDisconnected) {
    log::error("trace", "event=restore_failed tid={} reason=\"{}\"", tracee_.tid(),
               result.error().message());
  }
}

}  // namespace tess::trace
