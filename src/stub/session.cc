#include "stub/session.h"

#include <bearssl.h>
#include <cpuid.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>

#include "base/check.h"

extern "C" {
extern const std::byte tess_stub_blob_start[];
extern const std::byte tess_stub_blob_end[];
}

namespace tess::stub {
namespace {

constexpr auto kAnswerTimeout = std::chrono::milliseconds(10'000);
constexpr uint32_t kFpXstateMagic1 = 0x46505853;  // linux asm/sigcontext.h
constexpr uint32_t kFpXstateMagic2 = 0x46505845;
constexpr size_t kSwReservedOffset = 464;
constexpr size_t kXstateBvOffset = 512;       // which components are not in their initial state
constexpr size_t kLegacyXsaveSize = 576;      // legacy area and XSAVE header
constexpr uint64_t kAmx = uint64_t{3} << 17;  // XTILECFG and XTILEDATA

// Of these components, in the standard format (Intel SDM volume 1, section 13.4.3).
size_t standard_xsave_size(uint64_t features) {
  size_t size = kLegacyXsaveSize;
  for (unsigned i = 2; i < 63; ++i) {
    unsigned length, offset, ecx, edx;
    if ((features >> i & 1) != 0) {
      __cpuid_count(0xd, i, length, offset, ecx, edx);
      size = std::max<size_t>(size, offset + length);
    }
  }
  return size;
}

void expand_key(std::span<const uint8_t> key, uint8_t round_keys[176], uint8_t hash_key[16]) {
  br_aes_x86ni_ctr_keys keys;
  br_aes_x86ni_ctr_init(&keys, key.data(), key.size());
  static_assert(sizeof(keys.skey.skni) >= 176);
  std::memcpy(round_keys, keys.skey.skni, 176);
  // H = AES_K(0^128): GCM, NIST SP 800-38D section 7.
  br_aes_ct64_ctr_keys block;
  br_aes_ct64_ctr_init(&block, key.data(), key.size());
  std::memset(hash_key, 0, 16);
  const uint8_t iv[12] = {};
  br_aes_ct64_ctr_run(&block, iv, 0, hash_key, 16);
}

}  // namespace

std::span<const std::byte> blob() {
  return {tess_stub_blob_start, static_cast<size_t>(tess_stub_blob_end - tess_stub_blob_start)};
}

const BlobHeader& blob_header() {
  const auto* header = reinterpret_cast<const BlobHeader*>(tess_stub_blob_start);
  TESS_CHECK(std::memcmp(header->magic, "TESSTUB1", 8) == 0 && header->abi_version == kAbiVersion,
             "the stub blob is not of this build");
  return *header;
}

ControlBlock make_control_block(uint64_t region_base, int32_t pid, uint64_t job, int32_t mailbox_fd,
                                int32_t fd_base) {
  ControlBlock control{};
  std::memcpy(control.magic, "TESSCTL1", 8);
  control.abi_version = kAbiVersion;
  control.role = kRoleNone;
  control.phase = kPhaseParked;
  control.mailbox_fd = mailbox_fd;
  control.fd_base = fd_base;
  control.pid = pid;
  control.region_base = region_base;
  control.job = job;
  control.cpu_limit_soft = control.cpu_limit_hard = ~uint64_t{0};
  return control;
}

void make_slot(Slot& slot, uint64_t region_base, uint32_t index, int32_t fd_base) {
  std::memset(&slot, 0, sizeof(slot));
  slot.region_base = region_base;
  slot.index = index;
  slot.state = kSlotStarting;
  slot.channel_fd = fd_base + 1 + static_cast<int32_t>(index);
  slot.thread.repeat_number = -1;
}

// A signal frame that is larger than what the kernel would write for the thread is taken for one
// without extended state (check_xstate_in_sigframe, Linux 5.16 and later): AMX has no room in it
// before a process has asked for that, but always has some in what ptrace gives.
bool set_xsave(ThreadContext& context, std::span<const std::byte> xstate) {
  uint64_t features = 0;
  uint64_t in_use = 0;
  if (xstate.size() < kLegacyXsaveSize) {
    return false;
  }
  // The kernel keeps XCR0 in the software-reserved bytes of NT_X86_XSTATE (offset 464).
  std::memcpy(&features, xstate.data() + kSwReservedOffset, sizeof(features));
  std::memcpy(&in_use, xstate.data() + kXstateBvOffset, sizeof(in_use));
  features &= ~kAmx;
  const size_t size = std::min(xstate.size(), standard_xsave_size(features));
  if ((in_use & kAmx) != 0 || size + 4 > kXsaveMax) {
    return false;
  }
  std::memcpy(context.xsave, xstate.data(), size);
  struct {
    uint32_t magic1;
    uint32_t extended_size;
    uint64_t xfeatures;
    uint32_t xstate_size;
    uint32_t padding[7];
  } reserved = {
      kFpXstateMagic1, static_cast<uint32_t>(size + 4), features, static_cast<uint32_t>(size), {}};
  static_assert(sizeof(reserved) == 48);
  std::memcpy(context.xsave + kSwReservedOffset, &reserved, sizeof(reserved));
  std::memcpy(context.xsave + size, &kFpXstateMagic2, 4);
  context.xsave_size = static_cast<uint32_t>(size + 4);
  return true;
}

void make_channel_keys(std::span<const uint8_t> key_to_host, std::span<const uint8_t> key_to_home,
                       bool encrypted, ChannelKeys& at_home, ChannelKeys& at_host) {
  TESS_CHECK(key_to_host.size() == 16 && key_to_home.size() == 16, "channel secrets are 16 bytes");
  at_home = {};
  at_host = {};
  expand_key(key_to_host, at_home.send_round_keys, at_home.send_hash_key);
  expand_key(key_to_home, at_home.receive_round_keys, at_home.receive_hash_key);
  at_home.encrypted = encrypted ? 1 : 0;
  std::memcpy(at_host.send_round_keys, at_home.receive_round_keys, sizeof(at_host.send_round_keys));
  std::memcpy(at_host.send_hash_key, at_home.receive_hash_key, sizeof(at_host.send_hash_key));
  std::memcpy(at_host.receive_round_keys, at_home.send_round_keys,
              sizeof(at_host.receive_round_keys));
  std::memcpy(at_host.receive_hash_key, at_home.send_hash_key, sizeof(at_host.receive_hash_key));
  at_host.encrypted = at_home.encrypted;
}

Result<RemoteMemory> RemoteMemory::open(int pid) {
  const std::string path = fmt::format("/proc/{}/mem", pid);
  sys::Fd mem(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!mem.valid()) {
    return fail_errno("open {}", path);
  }
  return RemoteMemory(std::move(mem));
}

Result<> RemoteMemory::read(uint64_t address, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t n = ::pread(mem_.get(), into.data(), into.size(), static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("read {} bytes of remote memory at {:#x}", into.size(), address);
    }
    if (n == 0) {
      return fail(ErrorKind::kDisconnected, "the process whose memory is read at {:#x} is gone",
                  address);
    }
    into = into.subspan(static_cast<size_t>(n));
    address += static_cast<uint64_t>(n);
  }
  return {};
}

Result<> RemoteMemory::write(uint64_t address, std::span<const std::byte> from) const {
  while (!from.empty()) {
    const ssize_t n = ::pwrite(mem_.get(), from.data(), from.size(), static_cast<off_t>(address));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return fail_errno("write {} bytes of remote memory at {:#x}", from.size(), address);
    }
    if (n == 0) {
      return fail(ErrorKind::kDisconnected, "the process whose memory is written at {:#x} is gone",
                  address);
    }
    from = from.subspan(static_cast<size_t>(n));
    address += static_cast<uint64_t>(n);
  }
  return {};
}

