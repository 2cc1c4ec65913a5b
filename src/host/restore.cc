#include "host/restore.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <thread>

#include "host/address_space_maker.h"
#include "host/room.h"
#include "host/sandbox_init.h"
#include "memory/cpu_features.h"
#include "sys/unix_socket.h"
#include "syscalls/filter.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

using memory::Mapping;

constexpr uint64_t kScratchOffset = stub::kSlotArenaOffset + (64 << 10);  // commands use the rest
constexpr uint64_t kScratchSize = 64 << 10;
constexpr size_t kAuxvMax = 4096;
constexpr auto kParkTimeout = std::chrono::seconds(10);

Result<> check_threads(const wire::ProcessImage& image) {
  std::set<uint32_t> slots;
  for (const wire::Thread& thread : image.threads()) {
    if (thread.context().size() != sizeof(stub::ThreadContext) ||
        thread.slot() >= stub::kSlotCount || !slots.insert(thread.slot()).second) {
      return fail(ErrorKind::kBadInput, "a thread of the image makes no sense");
    }
    stub::ThreadContext context;
    std::memcpy(&context, thread.context().data(), sizeof(context));
    if (context.tid <= 1 || context.xsave_size > stub::kXsaveMax ||
        (slots.size() == 1 && context.tid != image.pid())) {
      return fail(ErrorKind::kBadInput, "thread {} of the image makes no sense", context.tid);
    }
  }
  return {};
}

Result<> check_image(const wire::ProcessImage& image) {
  if (image.abi_version() != stub::kAbiVersion) {
    return fail(
        ErrorKind::kNotPossible,
        "home runs another version of Tessera (stub {}, here {}): use the same on all nodes",
        image.abi_version(), stub::kAbiVersion);
  }
  const uint64_t base = image.region_base();
  if (base < stub::kRegionLowest || base > stub::kRegionHighest - stub::kRegionSize ||
      base % (2 << 20) != 0 || image.pid() <= 1 || image.threads().empty() ||
      image.threads_size() > static_cast<int>(stub::kSlotCount) ||
      image.rlimits_size() != 2 * RLIM_NLIMITS || image.auxv().size() > kAuxvMax) {
    return fail(ErrorKind::kBadInput, "the image of process {} makes no sense", image.pid());
  }
  TESS_TRY(check_threads(image));
  const std::string missing =
      memory::explain_missing(image.cpu_features(), memory::host_cpu_features());
  if (!missing.empty()) {
    return fail(ErrorKind::kNotPossible, "{}", missing);
  }
  return check_room(image.memory_bytes());
}

class Restorer {
 public:
  Restorer(wire::ByteStream& stream, bool nothing_cached, const RestoreServices& services,
           wire::ProcessImage& image)
      : stream_(stream), nothing_cached_(nothing_cached), services_(services), image_(image) {}

  Result<RestoredBody> run() {
    TESS_TRY(memory::receive_header(stream_, image_));
    TESS_TRY(check_image(image_));
    TESS_TRY_ASSIGN(mappings_, memory::mappings_of(image_));
    TESS_TRY(services_.sandbox.start(image_.home_monotonic_ns(), image_.home_boottime_ns()));
    TESS_TRY(receive_files());
    TESS_TRY(spawn());
    auto filled = fill();
    if (!filled) {
      end_body(body_.process);
      return tl::unexpected(std::move(filled.error()));
    }
    return std::move(body_);
  }

 private:
  Result<> receive_files();
  Result<> spawn();
  Result<Sandbox::BodyProcess> spawn_process(const sys::Fd& mailbox);
  Result<> fill();
  Result<> receive_memory(AddressSpaceMaker& maker);
  void remember_locks(const std::vector<uint64_t>& not_locked);
  Result<> set_memory_fields();
  void set_limits();
  void set_odds_and_ends();
  Result<> write_threads();
  Result<> confine();
  Result<> spawn_threads();
  uint64_t scratch() const {
    return stub::slot_address(image_.region_base(), image_.threads(0).slot()) + kScratchOffset;
  }

  wire::ByteStream& stream_;
  const bool nothing_cached_;
  const RestoreServices& services_;
  wire::ProcessImage& image_;
  std::vector<Mapping> mappings_;
  RestoredBody body_;
};

