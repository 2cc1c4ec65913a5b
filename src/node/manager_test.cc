#include "node/manager.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "node/process_book.h"
#include "sys/process.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using cluster::Time;

constexpr uint64_t kSecond = 1'000'000'000;

cluster::NodeId id(uint8_t number) {
  cluster::NodeId id;
  id.bytes.fill(number);
  return id;
}

// A program that computes for some seconds; nobody's child: what tessd starts is a part of Tessera.
class Computation {
 public:
  Computation() {
    sys::SpawnOptions options;
    options.argv = {
        "/bin/sh", "-c",
        "i=0; while [ $i -lt 50000000 ]; do i=$((i + 1)); done </dev/null >/dev/null 2>&1 & "
        "echo $!"};
    const auto said = sys::run_tool(options);
    EXPECT_TRUE(said);
    auto process = sys::Process::open(said ? std::atoi(said->c_str()) : 0);
    EXPECT_TRUE(process);
    process_ = process ? std::move(*process) : sys::Process();
  }
  ~Computation() {
    (void)process_.signal(SIGKILL);
    (void)process_.wait_gone(sys::after(60s));
  }
  pid_t pid() const { return process_.pid(); }
  // False if it has not used that much within a minute.
  bool has_used(double seconds) const {
    const auto until = std::chrono::steady_clock::now() + 60s;
    while (std::chrono::steady_clock::now() < until) {
      const auto subject = read_subject(pid());
      if (subject && subject->cpu_seconds >= seconds) {
        return true;
      }
      ::usleep(20000);
    }
    return false;
  }

 private:
  sys::Process process_;
};

class ManagerTest : public ::testing::Test {
 protected:
  ~ManagerTest() override { std::filesystem::remove_all(dir_); }
  static std::string new_folder() {
    char path[] = "/tmp/tess-manager-XXXXXX";
    EXPECT_NE(::mkdtemp(path), nullptr);
    return path;
  }

  static ManageRule rule(const std::string& kind, const std::string& pattern) {
    return make_rule(kind, pattern, ::getuid(), 0).value_or(ManageRule());
  }
  // Another second has passed, in which `pid` has wanted so many.
  void pass(pid_t pid, uint64_t seconds) {
    wanted_[pid] += seconds * kSecond;
    now_ += 1s;
    manager_.look(now_, wanted_);
  }
  std::vector<std::shared_ptr<Agent>> shown() const {
    std::vector<std::shared_ptr<Agent>> agents;
    manager_.add_candidates(agents);
    return agents;
  }

  const std::string dir_ = new_folder();
  net::Loop loop_;
  AgentHub hub_{loop_, {dir_, "/bin/true", "n1"}, {}};
  Manager manager_{dir_, hub_};
  std::unordered_map<pid_t, uint64_t> wanted_;
  Time now_{};
};

TEST_F(ManagerTest, ABusyProcessThatARuleCoversIsShownToTheBookAsAJobThatMayMove) {
  const Computation work;
  ASSERT_TRUE(work.has_used(0.35));
  ASSERT_TRUE(manager_.add(rule("command", "sh")));
  pass(work.pid(), 1);
  EXPECT_TRUE(shown().empty());
  EXPECT_NE(manager_.explain(work.pid()).at(0).find("little CPU"), std::string::npos);
  pass(work.pid(), 4);
  const auto agents = shown();
  ASSERT_EQ(agents.size(), 1u);
  EXPECT_EQ(agents[0]->status.process(0).pid(), work.pid());
  EXPECT_GT(agents[0]->status.process(0).memory_bytes(), 0U);  // as lists tell it
  EXPECT_GT(agents[0]->status.process(0).cpu_home_ns(), 0U);
  EXPECT_EQ(agents[0]->status.process(0).thread_count(), 1U);

  ProcessBook book("n1", id(1));
  const auto id_of = [](const std::string& node, const std::string&) {
    return node == "n1" ? id(1) : cluster::NodeId();
  };
  book.update(agents, now_, id_of);
  book.measure(now_, 1000);
  const auto pictures = book.pictures(now_, id_of, false);
  ASSERT_EQ(pictures.size(), 1u);
  EXPECT_TRUE(pictures[0].movable) << pictures[0].immovable_because;
  const OwnProcess* own = book.own_by_pid(work.pid());
  ASSERT_NE(own, nullptr);
  EXPECT_TRUE(own->wishes.adopted());

  const auto hold = manager_.hold_of(work.pid());
  ASSERT_TRUE(hold);
  EXPECT_EQ(hold->job, agents[0]->job);
  EXPECT_NE(manager_.explain(work.pid()).at(0).find("covers it"), std::string::npos);
  ASSERT_EQ(manager_.watched().size(), 1u);
  EXPECT_EQ(manager_.watched()[0].excluded, "");
}

TEST_F(ManagerTest, ItIsTheSameJobFromLookToLookAndNoneOnceTheRuleIsGone) {
  const Computation work;
  ASSERT_TRUE(work.has_used(0.35));
  ASSERT_TRUE(manager_.add(rule("command", "*sh*")));
  pass(work.pid(), 1);
  pass(work.pid(), 4);
  const auto hold = manager_.hold_of(work.pid());
  ASSERT_TRUE(hold);
  for (int i = 0; i < 8; ++i) {
    pass(work.pid(), 1);
  }
  ASSERT_TRUE(manager_.hold_of(work.pid()));
  EXPECT_EQ(manager_.hold_of(work.pid())->job, hold->job);
  ASSERT_TRUE(manager_.remove(rule("command", "*sh*"), 0));
  EXPECT_FALSE(manager_.hold_of(work.pid()));
  pass(work.pid(), 1);
  EXPECT_TRUE(shown().empty());
  EXPECT_NE(manager_.explain(work.pid()).at(0).find("no rule"), std::string::npos);
}

TEST_F(ManagerTest, OneThatIsLeftAloneSaysWhyAndIsNoCandidate) {
  ASSERT_TRUE(manager_.add(make_rule("all", "", 0, 0).value_or(ManageRule())));
  // This very process: a part of Tessera as far as a Manager knows.
  pass(::getpid(), 1);
  pass(::getpid(), 9);
  EXPECT_TRUE(shown().empty());
  ASSERT_EQ(manager_.watched().size(), 1u);
  EXPECT_NE(manager_.watched()[0].excluded.find("Tessera"), std::string::npos);
  EXPECT_NE(manager_.explain(::getpid()).at(0).find("left alone"), std::string::npos);
}

TEST_F(ManagerTest, OnlyCandidatesAreTaken) {
  bool called = false;
  EXPECT_FALSE(manager_.take(7, [&](const Result<>&) { called = true; }));
  EXPECT_FALSE(called);

  auto work = std::make_unique<Computation>();
  ASSERT_TRUE(work->has_used(0.35));
  ASSERT_TRUE(manager_.add(rule("command", "*sh*")));
  pass(work->pid(), 1);
  pass(work->pid(), 4);
  const auto hold = manager_.hold_of(work->pid());
  ASSERT_TRUE(hold);
  work.reset();
  Result<> said;
  EXPECT_TRUE(manager_.take(hold->job, [&](const Result<>& result) { said = result; }));
  ASSERT_FALSE(said);
  EXPECT_NE(said.error().message().find("ended"), std::string::npos);
}

}  // namespace
}  // namespace tess::node