Session::Session(sys::Fd mailbox, RemoteMemory memory, uint64_t region_base)
    : mailbox_(std::move(mailbox)), memory_(std::move(memory)), region_base_(region_base) {}

Result<std::optional<MailboxNote>> Session::poll_note(SharedCall* shared) {
  std::array<std::byte, kMailboxMessageMax> buffer;
  ssize_t n = ::recv(mailbox_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && errno == ECONNRESET) {  // told once; what the process said before lies behind it
    n = ::recv(mailbox_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  }
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return std::nullopt;
  }
  if (n < 0 && errno != ECONNRESET) {
    return fail_errno("read a note from the stub");
  }
  if (n <= 0) {
    return fail(ErrorKind::kDisconnected, "the process has left its stub");
  }
  if (static_cast<size_t>(n) < sizeof(MailboxNote)) {
    return fail(ErrorKind::kBadInput, "the stub sent a note of {} bytes", n);
  }
  MailboxNote note;
  std::memcpy(&note, buffer.data(), sizeof(note));
  if (shared != nullptr && static_cast<size_t>(n) >= sizeof(note) + sizeof(*shared)) {
    std::memcpy(shared, buffer.data() + sizeof(note), sizeof(*shared));
  }
  return note;
}

Result<MailboxNote> Session::wait_note(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    auto note = poll_note();
    if (!note) {
      return tl::unexpected<Error>(std::move(note.error()));
    }
    if (*note) {
      return **note;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return fail(ErrorKind::kRetry, "no word from the stub within {} ms", timeout.count());
    }
    pollfd wait{mailbox_.get(), POLLIN, 0};
    ::poll(&wait, 1, static_cast<int>(left.count()) + 1);
  }
}

