#include "home/wake_up.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "home/interrupted_call.h"
#include "stub/transfer.h"
#include "sys/process.h"

namespace tess::home {
namespace {

bool is_inotify(pid_t pid, int fd) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  char target[32];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof(target));
  return n > 0 && std::string_view(target, static_cast<size_t>(n)) == "anon_inode:inotify";
}

// Sockets with a timeout of their own do not wait again. One that cannot be looked at may be such.
bool has_timeout(pid_t pid, int fd) {
  const auto socket = sys::copy_descriptor(pid, fd);
  if (!socket) {
    return true;
  }
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    timeval timeout{};
    socklen_t size = sizeof(timeout);
    if (::getsockopt(socket->get(), SOL_SOCKET, option, &timeout, &size) != 0) {
      return errno != ENOTSOCK;
    }
    if (timeout.tv_sec != 0 || timeout.tv_usec != 0) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool a_wake_ends(pid_t pid, const trace::Registers& registers) {
  const auto number = static_cast<int64_t>(registers.orig_rax);
  const auto fd = static_cast<int>(registers.rdi);
  if (number == SYS_read) {
    return is_inotify(pid, fd) || has_timeout(pid, fd);
  }
  return ends_by_timeout_of_socket(number) ? has_timeout(pid, fd)
                                           : returns_eintr_when_stopped(number);
}

bool cut_by_stop(const trace::Registers& registers) {
  switch (registers.orig_rax) {
    case SYS_sendfile:
    case SYS_splice:
    case SYS_tee:
    case SYS_vmsplice:
    case SYS_copy_file_range:
    case SYS_pwrite64:
    case SYS_pwritev:
    case SYS_pwritev2:
    case SYS_sendmmsg:
    case SYS_recvmmsg:
      return true;
    default: {
      const uint64_t args[6] = {registers.rdi, registers.rsi, registers.rdx,
                                registers.r10, registers.r8,  registers.r9};
      return stub::transfer_of(registers.orig_rax, args) != stub::Transfer::kNone;
    }
  }
}

bool waits_without_limit(pid_t pid, const trace::Registers& registers) {
  if (!stopped_in_call(registers) || has_time_limit(registers)) {
    return false;
  }
  const auto fd = static_cast<int>(registers.rdi);
  switch (const auto number = static_cast<int64_t>(registers.orig_rax); number) {
    case SYS_read:
      return is_inotify(pid, fd) || !has_timeout(pid, fd);
    case SYS_io_getevents:
      return registers.r8 == 0;
    case SYS_recvmmsg:
      return false;
    default:
      return !ends_by_timeout_of_socket(number) || !has_timeout(pid, fd);
  }
}

}  // namespace tess::home