Result<> Restorer::receive_files() {
  std::vector<uint32_t> wanted;
  for (uint32_t i = 0; i < mappings_.size(); ++i) {
    if (!mappings_[i].content_hash.empty() &&
        (nothing_cached_ || !services_.content.has(mappings_[i]))) {
      wanted.push_back(i);
    }
  }
  TESS_TRY(memory::send_want(stream_, wanted));
  std::map<uint32_t, FileContent::Draft> drafts;
  for (const uint32_t index : wanted) {
    TESS_TRY_ASSIGN(drafts[index], services_.content.begin(mappings_[index]));
  }
  auto received = memory::receive_content(
      stream_, image_, wanted,
      [&](uint32_t index, uint64_t offset, std::span<const std::byte> bytes) {
        return drafts[index].write(offset, bytes);
      });
  if (!received) {
    return tl::unexpected(std::move(received.error()));
  }
  for (auto& [index, draft] : drafts) {
    TESS_TRY(services_.content.finish(mappings_[index], std::move(draft)));
  }
  body_.stats = *received;
  return {};
}

Result<> Restorer::spawn() {
  TESS_TRY_ASSIGN(sys::SocketPair pair, sys::make_socket_pair(SOCK_SEQPACKET));
  TESS_TRY_ASSIGN(body_.process, spawn_process(pair.second));
  pair.second.reset();
  auto memory = stub::RemoteMemory::open(body_.process.outer_pid);
  if (!memory) {
    end_body(body_.process);
    return tl::unexpected(std::move(memory.error()));
  }
  body_.session = std::make_unique<stub::Session>(std::move(pair.first), std::move(*memory),
                                                  image_.region_base());
  return {};
}

// A process that has executed another program may come back before its last body here has quite
// ended: its pid is taken until then.
Result<Sandbox::BodyProcess> Restorer::spawn_process(const sys::Fd& mailbox) {
  constexpr std::chrono::seconds kLongest(5);
  constexpr std::chrono::milliseconds kReaping(1);
  const auto deadline = std::chrono::steady_clock::now() + kLongest;
  while (true) {
    auto made = services_.sandbox.spawn(image_.pid(), image_.region_base(),
                                        image_.threads(0).slot(), services_.job, mailbox);
    const auto left = deadline - std::chrono::steady_clock::now();
    if (made || made.error().sys_errno() != EEXIST || left.count() <= 0) {
      return made;
    }
    if (const auto last = services_.sandbox.open(image_.pid()); last) {
      pollfd end{last->pidfd.get(), POLLIN, 0};
      ::poll(&end, 1,
             static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count()));
    }
    std::this_thread::sleep_for(kReaping);  // pid 1 takes its status now
  }
}

Result<> Restorer::fill() {
  stub::Session& session = *body_.session;
  auto note = session.wait_note(kParkTimeout);
  if (!note || note->kind != stub::Note::kAllParked) {
    return fail(ErrorKind::kFailed, "the blank body does not start{}{}", note ? "" : ": ",
                note ? "" : note.error().message());
  }
  AddressSpaceMaker maker(session, body_.process.outer_pid, image_.pid(),
                          {services_.content, services_.shared}, mappings_);
  TESS_TRY(maker.clear());
  TESS_TRY(maker.restore_vdso(image_.vdso(), services_.force_vdso_patch));
  TESS_TRY(maker.map_all());
  TESS_TRY(receive_memory(maker));
  TESS_TRY(maker.protect());
  remember_locks(maker.advise_all());
  TESS_TRY(set_memory_fields());
  set_limits();
  set_odds_and_ends();
  TESS_TRY(write_threads());
  TESS_TRY(confine());
  return spawn_threads();
}

// So that a later capture can tell what the program has unlocked from what was never locked here.
void Restorer::remember_locks(const std::vector<uint64_t>& not_locked) {
  for (wire::Vma& vma : *image_.mutable_vmas()) {
    vma.set_lock_failed(std::ranges::find(not_locked, vma.start()) != not_locked.end());
  }
}