Result<> Session::send_command(const MailboxCommand& command, std::span<const std::byte> payload,
                               std::span<const int> fds) {
  iovec parts[2] = {{const_cast<MailboxCommand*>(&command), sizeof(command)},
                    {const_cast<std::byte*>(payload.data()), payload.size()}};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kFdsMax)> ancillary{};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = payload.empty() ? 1 : 2;
  if (!fds.empty()) {
    message.msg_control = ancillary.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  while (::sendmsg(mailbox_.get(), &message, MSG_NOSIGNAL) < 0) {
    if (errno == EINTR) {
      continue;
    }
    if (errno == EPIPE || errno == ECONNRESET) {
      return fail(ErrorKind::kDisconnected, "the process has left its stub");
    }
    return fail_errno("send a command to the stub");
  }
  return {};
}

Result<MailboxNote> Session::wait_answer(std::span<std::byte> payload_into) {
  const auto deadline = std::chrono::steady_clock::now() + kAnswerTimeout;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd wait{mailbox_.get(), POLLIN, 0};
    const int ready = left.count() > 0 ? ::poll(&wait, 1, static_cast<int>(left.count()) + 1) : 0;
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    if (ready <= 0) {
      return fail(ErrorKind::kFailed, "the stub did not answer within {} ms",
                  kAnswerTimeout.count());
    }
    std::array<std::byte, kMailboxMessageMax> buffer;
    const ssize_t n = ::recv(mailbox_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno != ECONNRESET) {
      return fail_errno("read the stub's answer");
    }
    if (n <= 0) {
      return fail(ErrorKind::kDisconnected, "the process has left its stub");
    }
    MailboxNote note;
    if (static_cast<size_t>(n) < sizeof(note)) {
      return fail(ErrorKind::kBadInput, "the stub answered with {} bytes", n);
    }
    std::memcpy(&note, buffer.data(), sizeof(note));
    if (note.kind != Note::kAnswer) {
      continue;  // a late note of a thread that has parked since; nothing it asks for still matters
    }
    const size_t extra = static_cast<size_t>(n) - sizeof(note);
    std::memcpy(payload_into.data(), buffer.data() + sizeof(note),
                std::min(extra, payload_into.size()));
    return note;
  }
}

Result<> Session::batch(std::span<SyscallRequest> requests, bool stop_on_error) {
  while (!requests.empty()) {
    auto part = requests.first(std::min<size_t>(requests.size(), kBatchMax));
    MailboxCommand command{Command::kBatch, static_cast<uint32_t>(part.size()), 0,
                           stop_on_error ? kStopOnError : 0};
    TESS_TRY(send_command(command, std::as_bytes(part), {}));
    TESS_TRY_ASSIGN(MailboxNote answer, wait_answer(std::as_writable_bytes(part)));
    if (stop_on_error && answer.result < 0) {
      for (const auto& request : part) {
        if (request.result < 0 && request.result > kNotRun) {
          return tl::unexpected<Error>(
              Error(ErrorKind::kFailed,
                    fmt::format("system call {} ({:#x}, {:#x}, {:#x}, {:#x}) in the process: {}",
                                request.number, request.args[0], request.args[1], request.args[2],
                                request.args[3], ::strerror(static_cast<int>(-request.result))),
                    static_cast<int>(-request.result)));
        }
      }
      return fail(ErrorKind::kFailed, "a batch of system calls in the process stopped: {}",
                  answer.result);
    }
    requests = requests.subspan(part.size());
  }
  return {};
}

Result<int64_t> Session::call(int64_t number, std::array<uint64_t, 6> args) {
  SyscallRequest request{};
  request.number = number;
  std::copy(args.begin(), args.end(), request.args);
  request.result = kNotRun;
  TESS_TRY(batch(std::span(&request, 1), true));
  return request.result;
}

uint32_t Session::membarrier_registrations() {
  constexpr uint64_t kGetRegistrations = 512;
  const auto registered = call(SYS_membarrier, {kGetRegistrations, 0, 0});
  return registered && *registered >= 0 ? static_cast<uint32_t>(*registered | kGetRegistrations)
                                        : 0;
}

