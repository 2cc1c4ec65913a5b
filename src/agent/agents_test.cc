// Real programs, real agents: away, on and back, while they work. What a program prints and how it
// ends must be what it prints and how it ends when left alone.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "agent/test_cluster_agents.h"
#include "agent/test_program.h"

namespace tess::agent {
namespace {

class AgentsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    directory_ = ::testing::TempDir() + "tess-moved-XXXXXX";
    ASSERT_NE(::mkdtemp(directory_.data()), nullptr);
    moved_ = directory_ + "/moved";
    ::setenv("MOVED", moved_.c_str(), 1);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  // A program that waits, busily, until this file is there lives until its moves are over.
  void say_moved() const { std::ofstream(moved_).put('\n'); }

  // Runs it alone, then with these moves once it has printed `lead` bytes.
  void compare(const Argv& argv, const std::vector<std::string>& moves, size_t lead = 6) {
    std::string expected;
    int expected_status = 0;
    {
      say_moved();
      Program alone(argv);
      expected = alone.read_all();
      expected_status = alone.wait();
      std::filesystem::remove(moved_);
    }
    TestAgents agents;
    Program program(argv);
    ASSERT_TRUE(program.read_bytes(lead));
    ASSERT_TRUE(agents.start_home(program.pid()));
    for (const std::string& node : moves) {
      const auto moved = agents.migrate(program.pid(), node);
      ASSERT_TRUE(moved) << "to " << node << ": " << moved.error().message();
    }
    say_moved();
    EXPECT_EQ(program.read_all(), expected);
    EXPECT_EQ(program.wait(), expected_status);
  }

