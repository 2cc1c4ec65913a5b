// Real programs, real agents: away, on and back, while they work. What a program prints and how it
// ends must be what it prints and how it ends when left alone.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "agent/test_cluster_agents.h"

namespace tess::agent {
namespace {

using Argv = std::vector<std::string>;

class Program {
 public:
  explicit Program(const Argv& argv) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      return;
    }
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(ends[1], 1);
      ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
      ::closefrom(3);
      std::vector<char*> pointers;
      for (const std::string& argument : argv) {
        pointers.push_back(const_cast<char*>(argument.c_str()));
      }
      pointers.push_back(nullptr);
      ::execvp(pointers[0], pointers.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  ~Program() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(output_);
  }
  pid_t pid() const { return pid_; }
  bool read_bytes(size_t n) {
    char piece[4096];
    while (text_.size() < n) {
      const ssize_t got = ::read(output_, piece, std::min(sizeof(piece), n - text_.size()));
      if (got <= 0) {
        return false;
      }
      text_.append(piece, static_cast<size_t>(got));
    }
    return true;
  }
  const std::string& text() const { return text_; }
  std::string read_all() {
    (void)read_bytes(SIZE_MAX);
    return text_;
  }
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string text_;
};

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

}  // namespace
}  // namespace tess::agent
