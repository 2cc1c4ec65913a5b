#include "home/cut_call.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <algorithm>
#include <vector>

#include "stub/transfer.h"

namespace tess::home {
namespace {

using stub::Transfer;

uint64_t vector_size(const stub::RemoteMemory& memory, uint64_t address, uint64_t count) {
  std::vector<iovec> pieces(std::min<uint64_t>(count, IOV_MAX));
  if (!memory.read(address, std::as_writable_bytes(std::span(pieces)))) {
    return 0;
  }
  uint64_t total = 0;
  for (const iovec& piece : pieces) {
    total += piece.iov_len;
  }
  return total;
}

// Bytes that the call was to transfer. What comes with a message beside its data has gone with its
// first bytes: such a message is not sent on.
uint64_t wanted(Transfer transfer, const uint64_t args[6], const stub::RemoteMemory& memory) {
  if (transfer == Transfer::kMessage) {
    const auto header = memory.get<stub::MessageHeader>(args[1]);
    return header && header->control_length == 0
               ? vector_size(memory, header->iovec, header->iovec_count)
               : 0;
  }
  return transfer == Transfer::kVector ? vector_size(memory, args[1], args[2]) : args[2];
}

bool is_endless_stream(trace::RemoteCalls& calls, const stub::RemoteMemory& memory, uint64_t fd,
                       uint64_t scratch) {
  const uint64_t size_at = scratch + sizeof(timeval);
  const auto option = [&]<typename T>(int name, T& value) {
    const auto found = memory.put(size_at, static_cast<socklen_t>(sizeof(T))) &&
                       calls.call("getsockopt", SYS_getsockopt,
                                  {fd, SOL_SOCKET, static_cast<uint64_t>(name), scratch, size_at});
    const auto read = memory.get<T>(scratch);
    value = found && read ? *read : T{};
    return found && read;
  };
  int type = 0;
  timeval sends{}, receives{};
  return option(SO_TYPE, type) && type == SOCK_STREAM && option(SO_SNDTIMEO, sends) &&
         option(SO_RCVTIMEO, receives) && sends.tv_sec == 0 && sends.tv_usec == 0 &&
         receives.tv_sec == 0 && receives.tv_usec == 0;
}

bool would_have_waited(trace::RemoteCalls& calls, const stub::RemoteMemory& memory, uint64_t fd,
                       uint64_t scratch) {
  const auto flags = calls.call("fcntl", SYS_fcntl, {fd, F_GETFL});
  if (!flags || !calls.call("fstat", SYS_fstat, {fd, scratch})) {
    return false;
  }
  const auto status = memory.get<struct stat>(scratch);
  return status &&
         stub::waits_for_room(status->st_mode, status->st_rdev, static_cast<uint64_t>(*flags)) &&
         (!S_ISSOCK(status->st_mode) || is_endless_stream(calls, memory, fd, scratch));
}

}  // namespace

uint64_t transferred_when_cut(const trace::Registers& registers, trace::RemoteCalls& calls,
                              const stub::RemoteMemory& memory, uint64_t scratch) {
  const auto result = static_cast<int64_t>(registers.rax);
  const uint64_t args[6] = {registers.rdi, registers.rsi, registers.rdx,
                            registers.r10, registers.r8,  registers.r9};
  if (static_cast<int64_t>(registers.orig_rax) < 0 || result <= 0) {
    return 0;
  }
  const Transfer transfer = stub::transfer_of(registers.orig_rax, args);
  const auto done = static_cast<uint64_t>(result);
  return transfer != Transfer::kNone && done < wanted(transfer, args, memory) &&
                 would_have_waited(calls, memory, static_cast<uint32_t>(args[0]), scratch)
             ? done
             : 0;
}

}  // namespace tess::home
