// Real processes are restored in a sandbox from their images, run there, are frozen, captured and
// restored again.
#include "host/restore.h"

#include <gtest/gtest.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "host/capture.h"
#include "host/home_link.h"
#include "host/sandbox_init.h"
#include "host/test_home.h"
#include "memory/image_stream.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

// Runs in the child, then in bodies. Works until its "parent" is kEndNow, then says what it has
// found and exits with 7.
void program(std::atomic<int>* started) {
  constexpr size_t kSize = 8 << 20;
  auto* area = static_cast<uint64_t*>(
      ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const size_t words = kSize / 8;
  for (size_t i = 0; i < words; ++i) {
    area[i] = i % 1024 < 512 ? i * 2654435761u : 0;
  }
  ::mprotect(area, kSize / 2, PROT_READ);
  uint64_t before[4] = {11, 22, 33, 44};
  uint64_t after[4] = {};
  timespec first{}, now{};
  ::clock_gettime(CLOCK_MONOTONIC, &first);
  uint64_t turns = 0;
  started->store(1);
  while (true) {
    ++turns;
    long parent;
    // Vector registers live across the calls, and so across every move.
    __asm__ volatile(
        "movdqu (%[b]), %%xmm14\n\t movdqu 16(%[b]), %%xmm15\n\t"
        "syscall\n\t"
        "movdqu %%xmm14, (%[a])\n\t movdqu %%xmm15, 16(%[a])\n\t"
        : "=a"(parent)
        : "0"(long{SYS_getppid}), [b] "r"(before), [a] "r"(after)
        : "rcx", "r11", "memory", "xmm14", "xmm15");
    if (std::memcmp(before, after, sizeof(before)) != 0) {
      raw_call(SYS_exit_group, 99);
    }
    const timespec last = now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec < last.tv_sec || (now.tv_sec == last.tv_sec && now.tv_nsec < last.tv_nsec)) {
      raw_call(SYS_exit_group, 98);
    }
    if (parent == kEndNow) {
      break;
    }
  }
  bool good = turns > 1;
  for (size_t i = 0; i < words; ++i) {
    good = good && area[i] == (i % 1024 < 512 ? i * 2654435761u : 0);
  }
  area[words - 1] = 5;  // still writable
  void* fresh = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  *static_cast<int*>(fresh) = 1;
  void* end = ::sbrk(0);
  good = good && ::brk(static_cast<char*>(end) + 65536) == 0 && ::sbrk(0) != end;
  const char* text = good ? "all is well\n" : "memory differs\n";
  raw_call(SYS_write, 1, reinterpret_cast<long>(text), static_cast<long>(strlen(text)));
  raw_call(SYS_exit_group, 7);
}

// Three threads pass a token round by private futexes, which never leave the host; the leader asks
// home now and then.
void threaded_program(std::atomic<int>* started) {
  static std::atomic<int> token{0};
  static std::atomic<long> rounds{0};
  const auto pass = [](int mine, int next) {
    while (true) {
      const int now = token.load();
      if (now == mine) {
        return;
      }
      raw_call(SYS_futex, reinterpret_cast<long>(&token), 128 /* WAIT_PRIVATE */, now);
      (void)next;
    }
  };
  const auto give = [](int next) {
    token.store(next);
    raw_call(SYS_futex, reinterpret_cast<long>(&token), 129 /* WAKE_PRIVATE */, 100);
  };
  for (int i = 1; i <= 2; ++i) {
    std::thread([i, pass, give] {
      while (true) {
        pass(i, i + 1);
        give((i + 1) % 3);
      }
    }).detach();
  }
  long known = 0;
  while (true) {
    give(1);
    pass(0, 1);
    if (++rounds == 10) {
      started->store(1);
    }
    if (rounds % 8 == 0 && raw_call(SYS_getppid) == kEndNow && ++known > 20) {
      break;
    }
  }
  raw_call(SYS_write, 1, reinterpret_cast<long>("all is well\n"), 12);
  raw_call(SYS_exit_group, 7);
}

constexpr long kForbidden[] = {SYS_open,
                               SYS_openat,
                               SYS_socket,
                               SYS_connect,
                               SYS_kill,
                               SYS_ptrace,
                               SYS_mount,
                               SYS_umount2,
                               SYS_unshare,
                               SYS_setns,
                               SYS_chroot,
                               SYS_pivot_root,
                               SYS_setuid,
                               SYS_keyctl,
                               SYS_bpf,
                               SYS_perf_event_open,
                               SYS_userfaultfd,
                               SYS_process_vm_writev,
                               SYS_init_module,
                               SYS_kexec_load,
                               SYS_memfd_create,
                               SYS_io_uring_setup,
                               SYS_execve,
                               SYS_pidfd_getfd,
                               SYS_name_to_handle_at};