Result<> Session::place_fds(std::span<const int> our_fds, std::span<const int32_t> targets) {
  TESS_CHECK(our_fds.size() == targets.size(), "one target for each descriptor");
  while (!our_fds.empty()) {
    const size_t count = std::min<size_t>(our_fds.size(), kFdsMax);
    MailboxCommand command{Command::kPlaceFds, static_cast<uint32_t>(count), 0, 0};
    TESS_TRY(send_command(command, std::as_bytes(targets.first(count)), our_fds.first(count)));
    TESS_TRY_ASSIGN(MailboxNote answer, wait_answer({}));
    if (answer.result < 0) {
      errno = static_cast<int>(-answer.result);
      return fail_errno("place {} descriptors from {} on in the process", count, targets[0]);
    }
    our_fds = our_fds.subspan(count);
    targets = targets.subspan(count);
  }
  return {};
}

Result<> Session::spawn_threads(std::span<const uint32_t> slots) {
  while (!slots.empty()) {
    auto part = slots.first(std::min<size_t>(slots.size(), kBatchMax));
    MailboxCommand command{Command::kSpawnThreads, static_cast<uint32_t>(part.size()), 0, 0};
    TESS_TRY(send_command(command, std::as_bytes(part), {}));
    TESS_TRY_ASSIGN(MailboxNote answer, wait_answer({}));
    if (answer.result < 0) {
      errno = static_cast<int>(-answer.result);
      return fail_errno("make {} threads in the body", part.size());
    }
    slots = slots.subspan(part.size());
  }
  return {};
}

Result<> Session::discard_memory(std::span<const std::pair<uint64_t, uint64_t>> ranges) {
  static_assert(sizeof(std::pair<uint64_t, uint64_t>) == 16);
  while (!ranges.empty()) {
    auto part = ranges.first(std::min<size_t>(ranges.size(), kBatchMax));
    MailboxCommand command{Command::kDiscardMemory, static_cast<uint32_t>(part.size()), 0, 0};
    TESS_TRY(send_command(command, std::as_bytes(part), {}));
    TESS_TRY_ASSIGN([[maybe_unused]] MailboxNote answer, wait_answer({}));
    ranges = ranges.subspan(part.size());
  }
  return {};
}

Result<> Session::release(Phase phase) {
  return release(phase, 0);
}

Result<> Session::release_stopped(Phase phase, const std::function<void()>& stop) {
  TESS_TRY(release(phase, kReleaseStopped));
  stop();
  return send_command(MailboxCommand{Command::kGoOn, 0, 0, 0}, {}, {});
}

Result<> Session::release(Phase phase, uint32_t flags) {
  MailboxCommand command{Command::kRelease, 0, phase, flags};
  TESS_TRY(send_command(command, {}, {}));
  TESS_TRY_ASSIGN(MailboxNote answer, wait_answer({}));
  if (answer.result < 0) {
    errno = static_cast<int>(-answer.result);
    return fail_errno("release the process into phase {}", static_cast<uint32_t>(phase));
  }
  return {};
}

Result<> Session::release_when_it_runs(Phase phase) {
  return send_command(MailboxCommand{Command::kRelease, 0, phase, 0}, {}, {});
}

Result<> Session::answer_channel(const ChannelAnswer& answer, std::span<const int> our_fds) {
  // Same carrier as a command: the stub reads it where it waits for its channel.
  iovec part{const_cast<ChannelAnswer*>(&answer), sizeof(answer)};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * 2)> ancillary{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!our_fds.empty()) {
    message.msg_control = ancillary.data();
    message.msg_controllen = CMSG_SPACE(our_fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(our_fds.size_bytes());
    std::memcpy(CMSG_DATA(header), our_fds.data(), our_fds.size_bytes());
  }
  if (::sendmsg(mailbox_.get(), &message, MSG_NOSIGNAL) < 0) {
    return fail_errno("hand a channel to the stub");
  }
  return {};
}

Result<> Session::set_freeze(bool on) {
  const uint32_t value = on ? 1 : 0;
  return memory_.put(control_address() + offsetof(ControlBlock, freeze), value);
}

Result<std::vector<Session::SlotInfo>> Session::slots() const {
  TESS_TRY_ASSIGN(ControlBlock control, memory_.get<ControlBlock>(control_address()));
  std::vector<SlotInfo> found;
  for (uint32_t word = 0; word < std::size(control.slot_bitmap); ++word) {
    for (uint64_t bits = control.slot_bitmap[word]; bits != 0; bits &= bits - 1) {
      const uint32_t index = word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
      const uint64_t address = slot_address(region_base_, index);
      TESS_TRY_ASSIGN(uint32_t state, memory_.get<uint32_t>(address + offsetof(Slot, state)));
      TESS_TRY_ASSIGN(int32_t tid, memory_.get<int32_t>(address + offsetof(Slot, thread) +
                                                        offsetof(ThreadContext, tid)));
      if (state != kSlotFree) {  // else its thread is just leaving
        found.push_back({index, state, tid});
      }
    }
  }
  return found;
}

}  // namespace tess::stub
