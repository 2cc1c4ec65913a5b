// Real programs, real agents: away, on and back, while they work. What a program prints and how it
// ends must be what it prints and how it ends when left alone.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
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
  }
  // Runs it alone, then with these moves once it has printed `lead` bytes.
  void compare(const Argv& argv, const std::vector<std::string>& moves, size_t lead = 6) {
    std::string expected;
    int expected_status = 0;
    {
      Program alone(argv);
      expected = alone.read_all();
      expected_status = alone.wait();
    }
    TestAgents agents;
    Program program(argv);
    ASSERT_TRUE(program.read_bytes(lead));
    ASSERT_TRUE(agents.start_home(program.pid()));
    for (const std::string& node : moves) {
      const auto moved = agents.migrate(program.pid(), node);
      ASSERT_TRUE(moved) << "to " << node << ": " << moved.error().message();
    }
    EXPECT_EQ(program.read_all(), expected);
    EXPECT_EQ(program.wait(), expected_status);
  }
};

constexpr const char* kShell =
    "echo start; for i in {1..200000}; do s=$((s+i*i)); done; echo $s; cd /; pwd; exit 3";

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
           "echo start; for i in {1..900000}; do s=$((s+i*i)); done; echo $s; cd /; pwd; exit 3"},
          moves);
}

TEST_F(AgentsTest, PythonFloats) {
  compare({"python3", "-c",
           "import math\nprint('start',flush=True)\nx=0.0\nfor i in range(1500000):\n"
           "  x+=math.sin(i)*math.sqrt(i)\nprint(repr(x))"},
          {"n2", "n3", "home", "n4"});
}

TEST_F(AgentsTest, PythonThreads) {
  compare({"python3", "-c",
           "import threading,queue\nprint('start',flush=True)\nq=queue.Queue()\nr=queue.Queue()\n"
           "def work():\n  while True:\n    i=q.get()\n    if i is None: return\n"
           "    r.put(sum(range(i)))\nts=[threading.Thread(target=work) for _ in range(6)]\n"
           "[t.start() for t in ts]\n[q.put(i) for i in range(9000)]\n[q.put(None) for _ in ts]\n"
           "[t.join() for t in ts]\nprint(sum(r.get() for _ in range(9000)))"},
          {"n2", "n3", "home"});
}

TEST_F(AgentsTest, ThreadsMadeAway) {
  compare({"python3", "-c",
           "import threading,time\nprint('start',flush=True)\nt=time.monotonic()\nn=[0]\n"
           "def work(i):\n  n[0]+=i\n"
           "while time.monotonic()-t<3:\n  pass\n"
           "for r in range(50):\n"
           "  ts=[threading.Thread(target=work,args=(r*i,)) for i in range(5)]\n"
           "  [x.start() for x in ts]\n  [x.join() for x in ts]\nprint(n[0])"},
          {"n2"});
}

TEST_F(AgentsTest, ChildrenMadeAway) {
  compare({"bash", "-c",
           "echo start; for i in {1..300000}; do s=$((s+i)); done; for i in 1 2 3; do /bin/echo "
           "child $i; done; (echo sub; exit 4); echo $?; x=$(echo piped | tr a-z A-Z); echo $x; "
           "exit 5"},
          {"n2"});
}