// Tries to reach the host: by system calls of its own, and by the stub's one syscall instruction
// with hostile arguments.
void attacker(std::atomic<int>* started) {
  started->store(1);
  while (raw_call(SYS_getppid) != kEndNow) {
  }
  const uint64_t base = 0x2b0000000000;
  const auto* blob = reinterpret_cast<const stub::BlobHeader*>(base);
  const uint64_t site = base + blob->syscall_site - 2;  // syscall; ret
  long results[2 * std::size(kForbidden)] = {};
  size_t at = 0;
  for (const long number : kForbidden) {
    results[at++] = raw_call(number, 1, 9, 0);
    if (number == SYS_memfd_create) {
      ++at;  // one that the stub itself needs: harmless in the sandbox
      continue;
    }
    long result;
    __asm__ volatile(
        "sub $128, %%rsp\n\t"  // what the compiler keeps below the stack pointer
        "call *%[site]\n\t"
        "add $128, %%rsp"
        : "=a"(result)
        : "0"(number), "D"(1L), "S"(9L), "d"(0L), [site] "r"(site)
        : "rcx", "r8", "r9", "r10", "r11", "memory");
    results[at++] = result;
  }
  raw_call(SYS_write, 1, reinterpret_cast<long>(results), sizeof(results));
  raw_call(SYS_exit_group, 7);
}

class RestoreTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    char dir[] = "/tmp/tess-content-XXXXXX";
    ASSERT_NE(::mkdtemp(dir), nullptr);
    dir_ = dir;
    make_host();
  }
  void TearDown() override {
    if (!dir_.empty()) {
      ASSERT_EQ(::system(fmt::format("rm -r {}", dir_).c_str()), 0);
    }
  }
  void make_host() {
    auto made = Sandbox::create(65534);
    ASSERT_TRUE(made) << made.error().message();
    sandbox_ = std::move(*made);
    content_ = std::make_unique<FileContent>(ContentStore(dir_ + "/content"));
  }
  // Sends the process (native or body) and restores it in the sandbox of now.
  Result<RestoredBody> move(pid_t pid, const wire::ProcessImage& image,
                            bool nothing_cached = false) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    wire::FdStream target((sys::Fd(fds[1])));
    Result<memory::StreamStats> sent = memory::StreamStats{};
    std::thread source([&, fd = fds[0]] {
      wire::FdStream stream((sys::Fd(fd)));
      sent = memory::send_image(stream, pid, image);
    });
    image_ = wire::ProcessImage();
    auto restored = [&] {
      wire::FdStream mine(std::move(target));
      return restore(mine, nothing_cached, {*sandbox_, *content_, shared_, 7, force_patch_},
                     image_);
    }();
    source.join();
    if (restored) {
      EXPECT_TRUE(sent) << sent.error().message();
    }
    return restored;
  }
  // A channel for every thread; the body runs when this returns. The leader's is the first.
  std::vector<std::unique_ptr<TestDeputy>> run_all(RestoredBody& body) {
    std::vector<std::unique_ptr<TestDeputy>> deputies;
    for (const wire::Thread& thread : image_.threads()) {
      int fds[2];
      EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
      const sys::Fd theirs(fds[1]);
      const int ours[] = {fds[1]};
      const int32_t targets[] = {kBodyFdBase + 1 + static_cast<int32_t>(thread.slot())};
      EXPECT_TRUE(body.session->place_fds(ours, targets));
      deputies.push_back(std::make_unique<TestDeputy>(sys::Fd(fds[0])));
    }
    auto released = body.session->release(stub::kPhaseBody);
    EXPECT_TRUE(released) << released.error().message();
    return deputies;
  }
  std::unique_ptr<TestDeputy> run(RestoredBody& body) { return std::move(run_all(body).front()); }
  void freeze(RestoredBody& body) {
    ASSERT_TRUE(body.session->set_freeze(true));
    auto threads = threads_of(body.process.outer_pid);
    ASSERT_TRUE(threads);
    for (const ThreadIds& thread : *threads) {
      ::syscall(SYS_tgkill, body.process.outer_pid, thread.outside, SIGURG);
    }
    auto note = body.session->wait_note(std::chrono::seconds(60));
    ASSERT_TRUE(note) << note.error().message();
    ASSERT_EQ(note->kind, stub::Note::kAllParked);
  }
  void expect_good_end(TestDeputy& deputy) {
    ASSERT_TRUE(deputy.wait_end(60));
    EXPECT_EQ(deputy.written(), "all is well\n");
    EXPECT_EQ(deputy.exit_status(), 7);
  }

  std::string dir_;
  std::unique_ptr<Sandbox> sandbox_;
  std::unique_ptr<FileContent> content_;
  HomeLink link_;  // leads nowhere: no process here shares memory
  SharedMemory shared_{link_};
  wire::ProcessImage image_;
  bool force_patch_ = false;
};

