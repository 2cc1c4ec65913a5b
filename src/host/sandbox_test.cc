#include "host/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "stub/session.h"
#include "sys/files.h"
#include "sys/unix_socket.h"

namespace tess::host {
namespace {

constexpr uint64_t kRegion = 0x2b0000000000;

int64_t now_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

struct Blank {
  Sandbox::BodyProcess process;
  std::unique_ptr<stub::Session> session;
};

Blank make_blank(Sandbox& sandbox, int32_t pid) {
  auto pair = sys::make_socket_pair(SOCK_SEQPACKET);
  EXPECT_TRUE(pair);
  auto process = sandbox.spawn(pid, kRegion, 0, 7, pair->second);
  EXPECT_TRUE(process) << process.error().message();
  pair->second.reset();
  auto memory = stub::RemoteMemory::open(process->outer_pid);
  EXPECT_TRUE(memory);
  auto session =
      std::make_unique<stub::Session>(std::move(pair->first), std::move(*memory), kRegion);
  auto note = session->wait_note(std::chrono::seconds(60));
  EXPECT_TRUE(note) << note.error().message();
  EXPECT_EQ(note->kind, stub::Note::kAllParked);
  return {std::move(*process), std::move(session)};
}

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto made = Sandbox::create(65534);
    ASSERT_TRUE(made) << made.error().message();
    sandbox_ = std::move(*made);
  }
  std::unique_ptr<Sandbox> sandbox_;
};

TEST_F(SandboxTest, BlankBodyHasTheWantedPidAndServesCommands) {
  ASSERT_TRUE(sandbox_->start(now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME)));
  Blank blank = make_blank(*sandbox_, 4711);
  EXPECT_EQ(blank.session->call(SYS_getpid, {}).value(), 4711);
  EXPECT_EQ(blank.session->call(SYS_gettid, {}).value(), 4711);
  EXPECT_EQ(blank.session->call(SYS_getuid, {}).value(), 0);
  auto again = sandbox_->spawn(4711, kRegion, 0, 7, blank.session->mailbox());
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().kind(), ErrorKind::kNotPossible);
}

TEST_F(SandboxTest, ClocksGoOnFromHomesValues) {
  constexpr int64_t home = 123'456'789'000'000'000;
  constexpr int64_t kSuspended = 3600'000'000'000;  // by how much its other clock is ahead
  ASSERT_TRUE(sandbox_->start(home, home + kSuspended));
  Blank blank = make_blank(*sandbox_, 50);
  const uint64_t buffer = stub::slot_address(kRegion, 0) + stub::kSlotArenaOffset + (64 << 10);
  ASSERT_TRUE(blank.session->call(SYS_clock_gettime, {CLOCK_MONOTONIC, buffer}));
  auto inside = blank.session->memory().get<timespec>(buffer);
  ASSERT_TRUE(inside);
  const int64_t value = inside->tv_sec * 1'000'000'000 + inside->tv_nsec;
  EXPECT_GE(value, home);
  EXPECT_LT(value, home + kSuspended);
  EXPECT_LE(value, sandbox_->monotonic_ns());
  ASSERT_TRUE(sandbox_->start(0, 0)) << "a second start changes nothing";
  EXPECT_GE(sandbox_->monotonic_ns(), home);
}

