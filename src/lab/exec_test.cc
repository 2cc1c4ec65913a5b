// tess lab exec, from the point of view of a shell and of a person at a terminal.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "lab/lab_fixture.h"

namespace tess::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// An interactive bash on a terminal of its own, to which one types and whose screen one reads.
class Terminal {
 public:
  Terminal() {
    int master = -1;
    pid_ = ::forkpty(&master, nullptr, nullptr, nullptr);
    if (pid_ == 0) {
      ::setenv("PS1", "@ ", 1);
      ::setenv("TERM", "dumb", 1);
      ::unsetenv("PROMPT_COMMAND");
      ::execl("/bin/bash", "bash", "--norc", "--noprofile", "--noediting", "-i", nullptr);
      ::_exit(127);
    }
    master_ = sys::Fd(master);
    ::fcntl(master, F_SETFD, FD_CLOEXEC);
  }
  ~Terminal() {
    master_.reset();  // hangs up, which ends what runs on it
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  void type(const std::string& text) {
    (void)sys::write_all(master_, std::as_bytes(std::span(text)));
  }
  // Reads until `wanted` shows after what was seen before. False, with the screen printed, if it
  // does not come.
  bool see(const std::string& wanted) {
    const auto deadline = sys::after(seconds(60));
    while (true) {
      const size_t at = screen_.find(wanted, seen_);
      if (at != std::string::npos) {
        seen_ = at + wanted.size();
        return true;
      }
      const auto left =
          std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now());
      char buffer[4096];
      ssize_t n = 0;
      if (left.count() > 0 &&
          sys::wait_readable(master_, static_cast<int>(left.count())).value_or(false)) {
        n = ::read(master_.get(), buffer, sizeof(buffer));
      }
      if (n <= 0) {
        ADD_FAILURE() << "'" << wanted << "' does not come; the screen:\n" << screen_;
        return false;
      }
      screen_.append(buffer, static_cast<size_t>(n));
    }
  }

 private:
  pid_t pid_ = -1;
  sys::Fd master_;
  std::string screen_;
  size_t seen_ = 0;
};

class ExecTest : public LabTest {
 protected:
  void SetUp() override {
    LabTest::SetUp();
    if (!IsSkipped()) {
      const Outcome made = up({"2"});
      ASSERT_TRUE(made.status.success()) << made.output;
    }
  }
  std::string in_n1(const std::string& what) const {
    return bin("tess-lab") + " exec --name " + name_ + " n1 " + what;
  }
};

TEST_F(ExecTest, PassesTheExitStatusOrTheSignal) {
  EXPECT_EQ(exec("n1", {"sh", "-c", "exit 7"}).status.value, 7);
  const Outcome killed = exec("n1", {"sh", "-c", "kill -USR1 $$"});
  EXPECT_EQ(killed.status.kind, sys::ExitStatus::kSignaled);
  EXPECT_EQ(killed.status.value, SIGUSR1);
  EXPECT_EQ(exec("n1", {"no-such-program"}).status.value, 127);
  EXPECT_EQ(exec("n1", {"/etc/passwd"}).status.value, 126);
  EXPECT_EQ(exec("n9", {"true"}).status.value, 2);
  EXPECT_EQ(lab({"exec", "--name", name_, "n1"}).status.value, 2);
  EXPECT_EQ(lab({"exec", "--name", "no-such-lab", "n1", "true"}).status.value, 1);
}

TEST_F(ExecTest, PassesInputOutputArgumentsDirectoryAndEnvironment) {
  auto in = sys::make_pipe();
  auto out = sys::make_pipe();
  auto options = command({"exec", "--name", name_, "n1", "sh", "-c",
                          "cat; echo \"$1 $PWD $GREETING\"; echo error >&2", "sh", "--name x"});
  options.fds = {{in->read.get(), 0}, {out->write.get(), 1}, {out->write.get(), 2}};
  options.directory = "/usr/share";
  options.env = std::vector<std::string>{"PATH=/usr/bin:/bin", "GREETING=hello"};
  auto process = sys::Process::spawn(options);
  in->read.reset();
  out->write.reset();
  ASSERT_TRUE(sys::write_all(in->write, std::as_bytes(std::span("input\n", 6))));
  in->write.reset();
  EXPECT_EQ(*sys::read_to_end(out->read), "input\n--name x /usr/share hello\nerror\n");
  EXPECT_TRUE(process->wait()->success());
}

TEST_F(ExecTest, SignalsReachTheCommandAndItsEndReachesUs) {
  auto out = sys::make_pipe();
  auto options =
      command({"exec", "--name", name_, "n1", "sh", "-c",
               "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"});
  options.fds = {{out->write.get(), 1}};
  auto process = sys::Process::spawn(options);
  out->write.reset();
  char ready[6];
  ASSERT_TRUE(sys::read_all(out->read, std::as_writable_bytes(std::span(ready))));
  ASSERT_TRUE(process->signal(SIGTERM));
  const auto status = process->wait(sys::after(seconds(60)));
  ASSERT_TRUE(status);
  EXPECT_EQ(status->value, 9);
  EXPECT_EQ(*sys::read_to_end(out->read), "got\n");
}

TEST_F(ExecTest, KilledExecTakesTheCommandAlong) {
  auto out = sys::make_pipe();
  auto options = command({"exec", "--name", name_, "n1", "sh", "-c", "echo $$; exec sleep 600"});
  options.fds = {{out->write.get(), 1}};
  auto process = sys::Process::spawn(options);
  out->write.reset();
  char byte = 0;
  ASSERT_TRUE(sys::read_all(out->read, std::as_writable_bytes(std::span(&byte, 1))));
  ASSERT_TRUE(process->signal(SIGKILL));
  (void)process->wait();
  EXPECT_TRUE(sys::read_to_end(out->read));  // end of file: the command is gone too
}