TEST_F(RestoreTest, AProcessGoesOnInTheSandbox) {
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  EXPECT_GT(body->stats.file_bytes, 0u) << "an empty content store has to be filled";
  auto deputy = run(*body);
  deputy->set_parent(kEndNow);
  expect_good_end(*deputy);
}

TEST_F(RestoreTest, WithThePatchedVdso) {
  force_patch_ = true;
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  auto deputy = run(*body);
  deputy->set_parent(kEndNow);
  expect_good_end(*deputy);
}

TEST_F(RestoreTest, WithoutHashesEveryPageTravels) {
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, false);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  EXPECT_EQ(body->stats.file_bytes, 0u);
  auto deputy = run(*body);
  deputy->set_parent(kEndNow);
  expect_good_end(*deputy);
}

TEST_F(RestoreTest, TheAddressSpaceIsHomes) {
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  wire::ProcessImage captured = image;
  auto done = capture(*sandbox_, body->process.outer_pid, *body->session, false, captured);
  ASSERT_TRUE(done) << done.error().message();
  auto there = memory::mappings_of(captured);
  auto here = memory::mappings_of(image);
  ASSERT_TRUE(there && here);
  // Neighbours that differ in nothing may have been joined: compare page by page, by what each says
  // of its page.
  const auto describe = [](const std::vector<memory::Mapping>& mappings) {
    std::map<uint64_t, std::string> pages;
    for (const auto& m : mappings) {
      for (uint64_t at = m.start; at < m.end; at += memory::kPageSize) {
        pages[at] = fmt::format("{} {} {} {}:{}:{} {:x} {}", m.prot, m.flags,
                                static_cast<int>(m.kind), m.dev_major, m.dev_minor, m.inode,
                                m.kind == memory::MappingKind::kAnon ? 0 : m.offset + at - m.start,
                                m.madvise);
      }
    }
    return pages;
  };
  EXPECT_EQ(describe(*here), describe(*there));
  EXPECT_EQ(captured.brk(), image.brk());
  EXPECT_EQ(captured.threads(0).slot(), image.threads(0).slot());
  auto fields = memory::read_mm_fields(body->process.outer_pid);
  ASSERT_TRUE(fields);
  EXPECT_EQ(fields->start_brk, image.start_brk());
  EXPECT_EQ(fields->arg_start, image.arg_start());
  EXPECT_EQ(fields->start_stack, image.start_stack());
  end_body(body->process);
}

TEST_F(RestoreTest, BarriersThatABodyHasRegisteredGoAlong) {
  constexpr uint32_t kRegisterPrivate = 16;
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  ASSERT_EQ(body->session->call(SYS_membarrier, {kRegisterPrivate, 0, 0}).value_or(-1), 0);
  wire::ProcessImage captured = image;
  captured.set_membarrier(512);  // none was known
  ASSERT_TRUE(capture(*sandbox_, body->process.outer_pid, *body->session, false, captured));
  // 0: whoever gets it registers all, since this kernel cannot say.
  EXPECT_TRUE(captured.membarrier() == 0 || (captured.membarrier() & kRegisterPrivate) != 0);
}

TEST_F(RestoreTest, HopsFromSandboxToSandbox) {
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  std::unique_ptr<Sandbox> old_sandbox;
  std::unique_ptr<FileContent> old_content;
  std::unique_ptr<TestDeputy> deputy;
  for (int hop = 0; hop < 4; ++hop) {
    deputy = run(*body);
    while (deputy->requests() < 100) {
      ::sched_yield();
    }
    freeze(*body);
    wire::ProcessImage captured = image_;
    auto done = capture(*sandbox_, body->process.outer_pid, *body->session, false, captured);
    ASSERT_TRUE(done) << done.error().message();
    old_sandbox = std::move(sandbox_);
    old_content = std::move(content_);
    force_patch_ = hop % 2 == 0;
    make_host();
    auto next = move(body->process.outer_pid, captured);
    ASSERT_TRUE(next) << "hop " << hop << ": " << next.error().message();
    EXPECT_EQ(next->stats.file_bytes, 0u) << "the content store has it all from the first time";
    end_body(body->process);
    body = std::move(next);
  }
  deputy = run(*body);
  deputy->set_parent(kEndNow);
  expect_good_end(*deputy);
}

TEST_F(RestoreTest, ThawsWhereItWas) {
  TestProcess process(program);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  auto deputy = run(*body);
  for (int i = 1; i <= 20; ++i) {
    const int seen = deputy->requests();
    while (deputy->requests() < seen + 10) {
      ::sched_yield();
    }
    freeze(*body);
    ASSERT_TRUE(body->session->release(stub::kPhaseContinue));
  }
  deputy->set_parent(kEndNow);
  expect_good_end(*deputy);
}