TEST_F(AgentsTest, ASleeper) {
  const auto start = std::chrono::steady_clock::now();
  compare({"bash", "-c", "echo start; exec sleep 4"}, {"n2", "n3", "home"});
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(12'000));
}

TEST_F(AgentsTest, APerlReaderOfFiles) {
  compare({"perl", "-e",
           "$|=1; print \"start\\n\"; my $s=0; for (1..60000000) { $s+=$_ } print \"$s\\n\"; open "
           "G,'/etc/passwd'; print <G>; exit 2"},
          {"n2", "n3"});
}

TEST_F(AgentsTest, AnUnknownNode) {
  TestAgents agents;
  Program program({"bash", "-c", "echo start; for i in {1..200000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  const auto moved = agents.migrate(program.pid(), "n9");
  ASSERT_FALSE(moved);
  EXPECT_NE(moved.error().message().find("there is no node n9"), std::string::npos);
  EXPECT_EQ(program.read_all(), "start\n20000100000\n");
  EXPECT_EQ(program.wait(), 0);
}

TEST_F(AgentsTest, TheAgentLeavesWhenNothingIsLeftToHold) {
  TestAgents agents;
  Program program({"bash", "-c", "echo start; for i in {1..900000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  EXPECT_EQ(agents.node_of(program.pid()), "n2");
  EXPECT_EQ(agents.state_of(program.pid()), "deputy");
  ASSERT_TRUE(agents.migrate(program.pid(), "home"));
  EXPECT_TRUE(agents.wait_home_gone(std::chrono::seconds(10)));
  EXPECT_EQ(program.read_all(), "start\n405000450000\n");
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
  Program program({"bash", "-c", "echo start; for i in {1..900000}; do s=$((s+i)); done; echo $s"});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  ::kill(program.pid(), SIGSTOP);
  int status = 0;
  ASSERT_EQ(::waitpid(program.pid(), &status, WUNTRACED), program.pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  ::kill(program.pid(), SIGCONT);
  EXPECT_EQ(program.read_all(), "start\n405000450000\n");
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
  bool moved = false;
  for (const std::string& line : agents.logs()) {
    moved = moved || line.find("moved to n2") != std::string::npos;
  }
  EXPECT_TRUE(moved);
  EXPECT_EQ(program.read_all(), "start\n20000100000\n40000200000\n60000300000\n");
  status = program.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 6) << status;
  EXPECT_TRUE(agents.wait_home_gone(std::chrono::seconds(10)));
}

// Moves it about until it ends; false if a move failed for another reason than its end.
::testing::AssertionResult roam(TestAgents& agents, Program& program, int moves) {
  constexpr const char* kNodes[] = {"n2", "n3", "home", "n4", "n2", "home", "n3", "n4"};
  for (int i = 0; i < moves; ++i) {
    const auto moved = agents.migrate(program.pid(), kNodes[i % 8]);
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(program.pid()), &info, WEXITED | WNOHANG | WNOWAIT);
    if (info.si_pid != 0) {
      return ::testing::AssertionSuccess();
    }
    if (!moved && moved.error().message().find("vfork") == std::string::npos) {
      return ::testing::AssertionFailure()
             << "move " << i << " to " << kNodes[i % 8] << ": " << moved.error().message();
    }
  }
  return ::testing::AssertionSuccess();
}

TEST_F(AgentsTest, ManyMovesOfABusyThreadedProcess) {
  const Argv argv = {
      "python3", "-c",
      "import threading,queue,os\nprint('start',flush=True)\nq=queue.Queue()\nr=queue.Queue()\n"
      "def work():\n  while True:\n    i=q.get()\n    if i is None: return\n"
      "    r.put(sum(range(i%4000))+len(os.readlink('/proc/self/cwd')))\n"
      "ts=[threading.Thread(target=work) for _ in range(8)]\n[t.start() for t in ts]\n"
      "for k in range(6):\n  [q.put(i) for i in range(9000)]\n"
      "  print(sum(r.get() for _ in range(9000)),flush=True)\n"
      "[q.put(None) for _ in ts]\n[t.join() for t in ts]"};
  std::string expected;
  {
    Program alone(argv);
    expected = alone.read_all();
  }
  TestAgents agents;
  Program program(argv);
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  EXPECT_TRUE(roam(agents, program, 40));
  EXPECT_EQ(program.read_all(), expected);
}

TEST_F(AgentsTest, ManyMovesOfAShellThatForks) {
  const Argv argv = {
      "bash", "-c",
      "echo start; for r in {1..60}; do x=$(echo $r | tr 1-9 a-i); echo $x; (exit 3); "
      "echo $?; for i in {1..3000}; do s=$((s+i)); done; done; echo $s; exit 9"};
  std::string expected;
  {
    Program alone(argv);
    expected = alone.read_all();
  }
  TestAgents agents;
  Program program(argv);
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  EXPECT_TRUE(roam(agents, program, 16));
  EXPECT_EQ(program.read_all(), expected);
  const int status = program.wait();
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 9) << status;
}

}  // namespace
}  // namespace tess::agent
