#include "node/manage_rules.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "sys/files.h"

namespace tess::node {
namespace {

constexpr uid_t kAlice = 1000;
constexpr uid_t kBob = 1001;

Subject subject(uid_t uid = kAlice) {
  Subject subject;
  subject.pid = subject.innermost_pid = 4711;
  subject.uids.fill(uid);
  subject.gids.fill(uid);
  subject.name = "python3";
  subject.exe = "/usr/bin/python3.11";
  subject.arguments = {"/opt/bin/python3", "sim.py", "--fast"};
  subject.cgroups = {"/user.slice/user-1000.slice/session-3.scope"};
  return subject;
}

ManageRule rule(const std::string& kind, const std::string& pattern, uid_t user = 0,
                uid_t owner = 0) {
  const auto made = make_rule(kind, pattern, user, owner);
  EXPECT_TRUE(made) << made.error().message();
  return made.value_or(ManageRule());
}

class ManageRulesTest : public ::testing::Test {
 protected:
  ManageRulesTest() { EXPECT_NE(::mkdtemp(dir_), nullptr); }
  ~ManageRulesTest() override { std::filesystem::remove_all(dir_); }
  std::string file() const { return std::string(dir_) + "/managed.json"; }

  char dir_[30] = "/tmp/tess-manage-XXXXXX";
};

TEST_F(ManageRulesTest, AUsersRuleCoversWhatIsWhollyThatUsers) {
  EXPECT_TRUE(covers(rule("user", "alice", kAlice), subject()));
  EXPECT_FALSE(covers(rule("user", "bob", kBob), subject()));
  Subject mixed = subject();
  mixed.uids[2] = 0;
  EXPECT_FALSE(covers(rule("user", "alice", kAlice), mixed));
}

TEST_F(ManageRulesTest, ARuleOfAnybodyButRootCoversHisOwnProcessesOnly) {
  EXPECT_TRUE(covers(rule("all", "", 0, kAlice), subject()));
  EXPECT_FALSE(covers(rule("all", "", 0, kBob), subject()));
  EXPECT_FALSE(covers(rule("command", "python*", 0, kBob), subject()));
  EXPECT_TRUE(covers(rule("all", ""), subject(kBob)));
}

TEST_F(ManageRulesTest, ACommandIsMatchedByNameByPathOrByItsWholeLine) {
  for (const char* glob : {"python3", "python*", "python3.11", "/opt/bin/*", "/usr/bin/python3.1?",
                           "*python3 sim.py*"}) {
    EXPECT_TRUE(covers(rule("command", glob), subject())) << glob;
  }
  for (const char* glob : {"python", "sim.py", "/bin/*", "python3 other*", "perl*"}) {
    EXPECT_FALSE(covers(rule("command", glob), subject())) << glob;
  }
}

TEST_F(ManageRulesTest, APatternHasStarsAndQuestionMarksAndTakesNoTime) {
  Subject long_name = subject();
  long_name.name = long_name.exe = std::string(1000, 'a');
  long_name.arguments = {long_name.name};
  std::string hard;
  for (int i = 0; i < 200; ++i) {
    hard += "a*";
  }
  EXPECT_TRUE(covers(rule("command", hard), long_name));
  EXPECT_FALSE(covers(rule("command", hard + "b"), long_name));
  for (const char* glob : {"*", "p*3", "?ython3", "*y*h*", "python3*", "**"}) {
    EXPECT_TRUE(covers(rule("command", glob), subject())) << glob;
  }
  for (const char* glob : {"?", "p?3", "[p]ython3", "*y*y*", "?python3"}) {
    EXPECT_FALSE(covers(rule("command", glob), subject())) << glob;
  }
}

TEST_F(ManageRulesTest, AGroupHoldsWhatIsBelowItAndIsNamedAsPeopleType) {
  for (const char* path : {"/user.slice", "/user.slice/", "user.slice/user-1000.slice", "/",
                           "/sys/fs/cgroup/user.slice"}) {
    EXPECT_TRUE(covers(rule("cgroup", path), subject())) << path;
  }
  EXPECT_FALSE(covers(rule("cgroup", "/user.slice/user-100"), subject()));
  EXPECT_FALSE(covers(rule("cgroup", "/system.slice"), subject()));
}

TEST_F(ManageRulesTest, WhatMakesNoSenseIsNoRule) {
  EXPECT_FALSE(make_rule("group", "x", 0, 0));
  EXPECT_FALSE(make_rule("user", "", 0, 0));
  EXPECT_FALSE(make_rule("all", "x", 0, 0));
  EXPECT_FALSE(make_rule("command", "a\nb", 0, 0));
  EXPECT_EQ(rule("user", "alice", kAlice).text(), "user alice");
  EXPECT_EQ(rule("all", "").text(), "all");
}

TEST_F(ManageRulesTest, RulesLastAndOnlyRootRemovesThoseOfOthers) {
  const auto by_bob = rule("command", "make", 0, kBob);
  {
    ManageRules rules(dir_);
    ASSERT_TRUE(rules.load());
    ASSERT_TRUE(rules.add(rule("user", "alice", kAlice)));
    ASSERT_TRUE(rules.add(by_bob));
    EXPECT_FALSE(rules.add(by_bob)) << "twice";
  }
  ManageRules rules(dir_);
  ASSERT_TRUE(rules.load());
  ASSERT_EQ(rules.all().size(), 2u);
  EXPECT_EQ(rules.all()[0], rule("user", "alice", kAlice));
  EXPECT_EQ(rules.all()[1], by_bob);
  ASSERT_NE(rules.covering(subject()), nullptr);
  EXPECT_EQ(rules.covering(subject(kBob)), nullptr);

  EXPECT_FALSE(rules.remove(by_bob, kAlice));
  EXPECT_FALSE(rules.remove(rule("user", "carol", 1002), 0));
  EXPECT_TRUE(rules.remove(by_bob, 0));
  EXPECT_TRUE(rules.remove(rule("user", "alice", kAlice), 0));
  ManageRules none(dir_);
  ASSERT_TRUE(none.load());
  EXPECT_TRUE(none.all().empty());
}

TEST_F(ManageRulesTest, AFileThatIsNotUnderstoodIsLeftAloneAndToldOf) {
  for (const char* text :
       {"", "[]", "{\"rules\": [1]}", "{\"rules\": [{\"kind\": \"user\"}]}",
        "{\"rules\": [{\"kind\":\"all\",\"pattern\":\"\",\"owner\":-1,\"user\":0}]}"}) {
    ASSERT_TRUE(sys::write_file(file(), text));
    ManageRules rules(dir_);
    const auto loaded = rules.load();
    ASSERT_FALSE(loaded) << text;
    EXPECT_NE(loaded.error().message().find(file()), std::string::npos);
    EXPECT_TRUE(rules.all().empty());
    EXPECT_EQ(sys::read_file(file()).value_or("gone"), text);
  }
}

TEST(ManageSubject, TheTextsOfProcAreUnderstood) {
  Subject subject;
  ASSERT_TRUE(
      parse_stat("77 (a ) R 1 (b) S 5 77 76 34816 77 4194304 1 2 3 4 250 150 0 0 20 0 1 0 "
                 "987654 1000 20\n",
                 subject));
  EXPECT_EQ(subject.name, "a ) R 1 (b");
  EXPECT_EQ(subject.state, 'S');
  EXPECT_EQ(subject.parent, 5);
  EXPECT_EQ(subject.session, 76);
  EXPECT_EQ(subject.terminal, 34816);
  EXPECT_FALSE(subject.kernel_thread);
  EXPECT_EQ(subject.start_time, 987654u);
  EXPECT_DOUBLE_EQ(subject.cpu_seconds, 400.0 / static_cast<double>(::sysconf(_SC_CLK_TCK)));
  ASSERT_TRUE(
      parse_stat("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0", subject));
  EXPECT_TRUE(subject.kernel_thread);
  EXPECT_FALSE(parse_stat("77 (cut) S 5", subject));
  EXPECT_FALSE(parse_stat("", subject));

  ASSERT_TRUE(
      parse_status("Name:\tx\nTracerPid:\t9\nUid:\t1000\t0\t1000\t1000\nGid:\t5\t5\t5\t5\n"
                   "NSpid:\t77\t3\nCapPrm:\t0000000000000400\nSeccomp:\t2\n",
                   subject));
  EXPECT_EQ(subject.tracer, 9);
  EXPECT_EQ(subject.uids, (std::array<uid_t, 4>{1000, 0, 1000, 1000}));
  EXPECT_EQ(subject.gids, (std::array<gid_t, 4>{5, 5, 5, 5}));
  EXPECT_EQ(subject.innermost_pid, 3);
  EXPECT_TRUE(subject.has_capabilities);
  EXPECT_TRUE(subject.seccomp);
  EXPECT_FALSE(parse_status("Name:\tx\n", subject));

  EXPECT_EQ(parse_cgroups("0::/user.slice/a:b\n9:name=systemd:/x\n8:pids:/x\nnonsense\n"),
            (std::vector<std::string>{"/user.slice/a:b", "/x"}));
}

TEST(ManageSubject, ThisVeryProcessIsRead) {
  const auto self = read_subject(::getpid());
  ASSERT_TRUE(self);
  EXPECT_EQ(self->parent, ::getppid());
  EXPECT_TRUE(self->belongs_to(::getuid()));
  EXPECT_TRUE(self->own_pid_namespace);
  EXPECT_FALSE(self->of_tessera);
  EXPECT_FALSE(self->kernel_thread);
  EXPECT_FALSE(self->arguments.empty());
  EXPECT_GT(self->start_time, 0u);
  EXPECT_FALSE(read_subject(0));
}

}  // namespace
}  // namespace tess::node
