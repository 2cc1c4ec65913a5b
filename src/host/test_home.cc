#include "host/test_home.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "memory/address_space.h"
#include "memory/cpu_features.h"
#include "memory/image_stream.h"
#include "stub/session.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

int64_t now_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

// As home does with a thread that is stopped: what it has read of the clock in the vDSO means
// nothing elsewhere, and code that is patched there does not read it in the same way.
void step_out_of_vdso(pid_t tid) {
  const auto mappings = memory::read_address_space(tid);
  ASSERT_TRUE(mappings) << mappings.error().message();
  const auto vdso = std::find_if(mappings->begin(), mappings->end(), [](const auto& mapping) {
    return mapping.kind == memory::MappingKind::kVdso;
  });
  ASSERT_NE(vdso, mappings->end());
  user_regs_struct registers{};
  ASSERT_EQ(::ptrace(PTRACE_GETREGS, tid, 0, &registers), 0);
  while (vdso->start <= registers.rip && registers.rip < vdso->end) {
    int status = 0;
    ASSERT_EQ(::ptrace(PTRACE_SINGLESTEP, tid, 0, 0), 0);
    ASSERT_EQ(::waitpid(tid, &status, __WALL), tid);
    ASSERT_EQ(::ptrace(PTRACE_GETREGS, tid, 0, &registers), 0);
  }
}

}  // namespace

long raw_call(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

TestProcess::TestProcess(const std::function<void(std::atomic<int>*)>& program) {
  auto* started = static_cast<std::atomic<int>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    program(started);
    ::_exit(0);
  }
  while (started->load() == 0) {
    ::sched_yield();
  }
  ::munmap(started, 4096);
  threads_.push_back(pid_);
  for (const auto& entry :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid_))) {
    const pid_t tid = std::atoi(entry.path().filename().c_str());
    if (tid != pid_) {
      threads_.push_back(tid);
    }
  }
  for (const pid_t tid : threads_) {
    int status = 0;
    EXPECT_EQ(::ptrace(PTRACE_SEIZE, tid, 0, 0), 0);
    EXPECT_EQ(::ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0);
    EXPECT_EQ(::waitpid(tid, &status, __WALL), tid);
    step_out_of_vdso(tid);
  }
}

TestProcess::~TestProcess() {
  ::kill(pid_, SIGKILL);
  // A traced thread is the tracer's to reap, and the leader only ends after the others.
  for (auto tid = threads_.rbegin(); tid != threads_.rend(); ++tid) {
    ::waitpid(*tid, nullptr, __WALL);
  }
}

void TestProcess::fill_image(wire::ProcessImage& image, bool hash_files) const {
  using namespace stub;
  image.set_abi_version(kAbiVersion);
  image.set_pid(pid_);
  image.set_comm("test");
  image.set_region_base(0x2b0000000000);
  auto mappings = memory::read_address_space(pid_);
  ASSERT_TRUE(mappings) << mappings.error().message();
  // The flag page is shared with us; a body has no use for it.
  std::erase_if(*mappings,
                [](const auto& m) { return m.kind == memory::MappingKind::kAnonShared; });
  if (hash_files) {
    ASSERT_TRUE(memory::hash_file_content(pid_, *mappings, ""));
  }
  auto memory_of = RemoteMemory::open(pid_);
  for (const auto& mapping : *mappings) {
    memory::to_wire(mapping, *image.add_vmas());
    if (mapping.kind == memory::MappingKind::kVdso) {
      std::string bytes(mapping.size(), '\0');
      ASSERT_TRUE(memory_of->read(mapping.start, std::as_writable_bytes(std::span(bytes))));
      image.set_vdso(bytes);
    }
  }
  auto fields = memory::read_mm_fields(pid_);
  ASSERT_TRUE(fields);
  memory::to_wire(*fields, image);
  for (int i = 0; i < RLIM_NLIMITS; ++i) {
    rlimit limit{};
    ::getrlimit(static_cast<__rlimit_resource>(i), &limit);
    image.add_rlimits(limit.rlim_cur);
    image.add_rlimits(limit.rlim_max);
  }
  image.set_cpu_features(memory::host_cpu_features());
  image.set_memory_bytes(64 << 20);
  image.set_home_monotonic_ns(now_ns(CLOCK_MONOTONIC));
  image.set_home_boottime_ns(now_ns(CLOCK_BOOTTIME));
  uint32_t slot = 3;
  for (const pid_t tid : threads_) {
    add_thread(tid, slot++, image);
  }
}

