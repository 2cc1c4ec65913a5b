#include "sys/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/unix_socket.h"

namespace tess::sys {
namespace {

using std::chrono::milliseconds;

Result<Process> shell(const std::string& script) {
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", script};
  return Process::spawn(options);
}

TEST(Process, ReportsHowAChildEnded) {
  auto child = shell("exit 7");
  ASSERT_TRUE(child) << child.error().message();
  auto status = child->wait();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, ExitStatus::kExited);
  EXPECT_EQ(status->value, 7);
  EXPECT_FALSE(status->success());
  EXPECT_FALSE(child->running());

  child = shell("kill -TERM $$");
  status = child->wait();
  EXPECT_EQ(status->kind, ExitStatus::kSignaled);
  EXPECT_EQ(status->value, SIGTERM);
  EXPECT_EQ(status->shell_code(), 143);
}

TEST(Process, FailingExecIsReportedWithItsReason) {
  SpawnOptions options;
  options.argv = {"/nonexistent/program"};
  auto child = Process::spawn(options);
  ASSERT_FALSE(child);
  EXPECT_EQ(child.error().sys_errno(), ENOENT);
  EXPECT_NE(child.error().message().find("/nonexistent/program"), std::string::npos);
  options.argv = {"no-such-program-anywhere"};
  EXPECT_FALSE(Process::spawn(options));
  EXPECT_FALSE(Process::spawn(SpawnOptions{}));
}

TEST(Process, WaitObeysItsDeadlineAndSignalEndsTheChild) {
  auto child = shell("exec cat");  // waits on our standard input or a signal
  SpawnOptions options;
  auto pipe = make_pipe();
  options.argv = {"cat"};
  options.fds = {{pipe->read.get(), 0}};
  child->signal(SIGKILL);
  EXPECT_TRUE(child->wait());
  child = Process::spawn(options);
  ASSERT_TRUE(child);
  auto early = child->wait(after(milliseconds(30)));
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().kind(), ErrorKind::kRetry);
  EXPECT_TRUE(child->running());
  ASSERT_TRUE(child->signal(SIGINT));
  auto status = child->wait(after(milliseconds(60000)));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->value, SIGINT);
  EXPECT_EQ(child->signal(SIGINT).error().kind(), ErrorKind::kDisconnected);
}

TEST(Process, PlacesDescriptorsEvenWhenTheyCross) {
  auto a = make_pipe();
  auto b = make_pipe();
  ASSERT_TRUE(write_all(a->write, std::as_bytes(std::span("aa", 2))));
  ASSERT_TRUE(write_all(b->write, std::as_bytes(std::span("bb", 2))));
  SpawnOptions options;
  const int first = a->read.get();
  const int second = b->read.get();
  // Each goes to the other's number: a naive dup2 loop would lose one of them.
  options.fds = {{first, second}, {second, first}};
  options.argv = {"/bin/bash", "-c",
                  fmt::format("read -n2 x <&{}; read -n2 y <&{}; test $x$y = bbaa", first, second)};
  auto child = Process::spawn(options);
  ASSERT_TRUE(child) << child.error().message();
  EXPECT_TRUE(child->wait()->success());
}

TEST(Process, ChildHasNoOtherDescriptorsNoMaskAndTheEnvironmentGiven) {
  constexpr int kFar = 300;  // from those that the shell opens for itself
  auto pipe = make_pipe();
  const Fd far(::fcntl(pipe->read.get(), F_DUPFD_CLOEXEC, kFar));
  ASSERT_GE(far.get(), kFar);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigprocmask(SIG_BLOCK, &mask, nullptr);
  SpawnOptions options;
  options.argv = {
      "/bin/sh", "-c",
      "ls /proc/$$/fd | tr '\\n' ' '; grep SigBlk /proc/self/status; echo $A $PWD; set"};
  options.env = std::vector<std::string>{"A=1"};
  options.directory = "/usr";
  auto output = run_tool(options);
  sigprocmask(SIG_UNBLOCK, &mask, nullptr);
  ASSERT_TRUE(output) << output.error().message();
  EXPECT_EQ(output->find(std::to_string(far.get()) + " "), std::string::npos) << *output;
  EXPECT_NE(output->find("SigBlk:\t0000000000000000"), std::string::npos) << *output;
  EXPECT_NE(output->find("1 /usr"), std::string::npos) << *output;
  EXPECT_EQ(output->find("HOME="), std::string::npos) << *output;
}

TEST(Process, RunToolQuotesOutputOfAFailure) {
  SpawnOptions options;
  options.argv = {"sh", "-c", "cat; echo trouble >&2; exit 3"};
  auto output = run_tool(options, "some input");
  ASSERT_FALSE(output);
  EXPECT_NE(output.error().message().find("trouble"), std::string::npos);
  EXPECT_NE(output.error().message().find("some input"), std::string::npos);
  EXPECT_NE(output.error().message().find("status 3"), std::string::npos);
}

TEST(Process, ParentDeathSignalReachesAGrandchild) {
  auto pipe = make_pipe();
  auto parent = Process::fork({}, [&] {
    SpawnOptions options;
    options.argv = {"cat"};
    auto block = make_pipe();
    options.fds = {{block->read.get(), 0}, {pipe->write.get(), 1}};
    options.parent_death_signal = SIGKILL;
    auto grandchild = Process::spawn(options);
    (void)write_all(pipe->write, std::as_bytes(std::span("x", 1)));
    ::pause();
    return 0;
  });
  ASSERT_TRUE(parent);
  pipe->write.reset();
  char byte = 0;
  ASSERT_TRUE(read_all(pipe->read, std::as_writable_bytes(std::span(&byte, 1))));
  ASSERT_TRUE(parent->signal(SIGKILL));
  ASSERT_TRUE(parent->wait());
  // The grandchild holds the last write end: end of file means that it is gone.
  auto rest = read_to_end(pipe->read);
  ASSERT_TRUE(rest);
  EXPECT_EQ(*rest, "");
}

