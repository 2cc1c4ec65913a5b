// The agent's view of one process that has the stub in it: the blob, remote memory, and the mailbox. Not thread-safe; one owner at a time (the main loop reads
// notes; while the process is parked, the worker that migrates it owns the session).
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <span>
#include <vector>

#include "base/result.h"
#include "stub/abi.h"
#include "sys/fd.h"

namespace tess::stub {

// The position-independent blob, to be placed (r-x) at a region's base.
std::span<const std::byte> blob();
const BlobHeader& blob_header();

// A fresh control block and slot for a region at `region_base`. fd_base as in ControlBlock.
ControlBlock make_control_block(uint64_t region_base, int32_t pid, uint64_t job, int32_t mailbox_fd, int32_t fd_base);
void make_slot(Slot& slot, uint64_t region_base, uint32_t index, int32_t fd_base);

// A ptrace XSAVE area (NT_X86_XSTATE) of this machine in the form that a signal frame wants, into context.xsave; false if it does not fit, or if AMX
// is in use in it.
bool set_xsave(ThreadContext& context, std::span<const std::byte> xstate);

// Channel keys for both ends from two 16-byte secrets. `to_host` protects home's replies, `to_home` the body's requests.
void make_channel_keys(std::span<const uint8_t> key_to_host, std::span<const uint8_t> key_to_home, bool encrypted,
                       ChannelKeys& at_home, ChannelKeys& at_host);

// Another process's memory by /proc/PID/mem (may write read-only pages). `pid` is in the agent's pid namespace.
class RemoteMemory {
 public:
  static Result<RemoteMemory> open(int pid);
  Result<> read(uint64_t address, std::span<std::byte> into) const;
  Result<> write(uint64_t address, std::span<const std::byte> from) const;
  template <typename T>
  Result<T> get(uint64_t address) const {
    T value;
    TESS_TRY(read(address, std::as_writable_bytes(std::span(&value, 1))));
    return value;
  }
  template <typename T>
  Result<> put(uint64_t address, const T& value) const {
    return write(address, std::as_bytes(std::span(&value, 1)));
  }

 private:
  explicit RemoteMemory(sys::Fd mem) : mem_(std::move(mem)) {}
  sys::Fd mem_;
};

class Session {
 public:
  // mailbox: our end of the process's SOCK_SEQPACKET pair.
  Session(sys::Fd mailbox, RemoteMemory memory, uint64_t region_base);

  const sys::Fd& mailbox() const { return mailbox_; }
  const RemoteMemory& memory() const { return memory_; }
  uint64_t region_base() const { return region_base_; }
  uint64_t control_address() const { return region_base_ + kControlOffset; }

  // Next note if one is there (nullopt: none now). End of file is kDisconnected: the process is gone.
  // What follows a kSharedCall is put into `shared`, if given.
  Result<std::optional<MailboxNote>> poll_note(SharedCall* shared = nullptr);
  // Blocks for the next note. kRetry when the time is up.
  Result<MailboxNote> wait_note(std::chrono::milliseconds timeout);

  // The rest only while the process is parked (after kAllParked). Each blocks for its answer, 10 s at the most.
  Result<> batch(std::span<SyscallRequest> requests, bool stop_on_error);
  Result<int64_t> call(int64_t number, std::array<uint64_t, 6> args);  // one raw call; value, or an Error with its errno
  // What it has registered for membarrier(2), and bit 9 (GET_REGISTRATIONS, Linux 6.3); 0 if this
  // kernel cannot say.
  uint32_t membarrier_registrations();
  Result<> place_fds(std::span<const int> our_fds, std::span<const int32_t> targets);
  Result<> spawn_threads(std::span<const uint32_t> slots);
  Result<> discard_memory(std::span<const std::pair<uint64_t, uint64_t>> ranges);
  Result<> release(Phase phase);
  // The same to a process that is to be stopped before any instruction of the application's: `stop`
  // sends it the signals, while all threads still rest.
  Result<> release_stopped(Phase phase, const std::function<void()>& stop);
  // The same to a process that a signal has stopped: it goes on in that phase when it runs again, and
  // says so by a kAnswer note.
  Result<> release_when_it_runs(Phase phase);

  // Answers a kNeedChannel note: channel and, if wanted, a mailbox end for a forked child.
  Result<> answer_channel(const ChannelAnswer& answer, std::span<const int> our_fds);

  // Sets or clears the freeze word. Set it, then kick every thread (see docs/architecture.md section 6.3).
  Result<> set_freeze(bool on);
  // Slots in use now: (index, state, tid). Stable only while parked.
  struct SlotInfo {
    uint32_t index;
    uint32_t state;
    int32_t tid;
  };
  Result<std::vector<SlotInfo>> slots() const;

 private:
  Result<> release(Phase phase, uint32_t flags);
  Result<> send_command(const MailboxCommand& command, std::span<const std::byte> payload, std::span<const int> fds);
  Result<MailboxNote> wait_answer(std::span<std::byte> payload_into);

  sys::Fd mailbox_;
  RemoteMemory memory_;
  uint64_t region_base_;
};

}  // namespace tess::stub