TEST_F(SandboxTest, NothingOfTheHostIsReachable) {
  ASSERT_TRUE(sandbox_->start(now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME)));
  Blank blank = make_blank(*sandbox_, 60);
  stub::Session& session = *blank.session;
  const uint64_t text = stub::slot_address(kRegion, 0) + stub::kSlotArenaOffset + (64 << 10);
  const auto put = [&](const char* value) {
    ASSERT_TRUE(session.memory().write(text, std::as_bytes(std::span(value, strlen(value) + 1))));
  };
  // No seccomp filter yet here: the namespaces and the missing privileges have to be enough.
  for (const char* path : {"/etc/passwd", "/proc/self/status", "/proc/1/maps", "/dev/null", "/work",
                           "../../../etc/passwd"}) {
    put(path);
    auto opened = session.call(SYS_openat, {static_cast<uint64_t>(AT_FDCWD), text, 0});
    ASSERT_FALSE(opened) << path;
    EXPECT_EQ(opened.error().sys_errno(), ENOENT) << path;
  }
  put("/new");
  auto created = session.call(SYS_openat, {static_cast<uint64_t>(AT_FDCWD), text, 0102, 0644});
  ASSERT_FALSE(created);
  put("/");
  EXPECT_EQ(session.call(SYS_mount, {text, text, text, 0, 0}).error().sys_errno(), EPERM);
  EXPECT_EQ(session.call(SYS_unshare, {CLONE_NEWNS}).error().sys_errno(), EPERM);
  EXPECT_EQ(session.call(SYS_unshare, {CLONE_NEWUSER}).error().sys_errno(), ENOSPC)
      << "no capabilities by a namespace of its own either";
  EXPECT_EQ(
      session.call(SYS_kill, {static_cast<uint64_t>(::getpid()), SIGTERM}).error().sys_errno(),
      ESRCH);
  EXPECT_EQ(
      session.call(SYS_ptrace, {16, static_cast<uint64_t>(::getpid()), 0, 0}).error().sys_errno(),
      ESRCH);
  EXPECT_EQ(session.call(SYS_ptrace, {16, 1, 0, 0}).error().sys_errno(), EPERM);
  EXPECT_EQ(session.call(SYS_setuid, {1000}).error().sys_errno(), EINVAL);
  EXPECT_EQ(session.call(SYS_chroot, {text}).error().sys_errno() == 0, false);
  // The network namespace has no interface that is up: 127.0.0.1 is unreachable.
  auto fd = session.call(SYS_socket, {AF_INET, SOCK_STREAM, 0});
  ASSERT_TRUE(fd);
  const uint8_t address[16] = {2, 0, 0, 22, 127, 0, 0, 1};
  ASSERT_TRUE(session.memory().write(text, std::as_bytes(std::span(address))));
  EXPECT_EQ(session.call(SYS_connect, {static_cast<uint64_t>(*fd), text, 16}).error().sys_errno(),
            ENETUNREACH);
}

TEST_F(SandboxTest, ReportsExitsWithTheirStatus) {
  ASSERT_TRUE(sandbox_->start(now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME)));
  Blank blank = make_blank(*sandbox_, 70);
  auto found = sandbox_->open(70);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->outer_pid, blank.process.outer_pid);
  ASSERT_EQ(::syscall(SYS_pidfd_send_signal, found->pidfd.get(), SIGKILL, nullptr, 0), 0);
  pollfd wait{sandbox_->exits().get(), POLLIN, 0};
  ASSERT_EQ(::poll(&wait, 1, 60'000), 1);
  auto exit = sandbox_->next_exit();
  ASSERT_TRUE(exit && *exit);
  EXPECT_EQ((*exit)->pid, 70);
  EXPECT_EQ(WTERMSIG((*exit)->wait_status), SIGKILL);
  EXPECT_EQ(sandbox_->open(70).error().kind(), ErrorKind::kDisconnected);
}

TEST_F(SandboxTest, KillEndsEveryBody) {
  ASSERT_TRUE(sandbox_->start(now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME)));
  Blank blank = make_blank(*sandbox_, 80);
  sandbox_->kill();
  pollfd wait{blank.process.pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 60'000), 1);
}

TEST_F(SandboxTest, DiesWithItsAgent) {
  // The agent is played by a child that makes a sandbox of its own and is killed.
  int report[2];
  ASSERT_EQ(::pipe(report), 0);
  const pid_t agent = ::fork();
  if (agent == 0) {
    auto mine = Sandbox::create(65534);
    if (!mine || !(*mine)->start(now_ns(CLOCK_MONOTONIC), now_ns(CLOCK_BOOTTIME))) {
      ::_exit(1);
    }
    Blank blank = make_blank(**mine, 90);
    const pid_t outer = blank.process.outer_pid;
    (void)!::write(report[1], &outer, sizeof(outer));
    ::pause();
    ::_exit(0);
  }
  pid_t outer = -1;
  ASSERT_EQ(::read(report[0], &outer, sizeof(outer)), static_cast<ssize_t>(sizeof(outer)));
  const int pidfd = static_cast<int>(::syscall(SYS_pidfd_open, outer, 0));
  ASSERT_GE(pidfd, 0);
  ::kill(agent, SIGKILL);
  ::waitpid(agent, nullptr, 0);
  pollfd wait{pidfd, POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 60'000), 1);
  ::close(pidfd);
  ::close(report[0]);
  ::close(report[1]);
}

}  // namespace
}  // namespace tess::host