TEST(Process, WaitChangeSeesStopAndContinue) {
  // It does not end before it was seen to go on: only the end would be told then.
  auto seen = make_pipe();
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", "kill -STOP $$; read line; exit 5"};
  options.fds = {{seen->read.get(), 0}};
  auto child = Process::spawn(options);
  ASSERT_TRUE(child) << child.error().message();
  auto status = child->wait_change();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, ExitStatus::kStopped);
  EXPECT_EQ(status->value, SIGSTOP);
  ASSERT_TRUE(child->signal(SIGCONT));
  status = child->wait_change();
  ASSERT_TRUE(status);
  EXPECT_EQ(status->kind, ExitStatus::kContinued);
  seen->write.reset();
  status = child->wait_change();
  EXPECT_EQ(status->value, 5);
}

TEST(Process, StartTimeTellsAProcessFromItsSuccessor) {
  auto self = process_start_time(::getpid());
  ASSERT_TRUE(self);
  EXPECT_TRUE(open_if_same(::getpid(), *self));
  EXPECT_FALSE(open_if_same(::getpid(), *self + 1));
  auto child = shell("exit 0");
  const pid_t pid = child->pid();
  auto started = process_start_time(pid);
  ASSERT_TRUE(child->wait());
  EXPECT_FALSE(open_if_same(pid, started ? *started : 0));
}

TEST(Process, NewPidNamespaceAndOursUntouched) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root: makes a pid namespace";
  }
  const auto ours = namespace_id(0, Namespace::kPid);
  for (int round = 0; round < 2; ++round) {  // twice: the first must leave no trace
    auto child = Process::fork({.new_pid_namespace = true}, [] { return ::getpid() == 1 ? 0 : 1; });
    ASSERT_TRUE(child) << child.error().message();
    EXPECT_TRUE(child->wait()->success());
  }
  auto sibling =
      Process::fork({}, [&] { return *namespace_id(0, Namespace::kPid) == *ours ? 0 : 1; });
  EXPECT_TRUE(sibling->wait()->success());
}

TEST(Process, SpawnEntersNamespaces) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root: makes a uts namespace";
  }
  auto ready = make_pipe();
  auto holder = Process::fork({}, [&] {
    if (!unshare_namespaces(namespace_clone_flag(Namespace::kUts)) ||
        ::sethostname("elsewhere", 9) != 0) {
      return 1;
    }
    (void)write_all(ready->write, std::as_bytes(std::span("x", 1)));
    ::pause();
    return 0;
  });
  char byte = 0;
  ASSERT_TRUE(read_all(ready->read, std::as_writable_bytes(std::span(&byte, 1))));
  auto uts = open_namespace(holder->pid(), Namespace::kUts);
  SpawnOptions options;
  options.argv = {"uname", "-n"};
  options.enter = {{&*uts, Namespace::kUts}};
  EXPECT_EQ(run_tool(options).value_or("failed"), "elsewhere\n");
  EXPECT_NE(*namespace_id(holder->pid(), Namespace::kUts), *namespace_id(0, Namespace::kUts));
  (void)holder->signal(SIGKILL);
  (void)holder->wait();
}

TEST(Process, PriorityIsNotInherited) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root: a nice value below zero";
  }
  SpawnOptions options;
  // Its own, and that of what it starts.
  options.argv = {"/bin/sh", "-c", "cut -d' ' -f19 < /proc/$$/stat; nice"};
  EXPECT_EQ(run_tool(options).value_or("failed"), "0\n0\n");
  options.priority = true;
  EXPECT_EQ(run_tool(options).value_or("failed"), "-10\n0\n");
}

TEST(ProcStatusTest, HasTheFieldsOfAProcessByName) {
  sigset_t blocked;
  sigset_t before;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR2);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto self = ProcStatus::read(::getpid());
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  ASSERT_TRUE(self);
  EXPECT_EQ(self->pid_field("Pid"), ::getpid());
  EXPECT_EQ(self->pid_field("PPid"), ::getppid());
  EXPECT_EQ(self->state(), 'R');
  EXPECT_EQ(self->field("Name"), process_name(::getpid()));
  EXPECT_NE(self->number("SigBlk", 16) >> (SIGUSR2 - 1) & 1, 0u);
  EXPECT_GT(self->bytes("VmRSS"), 0u);
  EXPECT_GT(self->innermost_id(), 0);
  // Part of a name is none.
  EXPECT_EQ(self->field("VmRS"), "");
  EXPECT_EQ(self->field("RSS"), "");
  EXPECT_EQ(self->number("NoSuchField"), 0u);
  const auto thread = ProcStatus::read_thread(::getpid(), ::getpid());
  ASSERT_TRUE(thread);
  EXPECT_EQ(thread->pid_field("Tgid"), ::getpid());
}

TEST(ProcStatusTest, OfAProcessThatIsGoneThereIsNone) {
  auto child = Process::fork({}, [] { return 0; });
  ASSERT_TRUE(child);
  const pid_t pid = child->pid();
  ASSERT_TRUE(child->wait());
  EXPECT_FALSE(ProcStatus::read(pid));
  EXPECT_FALSE(ProcStatus::read_thread(pid, pid));
}

}  // namespace
}  // namespace tess::sys