Result<> Restorer::receive_memory(AddressSpaceMaker& maker) {
  stub::Session& session = *body_.session;
  TESS_TRY_ASSIGN(const int64_t number,
                  session.call(SYS_userfaultfd, {memory::ProcessSink::kUserfaultFlags}));
  sys::Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, body_.process.pidfd.get(), number, 0)));
  if (!fd.valid()) {
    return fail_errno("fetch the body's userfaultfd");
  }
  TESS_TRY_ASSIGN(memory::ProcessSink sink,
                  memory::ProcessSink::create(body_.process.outer_pid, std::move(fd)));
  maker.register_all(sink);
  TESS_TRY_ASSIGN(const memory::StreamStats stats,
                  memory::receive_pages(stream_, image_, sink, body_.stats.flow));
  TESS_TRY(sink.unregister_all());
  TESS_TRY(session.call(SYS_close, {static_cast<uint64_t>(number)}));
  body_.stats.page_bytes = stats.page_bytes;
  body_.stats.stored_bytes += stats.stored_bytes;
  body_.stats.flow = stats.flow;
  return {};
}

// brk, stack and argument addresses: what /proc and brk(2) go by.
Result<> Restorer::set_memory_fields() {
  stub::Session& session = *body_.session;
  const uint64_t control = session.control_address();
  const auto tell_stub = [&](size_t field, uint64_t value) {
    return session.memory().put(control + field, value);
  };
  TESS_TRY(tell_stub(offsetof(stub::ControlBlock, title_begin), image_.arg_start()));
  TESS_TRY(tell_stub(offsetof(stub::ControlBlock, title_end), image_.arg_end()));
  TESS_TRY(tell_stub(offsetof(stub::ControlBlock, environment_end), image_.env_end()));
  prctl_mm_map map{};
  map.start_code = image_.start_code();
  map.end_code = image_.end_code();
  map.start_data = image_.start_data();
  map.end_data = image_.end_data();
  map.start_brk = image_.start_brk();
  map.brk = image_.brk();
  map.start_stack = image_.start_stack();
  map.arg_start = image_.arg_start();
  map.arg_end = image_.arg_end();
  map.env_start = image_.env_start();
  map.env_end = image_.env_end();
  map.exe_fd = ~0u;
  const uint64_t at = scratch();
  map.auxv = reinterpret_cast<__u64*>(at + sizeof(map));
  map.auxv_size = static_cast<uint32_t>(image_.auxv().size());
  TESS_TRY(session.memory().write(at + sizeof(map), std::as_bytes(std::span(image_.auxv()))));
  TESS_TRY(session.memory().put(at, map));
  auto set = session.call(SYS_prctl, {PR_SET_MM, PR_SET_MM_MAP, at, sizeof(map), 0});
  if (!set && map.auxv_size != 0) {
    map.auxv_size = 0;  // longer than this kernel keeps; only /proc/PID/auxv shows it
    map.auxv = nullptr;
    TESS_TRY(session.memory().put(at, map));
    set = session.call(SYS_prctl, {PR_SET_MM, PR_SET_MM_MAP, at, sizeof(map), 0});
  }
  if (!set) {
    return fail_with(std::move(set.error()), "set the body's brk and stack addresses");
  }
  return {};
}

// Only limits that the host's kernel applies to a body; home applies all others. Hard limits stay
// the sandbox's. That of CPU time is the stub's to apply: it knows what has been used elsewhere.
void Restorer::set_limits() {
  stub::Session& session = *body_.session;
  const uint64_t at = scratch();
  const uint64_t control = session.control_address();
  (void)session.memory().put(control + offsetof(stub::ControlBlock, cpu_limit_soft),
                             uint64_t{image_.rlimits(2 * RLIMIT_CPU)});
  (void)session.memory().put(control + offsetof(stub::ControlBlock, cpu_limit_hard),
                             uint64_t{image_.rlimits(2 * RLIMIT_CPU + 1)});
  for (const int resource : {RLIMIT_STACK, RLIMIT_DATA, RLIMIT_AS}) {
    rlimit limit{};
    if (!session.call(SYS_prlimit64, {0, static_cast<uint64_t>(resource), 0, at})) {
      continue;
    }
    const auto now = session.memory().get<rlimit>(at);
    if (!now) {
      continue;
    }
    limit.rlim_max = now->rlim_max;
    limit.rlim_cur = image_.rlimits(2 * resource);
    if (resource == RLIMIT_AS && limit.rlim_cur < RLIM_INFINITY - stub::kRegionSize) {
      limit.rlim_cur += stub::kRegionSize;  // the region is not the application's
    }
    limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
    if (session.memory().put(at, limit)) {
      (void)session.call(SYS_prlimit64, {0, static_cast<uint64_t>(resource), at, 0});
    }
  }
}

