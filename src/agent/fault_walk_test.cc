// Walks through every fault point of every kind of migration, failing and crashing there:
// afterwards exactly one copy of the process has lived on (its output and status are whole), or,
// where the crash came after the decision, it has ended and said so.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "agent/test_cluster_agents.h"
#include "agent/test_program.h"
#include "migrate/coordinator.h"

namespace tess::agent {
namespace {

using migrate::Kind;

// Prints a line per round, so that a second copy would show; ends when it has been told to by a
// file.
constexpr const char* kProgram =
    "echo start; for r in {1..6}; do for i in {1..60000}; do s=$((s+i*r)); done; echo $r $s; done; "
    "until [ -e \"$1\" ]; do :; done; exit 7";
constexpr const char* kExpected =
    "start\n1 1800030000\n2 5400090000\n3 10800180000\n4 18000300000\n5 27000450000\n6 "
    "37800630000\n";

// The file that tells the program to end: it lives for as long as the moves take.
class Word {
 public:
  Word() {
    ::close(::mkstemp(path_.data()));
    ::unlink(path_.c_str());
  }
  ~Word() { ::unlink(path_.c_str()); }
  Word(const Word&) = delete;
  Word& operator=(const Word&) = delete;
  const std::string& path() const { return path_; }
  void say() const { ::close(::open(path_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)); }

 private:
  std::string path_ = "/tmp/tessera-fault-walk.XXXXXX";
};

std::vector<std::string> points_of(Kind kind) {
  std::vector<std::string> points;
  for (const std::string& point : migrate::fault_points()) {
    if (point.starts_with(std::string(migrate::name(kind)) + ".")) {
      points.push_back(point);
    }
  }
  return points;
}

class FaultWalk : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
  }
  // Brings the program to where the move of this kind starts, and says where that move goes.
  static std::string prepare(TestAgents& agents, pid_t pid) {
    if (GetParam() == Kind::kOut) {
      return "n2";
    }
    const auto moved = agents.migrate(pid, "n2");
    EXPECT_TRUE(moved) << moved.error().message();
    return GetParam() == Kind::kHop ? "n3" : "home";
  }
};

TEST_P(FaultWalk, AFailureLeavesItRunning) {
  for (const std::string& point : points_of(GetParam())) {
    SCOPED_TRACE(point);
    TestAgents agents;
    const Word end;
    Program program({"bash", "-c", kProgram, "bash", end.path()});
    ASSERT_TRUE(program.read_bytes(6));
    ASSERT_TRUE(agents.start_home(program.pid()));
    const std::string to = prepare(agents, program.pid());
    agents.arm("n1", point + ":fail");
    const auto moved = agents.migrate(program.pid(), to);
    const bool after_decision = point.ends_with("_switch") || point.ends_with("_drop_source");
    EXPECT_EQ(moved.has_value(), after_decision) << (moved ? "" : moved.error().message());
    end.say();
    EXPECT_EQ(program.read_all(), kExpected);
    const int status = program.wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
  }
}

TEST_P(FaultWalk, ACrashOfTheHomeAgentLeavesOneOrNone) {
  for (const std::string& point : points_of(GetParam())) {
    SCOPED_TRACE(point);
    TestAgents agents;
    const Word end;
    Program program({"bash", "-c", kProgram, "bash", end.path()});
    ASSERT_TRUE(program.read_bytes(6));
    ASSERT_TRUE(agents.start_home(program.pid()));
    const std::string to = prepare(agents, program.pid());
    agents.arm("n1", point + ":kill");
    EXPECT_FALSE(agents.migrate(program.pid(), to));
    end.say();
    const std::string text = program.read_all();
    const int status = program.wait();
    const bool lives_on = WIFEXITED(status) && WEXITSTATUS(status) == 7;
    if (lives_on) {
      EXPECT_EQ(text, kExpected);
    } else {
      EXPECT_TRUE(std::string(kExpected).starts_with(text)) << text;
    }
    // Nothing had been given away yet: it must have gone on.
    const bool not_left = GetParam() == Kind::kOut && point.find("switch") == std::string::npos;
    if (not_left) {
      EXPECT_TRUE(lives_on) << status;
    }
  }
}

TEST_P(FaultWalk, ACrashOfTheTargetLeavesItRunning) {
  if (GetParam() == Kind::kBack) {
    GTEST_SKIP() << "the target is home";
  }
  for (const char* point : {"host.before_assign", "host.before_commit", "host.after_commit"}) {
    for (const char* action : {":fail", ":kill"}) {
      SCOPED_TRACE(std::string(point) + action);
      TestAgents agents;
      const Word end;
      Program program({"bash", "-c", kProgram, "bash", end.path()});
      ASSERT_TRUE(program.read_bytes(6));
      ASSERT_TRUE(agents.start_home(program.pid()));
      const std::string to = prepare(agents, program.pid());
      agents.arm(to, std::string(point) + action);
      EXPECT_FALSE(agents.migrate(program.pid(), to));
      end.say();
      EXPECT_EQ(program.read_all(), kExpected);
      const int status = program.wait();
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
    }
  }
}

TEST_P(FaultWalk, AFailureOfTheSourceLeavesItRunning) {
  if (GetParam() == Kind::kOut) {
    GTEST_SKIP() << "the source is home";
  }
  for (const char* point : {"host.before_freeze", "host.before_send", "host.after_send"}) {
    SCOPED_TRACE(point);
    TestAgents agents;
    const Word end;
    Program program({"bash", "-c", kProgram, "bash", end.path()});
    ASSERT_TRUE(program.read_bytes(6));
    ASSERT_TRUE(agents.start_home(program.pid()));
    const std::string to = prepare(agents, program.pid());
    agents.arm("n2", std::string(point) + ":fail");
    EXPECT_FALSE(agents.migrate(program.pid(), to));
    end.say();
    EXPECT_EQ(program.read_all(), kExpected);
    const int status = program.wait();
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
  }
}

TEST_P(FaultWalk, TheLossOfTheHostEndsTheProcess) {
  if (GetParam() != Kind::kOut) {
    GTEST_SKIP() << "the same for all";
  }
  TestAgents agents;
  const Word end;
  Program program({"bash", "-c", kProgram, "bash", end.path()});
  ASSERT_TRUE(program.read_bytes(6));
  ASSERT_TRUE(agents.start_home(program.pid()));
  ASSERT_TRUE(agents.migrate(program.pid(), "n2"));
  agents.kill_host("n2");
  end.say();
  const std::string text = program.read_all();
  EXPECT_TRUE(std::string(kExpected).starts_with(text)) << text;
  const int status = program.wait();
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  ASSERT_TRUE(agents.wait_home_gone(std::chrono::seconds(60)));
  EXPECT_TRUE(agents.logs_soon("is lost"));
}

INSTANTIATE_TEST_SUITE_P(Migration, FaultWalk,
                         ::testing::Values(Kind::kOut, Kind::kHop, Kind::kBack),
                         [](const auto& parameter) {
                           return std::string(migrate::name(parameter.param));
                         });

}  // namespace
}  // namespace tess::agent
