#include "trace/remote_calls.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "base/log.h"

namespace tess::trace {
namespace {

// The call takes no time, but its thread may wait for a CPU. Giving up spoils the thread.
constexpr auto kCallTimeout = std::chrono::milliseconds(20'000);
constexpr uint64_t kSearchMax = 32 << 20;  // of text searched when there is no vDSO

bool read_memory(pid_t pid, uint64_t address, void* into, size_t size) {
  iovec local{.iov_base = into, .iov_len = size};
  iovec remote{.iov_base = reinterpret_cast<void*>(address), .iov_len = size};
  return ::process_vm_readv(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

bool write_memory(pid_t pid, uint64_t address, const void* from, size_t size) {
  iovec local{.iov_base = const_cast<void*>(from), .iov_len = size};
  iovec remote{.iov_base = reinterpret_cast<void*>(address), .iov_len = size};
  return ::process_vm_writev(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

uint64_t find_in(pid_t pid, uint64_t start, uint64_t end) {
  constexpr unsigned char kSyscallCode[2] = {0x0f, 0x05};
  std::vector<unsigned char> bytes;
  while (start < end) {
    bytes.resize(std::min<uint64_t>(end - start, 1 << 20));
    if (!read_memory(pid, start, bytes.data(), bytes.size())) {
      return 0;
    }
    const auto found = std::search(bytes.begin(), bytes.end(), kSyscallCode, kSyscallCode + 2);
    if (found != bytes.end()) {
      return start + static_cast<uint64_t>(found - bytes.begin());
    }
    start += bytes.size();
  }
  return 0;
}

}  // namespace

Result<uint64_t> find_syscall_site(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::vector<std::pair<uint64_t, uint64_t>> text;
  std::string line;
  while (std::getline(maps, line)) {
    uint64_t start = 0;
    uint64_t end = 0;
    char permissions[5] = {};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &start, &end, permissions) != 3 ||
        permissions[0] != 'r' || permissions[2] != 'x' || line.ends_with("[vsyscall]")) {
      continue;
    }
    if (line.ends_with("[vdso]")) {
      text.insert(text.begin(), {start, end});
    } else {
      text.emplace_back(start, end);
    }
  }
  uint64_t searched = 0;
  for (const auto& [start, end] : text) {
    if (const uint64_t site = find_in(pid, start, end); site != 0) {
      return site;
    }
    searched += end - start;
    if (searched > kSearchMax) {
      break;
    }
  }
  return fail(ErrorKind::kNotPossible,
              "process {} has no readable code with a system call instruction", pid);
}

Result<Registers> settled_registers(const Tracee& tracee) {
  TESS_TRY_ASSIGN(Registers registers, tracee.registers());
  auto rseq = tracee.rseq();
  if (!rseq || rseq->address == 0) {
    return registers;  // a kernel without rseq, or a thread that does not use it
  }
  struct CriticalSection {  // linux/rseq.h
    uint32_t version;
    uint32_t flags;
    uint64_t start_ip;
    uint64_t post_commit_offset;
    uint64_t abort_ip;
  } section{};
  static_assert(sizeof(CriticalSection) == 32);
  constexpr uint64_t kRseqCsOffset = 8;
  uint64_t pointer = 0;
  if (!read_memory(tracee.tid(), rseq->address + kRseqCsOffset, &pointer, sizeof(pointer)) ||
      pointer == 0 || !read_memory(tracee.tid(), pointer, &section, sizeof(section))) {
    return registers;
  }
  if (registers.rip - section.start_ip < section.post_commit_offset) {
    const uint64_t none = 0;
    if (write_memory(tracee.tid(), rseq->address + kRseqCsOffset, &none, sizeof(none))) {
      registers.rip = section.abort_ip;
      TESS_TRY(tracee.set_registers(registers));
    }
  }
  return registers;
}

Result<RemoteCalls> RemoteCalls::begin(WaitHub& hub, const Tracee& tracee, uint64_t site) {
  TESS_TRY_ASSIGN(const Registers saved, settled_registers(tracee));
  TESS_TRY_ASSIGN(const uint64_t mask, tracee.signal_mask());
  TESS_TRY(tracee.set_signal_mask(kAllSignals));
  return RemoteCalls(hub, tracee, site, saved, mask);
}

RemoteCalls::RemoteCalls(RemoteCalls&& other) noexcept
    : hub_(other.hub_),
      tracee_(other.tracee_),
      site_(other.site_),
      saved_(other.saved_),
      mask_(other.mask_),
      armed_(std::exchange(other.armed_, false)),
      stop_arrived_(std::exchange(other.stop_arrived_, false)) {}

RemoteCalls::~RemoteCalls() {
  if (const Result<> result = finish();
      !result && result.error().kind() != ErrorKind::kDisconnected) {
    log::error("trace", "event=restore_failed tid={} reason=\"{}\"", tracee_.tid(),
               result.error().message());
  }
}

Result<bool> RemoteCalls::wait_syscall_stop() {
  const Deadline deadline = after(kCallTimeout);
  while (true) {
    TESS_TRY_ASSIGN(const WaitEvent event, hub_->wait_for(tracee_.tid(), deadline));
    switch (event.kind()) {
      case WaitEvent::Kind::kSyscall: {
        __ptrace_syscall_info info{};
        if (::ptrace(PTRACE_GET_SYSCALL_INFO, tracee_.tid(), sizeof(info), &info) < 0) {
          return fail_errno("PTRACE_GET_SYSCALL_INFO of thread {}", tracee_.tid());
        }
        return info.op == PTRACE_SYSCALL_INFO_EXIT;
      }
      case WaitEvent::Kind::kEnding:
      case WaitEvent::Kind::kExited:
        hub_->put_back(event);
        armed_ = false;
        return fail(ErrorKind::kDisconnected, "thread {} died during a remote call", event.tid());
      case WaitEvent::Kind::kSignal:  // only SIGSTOP is never blocked
        TESS_TRY(tracee_.resume_to_syscall(event.signal()));
        break;
      case WaitEvent::Kind::kGroupStop:
        stop_arrived_ =
            true;  // the process is stopped from now on; our calls are made nevertheless
        TESS_TRY(tracee_.resume_to_syscall());
        break;
      case WaitEvent::Kind::kInterrupt:
      case WaitEvent::Kind::kEvent:
        TESS_TRY(tracee_.resume_to_syscall());
        break;
    }
  }
}

Result<int64_t> RemoteCalls::raw(int64_t number, std::array<uint64_t, 6> args) {
  Registers registers = saved_;
  registers.rip = site_;
  registers.cs = kCodeSegment;  // it may execute code of 32 bits
  registers.ss = kStackSegment;
  registers.rax = static_cast<uint64_t>(number);
  registers.orig_rax = ~uint64_t{0};  // not in a call: the kernel must not restart anything
  registers.rdi = args[0];
  registers.rsi = args[1];
  registers.rdx = args[2];
  registers.r10 = args[3];
  registers.r8 = args[4];
  registers.r9 = args[5];
  TESS_TRY(tracee_.set_registers(registers));
  TESS_TRY(tracee_.resume_to_syscall());
  TESS_TRY_ASSIGN(bool at_exit, wait_syscall_stop());
  while (!at_exit) {
    TESS_TRY(tracee_.resume_to_syscall());
    TESS_TRY_ASSIGN(at_exit, wait_syscall_stop());
  }
  TESS_TRY_ASSIGN(const Registers after_call, tracee_.registers());
  return static_cast<int64_t>(after_call.rax);
}

Result<uint64_t> RemoteCalls::call(const char* what, int64_t number, std::array<uint64_t, 6> args) {
  TESS_TRY_ASSIGN(const int64_t result, raw(number, args));
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return fail_errno("{} in thread {}", what, tracee_.tid());
  }
  return static_cast<uint64_t>(result);
}

Result<> RemoteCalls::finish() {
  if (!std::exchange(armed_, false)) {
    return {};
  }
  // From the exit stop of a call the kernel would return straight to user space and the restart of
  // a call that the first stop interrupted would be lost. So: 1. ask for one more stop, 2. put the
  // registers back, 3. let it run into that stop, which is inside signal delivery, where -ERESTART*
  // is looked at.
  TESS_TRY(tracee_.interrupt());
  TESS_TRY(tracee_.set_registers(saved_));
  TESS_TRY(tracee_.set_signal_mask(kAllSignals));
  TESS_TRY(tracee_.resume());
  const Deadline deadline = after(kCallTimeout);
  while (true) {
    TESS_TRY_ASSIGN(const WaitEvent event, hub_->wait_for(tracee_.tid(), deadline));
    if (event.is_end()) {
      hub_->put_back(event);
      return fail(ErrorKind::kDisconnected, "thread {} died", event.tid());
    }
    if (event.kind() == WaitEvent::Kind::kInterrupt ||
        event.kind() == WaitEvent::Kind::kGroupStop) {
      stop_arrived_ = stop_arrived_ || event.kind() == WaitEvent::Kind::kGroupStop;
      break;
    }
    TESS_TRY(tracee_.interrupt());
    TESS_TRY(tracee_.set_registers(saved_));
    TESS_TRY(tracee_.resume(event.kind() == WaitEvent::Kind::kSignal ? event.signal() : 0));
  }
  TESS_TRY(tracee_.set_signal_mask(mask_));
  stop_again();
  return {};
}

void RemoteCalls::release() {
  armed_ = false;
  stop_again();
}

// A stop that arrived meanwhile took effect (the parent has been told), but the thread was made to
// run on: the kernel puts it into the same stop again without telling anybody twice.
void RemoteCalls::stop_again() {
  if (std::exchange(stop_arrived_, false) && !continue_pending(tracee_.tid())) {
    ::syscall(SYS_tkill, tracee_.tid(), SIGSTOP);
  }
}

}  // namespace tess::trace