TEST_F(ExecTest, IsInTheNodesNamespacesWithOrWithoutItsFiles) {
  const auto state = read_state(name_);
  const NodeState* node = state->node("n2");
  const auto id_of = [&](sys::Namespace kind) {
    return fmt::format("{}:[{}]\n", sys::namespace_name(kind),
                       *sys::namespace_id(node->init.pid, kind));
  };
  for (const sys::Namespace kind : kKinds) {
    const Outcome outcome = lab({"exec", "--name", name_, "--host-files", "n2", "readlink",
                                 std::string("/proc/thread-self/ns/") + sys::namespace_name(kind)});
    if (kind == sys::Namespace::kMount) {
      EXPECT_NE(outcome.output, id_of(kind));
    } else if (outcome.status.success()) {  // the machine's /proc does not show a foreign "self"
      EXPECT_EQ(outcome.output, id_of(kind));
    }
  }
  const Outcome host = lab({"exec", "--name", name_, "--host-files", "n2", "sh", "-c",
                            "hostname; test -e /etc/debian_version && echo files"});
  EXPECT_EQ(host.output, "n2\nfiles\n");
  // Inside, a process has a pid of the node and a group of its own.
  EXPECT_EQ(exec("n1", {"python3", "-c",
                        "import os; print(os.getpid() == os.getpgrp(), os.getpid() < 1000)"})
                .output,
            "True True\n");
}

TEST_F(ExecTest, InteractiveShellHasJobControl) {
  Terminal terminal;
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type(in_n1("bash --norc --noprofile --noediting -i") + "\n");
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("hostname; tty >/dev/null && echo has-tty\n");
  ASSERT_TRUE(terminal.see("n1\r\n"));
  ASSERT_TRUE(terminal.see("has-tty\r\n"));
  ASSERT_TRUE(terminal.see("@ "));
  // A key typed before the command runs would be the shell's, and the line before it lost with it.
  terminal.type("sh -c 'echo begun-1; exec sleep 600'\n");
  ASSERT_TRUE(terminal.see("\nbegun-1"));
  terminal.type("\x1a");  // ^Z
  ASSERT_TRUE(terminal.see("Stopped"));
  terminal.type("jobs; kill %1; wait; echo after-wait\n");
  ASSERT_TRUE(terminal.see("\nafter-wait"));
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("sh -c 'echo begun-2; exec sleep 600'\n");
  ASSERT_TRUE(terminal.see("\nbegun-2"));
  terminal.type("\x03");  // ^C
  ASSERT_TRUE(terminal.see("^C"));
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("exit 5\n");
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("echo outer $? $(hostname)\n");
  ASSERT_TRUE(terminal.see("outer 5 "));
}

TEST_F(ExecTest, KeysOfTheTerminalReachAPlainCommand) {
  Terminal terminal;
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type(in_n1("sh -c 'echo begun; exec sleep 600'") + "\n");
  ASSERT_TRUE(terminal.see("\nbegun"));
  terminal.type("\x03");
  ASSERT_TRUE(terminal.see("^C"));
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("echo alive\n");
  ASSERT_TRUE(terminal.see("\nalive"));
}

TEST_F(ExecTest, StopsAndGoesOnAsAJobOfTheOuterShell) {
  Terminal terminal;
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type(in_n1("sh -c 'echo begun; read line; echo line=$line'") + "\n");
  ASSERT_TRUE(terminal.see("\nbegun"));
  terminal.type("\x1a");
  ASSERT_TRUE(terminal.see("Stopped"));
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("jobs; echo outer-shell\n");
  ASSERT_TRUE(terminal.see("\nouter-shell"));
  terminal.type("fg\n");
  ASSERT_TRUE(terminal.see("exec --name"));
  ASSERT_TRUE(terminal.see("\r\n"));
  terminal.type("hello\n");
  ASSERT_TRUE(terminal.see("line=hello"));
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("jobs; echo none-left\n");
  ASSERT_TRUE(terminal.see("\nnone-left"));
}

TEST_F(ExecTest, BackgroundCommandThatReadsTheTerminalStopsUntilBroughtForward) {
  Terminal terminal;
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type(in_n1("sh -c 'read line; echo line=$line'") + " &\n");
  ASSERT_TRUE(terminal.see("@ "));
  terminal.type("until jobs | grep -q Stopped; do :; done; echo seen-stopped\n");
  ASSERT_TRUE(terminal.see("\nseen-stopped"));
  terminal.type("fg\n");
  ASSERT_TRUE(terminal.see("exec --name"));
  ASSERT_TRUE(terminal.see("\r\n"));
  terminal.type("word\n");
  ASSERT_TRUE(terminal.see("line=word"));
}

TEST_F(ExecTest, InAPipelineTheOneThatReadsTheTerminalGetsIt) {
  Terminal terminal;
  ASSERT_TRUE(terminal.see("@ "));
  // Standard input is a pipe, yet it asks the terminal itself, as a pager does.
  terminal.type("echo data | " + in_n1("sh -c 'cat; read line </dev/tty; echo line=$line'") + "\n");
  ASSERT_TRUE(terminal.see("\ndata"));
  terminal.type("typed\n");
  ASSERT_TRUE(terminal.see("line=typed"));
  ASSERT_TRUE(terminal.see("@ "));
}

}  // namespace
}  // namespace tess::lab