// What a program would only notice by a closer look; a kernel that refuses one of these is not
// asked again.
void Restorer::set_odds_and_ends() {
  constexpr uint32_t kRegisterAll = 4 | 16 | 64 | 256;  // MEMBARRIER_CMD_REGISTER_*
  constexpr uint32_t kRegisterPrivate = 16 | 64 | 256;
  Batch batch;
  // A home before Linux 6.3 cannot say what is registered.
  constexpr uint32_t kKnown = 512;
  const uint32_t registered = image_.membarrier() & (kRegisterAll | kKnown);
  for (uint32_t bit = 1; bit <= 256; bit <<= 1) {
    if (((registered != 0 ? registered : kRegisterPrivate) & bit) != 0) {
      batch.add(SYS_membarrier, bit, 0, 0);
    }
  }
  batch.try_all(*body_.session);
}

Result<> Restorer::write_threads() {
  stub::Session& session = *body_.session;
  const uint64_t base = image_.region_base();
  Batch batch;
  for (int i = 1; i < image_.threads_size(); ++i) {
    batch.add(SYS_mprotect, stub::slot_address(base, image_.threads(i).slot()), stub::kSlotSize,
              PROT_READ | PROT_WRITE);
  }
  TESS_TRY(batch.run(session, "make the threads' slots"));
  auto slot = std::make_unique<stub::Slot>();
  for (int i = 0; i < image_.threads_size(); ++i) {
    const wire::Thread& thread = image_.threads(i);
    const uint64_t address = stub::slot_address(base, thread.slot());
    const auto context = std::as_bytes(std::span(thread.context()));
    if (i == 0) {
      // The leader is running the stub from its slot: only the application's state is ours.
      TESS_TRY(session.memory().write(address + offsetof(stub::Slot, thread), context));
      continue;
    }
    stub::make_slot(*slot, base, thread.slot(), kBodyFdBase);
    std::memcpy(&slot->thread, context.data(), context.size());
    TESS_TRY(session.memory().put(address, *slot));
  }
  return {};
}

// From here on the body can make only the system calls of the table's filter.
Result<> Restorer::confine() {
  stub::Session& session = *body_.session;
  const uint64_t base = image_.region_base();
  const stub::BlobHeader& blob = stub::blob_header();
  const std::vector<sock_filter> filter =
      syscalls::body_filter(base + blob.syscall_site, base + blob.cp_site);
  const uint64_t at = scratch();
  sock_fprog program{};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = reinterpret_cast<sock_filter*>(at + sizeof(program));
  if (sizeof(program) + filter.size() * sizeof(sock_filter) > kScratchSize) {
    return fail(ErrorKind::kFailed, "the seccomp filter has {} instructions", filter.size());
  }
  TESS_TRY(session.memory().put(at, program));
  TESS_TRY(session.memory().write(at + sizeof(program), std::as_bytes(std::span(filter))));
  // Without the flag the kernel would turn speculation off for the body, which costs a quarter of
  // its speed on some processors; what it could spy on in its own address space is its own.
  auto set =
      session.call(SYS_seccomp, {SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, at});
  if (!set) {
    return fail_with(std::move(set.error()), "confine the body by seccomp");
  }
  return {};
}

Result<> Restorer::spawn_threads() {
  std::vector<uint32_t> slots;
  for (int i = 1; i < image_.threads_size(); ++i) {
    slots.push_back(image_.threads(i).slot());
  }
  TESS_TRY(body_.session->spawn_threads(slots));
  return {};
}

}  // namespace

Result<RestoredBody> restore(wire::ByteStream& stream, bool nothing_cached,
                             const RestoreServices& services, wire::ProcessImage& image) {
  return Restorer(stream, nothing_cached, services, image).run();
}

void end_body(const Sandbox::BodyProcess& process) {
  ::syscall(SYS_pidfd_send_signal, process.pidfd.get(), SIGKILL, nullptr, 0);
  pollfd wait{process.pidfd.get(), POLLIN, 0};
  ::poll(&wait, 1, 10'000);
}

}  // namespace tess::host