  std::string directory_;
  std::string moved_;
};

template <typename Condition>
bool settles(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    ::usleep(20'000);
  }
  return true;
}

#define UNTIL_MOVED_BASH "until [ -e $MOVED ]; do for i in {1..2000}; do :; done; done; "
#define UNTIL_MOVED_PYTHON \
  "import os\nwhile not os.path.exists(os.environ['MOVED']):\n  sum(range(2000))\n"

constexpr const char* kShell =
    "echo start; for i in {1..200000}; do s=$((s+i*i)); done; " UNTIL_MOVED_BASH
    "echo $s; cd /; pwd; exit 3";

TEST_F(AgentsTest, OutOnly) {
  compare({"bash", "-c", kShell}, {"n2"});
}
TEST_F(AgentsTest, OutAndBack) {
  compare({"bash", "-c", kShell}, {"n2", "home"});
}
TEST_F(AgentsTest, OutOnAndBack) {
  compare({"bash", "-c", kShell}, {"n2", "n3", "home"});
}

TEST_F(AgentsTest, AwayAndBackTenTimes) {
  std::vector<std::string> moves;
  for (int i = 0; i < 10; ++i) {
    moves.insert(moves.end(), {"n2", "n3", "home"});
  }
  compare({"bash", "-c",
           "echo start; for i in {1..200000}; do s=$((s+i*i)); done; " UNTIL_MOVED_BASH
           "echo $s; cd /; pwd; exit 3"},
          moves);
}

TEST_F(AgentsTest, PythonFloats) {
  compare({"python3", "-c",
           "import math\nprint('start',flush=True)\nx=0.0\nfor i in range(1500000):\n"
           "  x+=math.sin(i)*math.sqrt(i)\n" UNTIL_MOVED_PYTHON "print(repr(x))"},
          {"n2", "n3", "home", "n4"});
}

TEST_F(AgentsTest, PythonThreads) {
  compare(
      {"python3", "-c",
       "import threading,queue\nprint('start',flush=True)\nq=queue.Queue()\nr=queue.Queue()\n"
       "def work():\n  while True:\n    i=q.get()\n    if i is None: return\n"
       "    r.put(sum(range(i)))\nts=[threading.Thread(target=work) for _ in range(6)]\n"
       "[t.start() for t in ts]\n[q.put(i) for i in range(9000)]\n[q.put(None) for _ in ts]\n"
       "[t.join() for t in ts]\n" UNTIL_MOVED_PYTHON "print(sum(r.get() for _ in range(9000)))"},
      {"n2", "n3", "home"});
}

TEST_F(AgentsTest, ThreadsMadeAway) {
  compare({"python3", "-c",
           "import threading\nprint('start',flush=True)\nn=[0]\n"
           "def work(i):\n  n[0]+=i\n" UNTIL_MOVED_PYTHON "for r in range(50):\n"
           "  ts=[threading.Thread(target=work,args=(r*i,)) for i in range(5)]\n"
           "  [x.start() for x in ts]\n  [x.join() for x in ts]\nprint(n[0])"},
          {"n2"});
}

TEST_F(AgentsTest, ChildrenMadeAway) {
  compare({"bash", "-c",
           "echo start; " UNTIL_MOVED_BASH "for i in 1 2 3; do /bin/echo "
           "child $i; done; (echo sub; exit 4); echo $?; x=$(echo piped | tr a-z A-Z); echo $x; "
           "exit 5"},
          {"n2"});
}

TEST_F(AgentsTest, ASleeper) {
  compare(
      {"perl", "-e",
       "use Time::HiRes qw(time sleep); $|=1; my $t=time; print \"start\\n\"; sleep 3; "
       "print time-$t >= 3 ? \"slept\\n\" : \"woken early\\n\"; sleep 0.1 until -e $ENV{MOVED}"},
      {"n2", "n3", "home"});
}

// Nearly always in the vDSO, whose data are others on each machine.
TEST_F(AgentsTest, AReaderOfTheClock) {
  std::vector<std::string> moves;
  for (int i = 0; i < 6; ++i) {
    moves.insert(moves.end(), {"n2", "home", "n3", "n4", "home"});
  }
  compare(
      {"perl", "-e",
       "use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC); $|=1; print \"start\\n\"; my "
       "$last=0; do { for (1..1000) { my $t=clock_gettime(CLOCK_MONOTONIC); print \"back\\n\" if "
       "$t<$last; $last=$t } } until -e $ENV{MOVED}; print \"end\\n\""},
      moves);
}

TEST_F(AgentsTest, APerlReaderOfFiles) {
  compare({"perl", "-e",
           "$|=1; print \"start\\n\"; my $s=0; for (1..6000000) { $s+=$_ } 1 until -e $ENV{MOVED}; "
           "print \"$s\\n\"; open "
           "G,'/etc/passwd'; print <G>; exit 2"},
          {"n2", "n3"});
}

TEST_F(AgentsTest, AnUnknownNode) {
  TestAgents agents;
  Program program({"bash", "-c",
                   "echo start; " UNTIL_MOVED_BASH
                   "for i in {1..2000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  const auto moved = agents.migrate(program.pid(), "n9");
  ASSERT_FALSE(moved);
  EXPECT_NE(moved.error().message().find("there is no node n9"), std::string::npos);
  say_moved();
  EXPECT_EQ(program.read_all(), "start\n2001000\n");
  EXPECT_EQ(program.wait(), 0);
}

TEST_F(AgentsTest, TheAgentLeavesWhenNothingIsLeftToHold) {
  TestAgents agents;
  Program program({"bash", "-c",
                   "echo start; " UNTIL_MOVED_BASH
                   "for i in {1..2000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  EXPECT_EQ(agents.node_of(program.pid()), "n2");
  EXPECT_EQ(agents.state_of(program.pid()), "deputy");
  ASSERT_TRUE(agents.migrate(program.pid(), "home"));
  EXPECT_TRUE(agents.wait_home_gone(std::chrono::seconds(60)));
  say_moved();
  EXPECT_EQ(program.read_all(), "start\n2001000\n");
}

TEST_F(AgentsTest, SignalsReachABodyAndItsHandler) {
  TestAgents agents;
  Program program({"python3", "-c",
                   "import signal,time\nn=[0]\ndef h(s,f): n[0]+=1\n"
                   "signal.signal(signal.SIGUSR1,h)\nprint('start',flush=True)\n"
                   "while n[0]<40:\n  sum(range(2000))\nprint('handled 40',flush=True)\n"
                   "while True: signal.pause()\n"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  // Standard signals do not queue: sent until enough of them were seen.
  std::atomic<bool> enough = false;
  std::thread sender([&enough, pid = program.pid()] {
    while (!enough && ::kill(pid, SIGUSR1) == 0) {
      ::usleep(2'000);
    }
  });
  EXPECT_TRUE(agents.migrate(program.pid(), "n3"));
  EXPECT_TRUE(program.read_bytes(6 + 11));
  EXPECT_EQ(program.text(), "start\nhandled 40\n");
  enough = true;
  sender.join();
  ::kill(program.pid(), SIGTERM);
  const int status = program.wait();
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM) << status;
}

TEST_F(AgentsTest, StopsAndContinues) {
  TestAgents agents;
  Program program({"bash", "-c",
                   "echo start; " UNTIL_MOVED_BASH
                   "for i in {1..2000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  ::kill(program.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  ::kill(program.pid(), SIGCONT);
  say_moved();
  EXPECT_EQ(program.read_all(), "start\n2001000\n");
}

// Each stop reaches the parent once, whenever it comes, and holds wherever the process is by then.
TEST_F(AgentsTest, StopsInTheMiddleOfMoves) {
  TestAgents agents;
  Program program({"bash", "-c", "echo start; " UNTIL_MOVED_BASH "echo end"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  constexpr const char* kNodes[] = {"n2", "n3", "home"};
  int status = 0;
  for (int i = 0; i < 15; ++i) {
    std::thread stopper([pid = program.pid(), i] {
      ::usleep(static_cast<useconds_t>(i) * 4'000);  // anywhere in the move
      ::kill(pid, SIGSTOP);
    });
    const auto moved = agents.migrate(program.pid(), kNodes[i % 3]);
    stopper.join();
    ASSERT_TRUE(moved) << "move " << i << ": " << moved.error().message();
    ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
    EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP) << status;
    ::kill(program.pid(), SIGCONT);
    ASSERT_EQ(::waitpid(program.pid(), &status, WCONTINUED | WUNTRACED), program.pid());
    EXPECT_TRUE(WIFCONTINUED(status)) << "move " << i << ": " << status;
  }
  say_moved();
  EXPECT_EQ(program.read_all(), "start\nend\n");
  EXPECT_EQ(program.wait(), 0);
}

TEST_F(AgentsTest, AStoppedProcessMoves) {
  TestAgents agents;
  Program program({"bash", "-c", "echo start; " UNTIL_MOVED_BASH "echo end"});
  ASSERT_TRUE(program.read_bytes(6));
  ::kill(program.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
  ASSERT_TRUE(agents.start_home(program.pid()));
  say_moved();  // it would end now if it ran
  for (const char* node : {"n2", "n3", "home", "n4"}) {
    const auto moved = agents.migrate(program.pid(), node);
    ASSERT_TRUE(moved) << "to " << node << ": " << moved.error().message();
  }
  EXPECT_EQ(::waitpid(program.pid(), &status, WUNTRACED | WCONTINUED | WNOHANG), 0);
  ::kill(program.pid(), SIGCONT);
  EXPECT_EQ(program.read_all(), "start\nend\n");
  EXPECT_EQ(program.wait(), 0);
}

TEST_F(AgentsTest, ARunJobIsPlacedWhenItExecutes) {
  TestAgents agents;
  // Stands where `tess run` stands: waits to be seized, then executes the command.
  Program program(
      {"bash", "-c",
       "echo start; kill -STOP $$; exec bash -c 'for r in 1 2 3; do for i in {1..200000}; "
       "do s=$((s+i)); done; echo $s; done; exit 6'"});
  ASSERT_TRUE(program.read_bytes(6));
  int status = 0;
  ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
  ASSERT_TRUE(agents.start_home(program.pid(), {"--run", "--node", "n2"}));
  ::kill(program.pid(), SIGCONT);
  ASSERT_TRUE(program.read_bytes(6 + 12));
  EXPECT_TRUE(agents.logs_soon("moved to n2"));
  EXPECT_EQ(program.read_all(), "start\n20000100000\n40000200000\n60000300000\n");
  status = program.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 6) << status;
  EXPECT_TRUE(agents.wait_home_gone(std::chrono::seconds(60)));
}

// Waits as ARunJobIsPlacedWhenItExecutes does; `command` is placed by tessd.
void start_placed(TestAgents& agents, Program& program) {
  ASSERT_TRUE(program.read_bytes(6));
  int status = 0;
  ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
  ASSERT_TRUE(agents.start_home(program.pid(), {"--run", "--place", "--node", "n2"}));
  EXPECT_EQ(agents.state_of(program.pid()), "moving");  // as far as tessd is concerned
  ::kill(program.pid(), SIGCONT);
}

// What it does before its first second of work is done at home: it maps and reads a lot.
TEST_F(AgentsTest, AJobThatTessdHasPlacedLeavesOnceItComputes) {
  TestAgents agents;
  Program program({"bash", "-c",
                   "echo start; kill -STOP $$; exec bash -c 'echo began; while [ ! -e $MOVED ]; do "
                   "for i in {1..1000}; do :; done; done; echo end; exit 6'"});
  start_placed(agents, program);
  ASSERT_TRUE(program.read_bytes(6 + 6));
  ASSERT_TRUE(settles([&] { return agents.state_of(program.pid()) == "deputy"; }));
  EXPECT_TRUE(agents.logs_soon("moved to n2"));
  say_moved();
  EXPECT_EQ(program.read_all(), "start\nbegan\nend\n");
  const int status = program.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 6) << status;
}

TEST_F(AgentsTest, AJobThatTessdHasPlacedStaysAsLongAsItOnlyWaits) {
  TestAgents agents;
  Program program({"bash", "-c", "echo start; kill -STOP $$; exec sleep 1000"});
  start_placed(agents, program);
  ASSERT_TRUE(settles([&] { return agents.state_of(program.pid()) == "native"; }));
  const auto logs = agents.logs();
  EXPECT_TRUE(std::none_of(logs.begin(), logs.end(), [](const std::string& line) {
    return line.find("moved to") != std::string::npos;
  }));
  EXPECT_EQ(agents.node_of(program.pid()), "n1");
  ::kill(program.pid(), SIGTERM);
  EXPECT_TRUE(agents.wait_home_gone(std::chrono::seconds(60)));
}

// The program that counts is the one that it becomes.
TEST_F(AgentsTest, AJobThatTessdHasPlacedMayExecuteAnotherProgramFirst) {
  TestAgents agents;
  Program program({"bash", "-c",
                   "echo start; kill -STOP $$; exec env A=b bash -c 'while [ ! -e $MOVED ]; do "
                   "for i in {1..1000}; do :; done; done; echo $A'"});
  start_placed(agents, program);
  ASSERT_TRUE(settles([&] { return agents.state_of(program.pid()) == "deputy"; }));
  EXPECT_TRUE(agents.logs_soon("moved to n2"));
  say_moved();
  EXPECT_EQ(program.read_all(), "start\nb\n");
}

// Moves it about; a process may be met in vfork.
::testing::AssertionResult roam(TestAgents& agents, Program& program, int moves) {
  constexpr const char* kNodes[] = {"n2", "n3", "home", "n4", "n2", "home", "n3", "n4"};
  int done = 0;
  for (int i = 0; i < moves; ++i) {
    const auto moved = agents.migrate(program.pid(), kNodes[i % 8]);
    done += moved ? 1 : 0;
    if (!moved && moved.error().message().find("vfork") == std::string::npos) {
      return ::testing::AssertionFailure()
             << "move " << i << " to " << kNodes[i % 8] << ": " << moved.error().message();
    }
  }
  return done > moves / 2 ? ::testing::AssertionSuccess()
                          : ::testing::AssertionFailure() << "only " << done << " moves";
}

TEST_F(AgentsTest, ManyMovesOfABusyThreadedProcess) {
  const Argv argv = {
      "python3", "-c",
      "import threading,queue,os\nprint('start',flush=True)\nq=queue.Queue()\nr=queue.Queue()\n"
      "def work():\n  while True:\n    i=q.get()\n    if i is None: return\n"
      "    r.put(sum(range(i%4000))+len(os.readlink('/proc/self/cwd')))\n"
      "ts=[threading.Thread(target=work) for _ in range(8)]\n[t.start() for t in ts]\n"
      "for k in range(6):\n  [q.put(i) for i in range(9000)]\n"
      "  print(sum(r.get() for _ in range(9000)),flush=True)\n" UNTIL_MOVED_PYTHON
      "[q.put(None) for _ in ts]\n[t.join() for t in ts]"};
  std::string expected;
  {
    say_moved();
    Program alone(argv);
    expected = alone.read_all();
    std::filesystem::remove(moved_);
  }
  TestAgents agents;
  Program program(argv);
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  EXPECT_TRUE(roam(agents, program, 40));
  say_moved();
  EXPECT_EQ(program.read_all(), expected);
}

TEST_F(AgentsTest, ManyMovesOfAShellThatForks) {
  const Argv argv = {
      "bash", "-c",
      "echo start; for r in {1..60}; do x=$(echo $r | tr 1-9 a-i); echo $x; (exit 3); "
      "echo $?; for i in {1..3000}; do s=$((s+i)); done; done; echo $s; "
      "until [ -e $MOVED ]; do x=$(echo $x | tr a-i b-j); (exit 3); done; exit 9"};
  std::string expected;
  {
    say_moved();
    Program alone(argv);
    expected = alone.read_all();
    std::filesystem::remove(moved_);
  }
  TestAgents agents;
  Program program(argv);
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  EXPECT_TRUE(roam(agents, program, 16));
  say_moved();
  EXPECT_EQ(program.read_all(), expected);
  const int status = program.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 9) << status;
}

}  // namespace
}  // namespace tess::agent