void TestProcess::add_thread(pid_t tid, uint32_t slot, wire::ProcessImage& image) const {
  using namespace stub;
  user_regs_struct r{};
  std::vector<std::byte> xstate(16384);
  iovec part{xstate.data(), xstate.size()};
  ASSERT_EQ(::ptrace(PTRACE_GETREGS, tid, 0, &r), 0);
  ASSERT_EQ(::ptrace(PTRACE_GETREGSET, tid, NT_X86_XSTATE, &part), 0);
  auto context = std::make_unique<ThreadContext>();
  ASSERT_TRUE(set_xsave(*context, std::span(xstate).first(part.iov_len)));
  const uint64_t gregs[] = {r.r8,
                            r.r9,
                            r.r10,
                            r.r11,
                            r.r12,
                            r.r13,
                            r.r14,
                            r.r15,
                            r.rdi,
                            r.rsi,
                            r.rbp,
                            r.rbx,
                            r.rdx,
                            r.rax,
                            r.rcx,
                            r.rsp,
                            r.rip,
                            r.eflags,
                            r.cs | r.gs << 16 | r.fs << 32 | r.ss << 48};
  std::copy(std::begin(gregs), std::end(gregs), context->gregs);
  if (static_cast<int64_t>(r.orig_rax) >= 0 && static_cast<int64_t>(r.rax) <= -512 &&
      static_cast<int64_t>(r.rax) >= -516) {
    context->gregs[kRip] -= 2;
    context->gregs[kRax] = r.orig_rax;
  }
  context->fs_base = r.fs_base;
  context->gs_base = r.gs_base;
  context->altstack_flags = SS_DISABLE;
  context->repeat_number = -1;
  context->tid = tid;
  std::strcpy(context->comm, "test-body");
  wire::Thread& thread = *image.add_threads();
  thread.set_context(context.get(), sizeof(*context));
  thread.set_slot(slot);
}

TestDeputy::TestDeputy(sys::Fd channel) : channel_(std::move(channel)) {
  thread_ = std::thread([this] { run(); });
}

TestDeputy::~TestDeputy() {
  ::shutdown(channel_.get(), SHUT_RDWR);
  thread_.join();
}

bool TestDeputy::wait_end(int seconds) {
  for (int i = 0; i < seconds * 100 && !ended_; ++i) {
    ::poll(nullptr, 0, 10);
  }
  return ended_;
}

std::string TestDeputy::written() const {
  return ended_ ? written_ : std::string();
}

std::set<uint32_t> TestDeputy::seen() const {
  return ended_ ? seen_ : std::set<uint32_t>();
}

bool TestDeputy::read_plain(void* to, size_t n) {
  while (pending_.size() < n) {
    uint32_t length = 0;
    std::string record;
    if (!sys::read_all(channel_, std::as_writable_bytes(std::span(&length, 1))) ||
        length > stub::kRecordPayloadMax) {
      return false;
    }
    record.resize(length);
    if (!sys::read_all(channel_, std::as_writable_bytes(std::span(record)))) {
      return false;
    }
    pending_ += record;
  }
  std::memcpy(to, pending_.data(), n);
  pending_.erase(0, n);
  return true;
}

void TestDeputy::reply(const stub::Request& request, int64_t result) {
  struct {
    uint32_t length;
    stub::Reply reply;
  } __attribute__((packed)) record{sizeof(stub::Reply), {}};
  record.reply.sequence = request.sequence;
  record.reply.result = result;
  (void)sys::write_all(channel_, std::as_bytes(std::span(&record, 1)));
}

void TestDeputy::run() {
  while (true) {
    stub::Request request;
    if (!read_plain(&request, sizeof(request))) {
      break;
    }
    std::string payload(request.payload_size, '\0');
    if (!read_plain(payload.data(), payload.size())) {
      break;
    }
    if (request.op == stub::kOpTitle) {
      continue;  // the request that it stands in front of is answered
    }
    ++requests_;
    seen_.insert(request.op);
    if (request.op == SYS_exit_group) {
      exit_status_ = static_cast<int>(request.args[0]);
      break;
    }
    int64_t result = request.op == stub::kOpGoHome ? -EPERM : 0;
    if (request.op == SYS_getppid) {
      result = parent_;
    } else if (request.op == stub::kOpClone) {
      parent_ = 0;
      result = child_;
    } else if (request.op == SYS_write && request.segment_count == 1) {
      stub::Segment segment;
      std::memcpy(&segment, payload.data(), sizeof(segment));
      written_ += payload.substr(sizeof(segment), segment.in_size);
      result = segment.in_size;
    }
    reply(request, result);
  }
  ended_ = true;
}

}  // namespace tess::host