TEST_F(RestoreTest, ThreadsMoveTogether) {
  TestProcess process(threaded_program);
  ASSERT_EQ(process.threads().size(), 3u);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  std::vector<std::unique_ptr<TestDeputy>> deputies;
  for (int hop = 0; hop < 3; ++hop) {
    deputies = run_all(*body);
    while (deputies.front()->requests() < 20) {
      ::sched_yield();
    }
    auto threads = threads_of(body->process.outer_pid);
    ASSERT_TRUE(threads);
    std::set<int32_t> inside;
    for (const ThreadIds& ids : *threads) {
      inside.insert(ids.inside);
    }
    EXPECT_EQ(inside, std::set<int32_t>(process.threads().begin(), process.threads().end()));
    freeze(*body);
    wire::ProcessImage captured = image_;
    ASSERT_TRUE(capture(*sandbox_, body->process.outer_pid, *body->session, false, captured));
    ASSERT_EQ(captured.threads_size(), 3);
    const auto old_sandbox = std::move(sandbox_);
    const auto old_content = std::move(content_);
    make_host();
    auto next = move(body->process.outer_pid, captured);
    ASSERT_TRUE(next) << next.error().message();
    end_body(body->process);
    body = std::move(next);
  }
  deputies = run_all(*body);
  deputies.front()->set_parent(kEndNow);
  expect_good_end(*deputies.front());
}

TEST_F(RestoreTest, NoSystemCallOfABodyReachesTheHost) {
  TestProcess process(attacker);
  wire::ProcessImage image;
  process.fill_image(image, true);
  auto body = move(process.pid(), image);
  ASSERT_TRUE(body) << body.error().message();
  auto deputy = run(*body);
  deputy->set_parent(kEndNow);
  // What it asks of its agent is refused.
  std::atomic<bool> over = false;
  std::thread agent([&] {
    while (!over) {
      const auto note = body->session->wait_note(std::chrono::milliseconds(20));
      if (note) {
        stub::ChannelAnswer refusal{};
        refusal.result = -EPERM;
        (void)body->session->answer_channel(refusal, {});
      } else if (note.error().kind() != ErrorKind::kRetry) {
        return;
      }
    }
  });
  const bool ended = deputy->wait_end(60);
  over = true;
  agent.join();
  ASSERT_TRUE(ended) << "still alive, or dead of an attack";
  ASSERT_EQ(deputy->exit_status(), 7);
  long results[2 * std::size(kForbidden)];
  ASSERT_EQ(deputy->written().size(), sizeof(results));
  std::memcpy(results, deputy->written().data(), sizeof(results));
  for (size_t i = 0; i < std::size(kForbidden); ++i) {
    const bool went_home = deputy->seen().contains(static_cast<uint32_t>(kForbidden[i]));
    for (const long result : {results[2 * i], results[2 * i + 1]}) {
      // The deputy of this test answers everything with 0; the host's kernel would give something
      // else or an effect.
      EXPECT_TRUE(result < 0 || (went_home && result == 0))
          << "system call " << kForbidden[i] << " gave " << result;
    }
  }
  end_body(body->process);
}

TEST_F(RestoreTest, RefusesInWordsAndLeavesNothing) {
  TestProcess process(program);
  const auto refuse = [&](const std::function<void(wire::ProcessImage&)>& change) {
    wire::ProcessImage image;
    process.fill_image(image, true);
    change(image);
    auto body = move(process.pid(), image);
    EXPECT_FALSE(body);
    if (sandbox_->open(image.pid())) {
      ADD_FAILURE() << "a body is left";
    }
    return body ? std::string() : body.error().message();
  };
  EXPECT_NE(refuse([](auto& i) { i.set_memory_bytes(uint64_t{1} << 50); }).find("memory"),
            std::string::npos);
  EXPECT_NE(refuse([](auto& i) {
              std::string features = i.cpu_features();
              features[4 + 8] = '\xff';
              features[4 + 9] = '\xff';
              features[4 + 10] = '\xff';
              features[4 + 11] = '\xff';
              i.set_cpu_features(features);
            }).find("processor lacks"),
            std::string::npos);
  EXPECT_NE(refuse([](auto& i) { i.set_abi_version(999); }).find("version"), std::string::npos);
  EXPECT_NE(refuse([](auto& i) { i.set_region_base(4096); }).find("makes no sense"),
            std::string::npos);
  EXPECT_NE(refuse([](auto& i) { i.mutable_threads(0)->set_context("short"); }).find("thread"),
            std::string::npos);
}

}  // namespace
}  // namespace tess::host
