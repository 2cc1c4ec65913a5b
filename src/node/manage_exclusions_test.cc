#include "node/manage_exclusions.h"

#include <gtest/gtest.h>

#include <functional>

namespace tess::node {
namespace {

constexpr uid_t kAlice = 1000;

// A computation that a person has started in the background of a terminal.
Subject computation() {
  Subject subject;
  subject.pid = subject.innermost_pid = 4711;
  subject.parent = 4000;
  subject.session = 3999;
  subject.terminal = 34816;
  subject.state = 'R';
  subject.cpu_seconds = 100;
  subject.uids.fill(kAlice);
  subject.gids.fill(kAlice);
  subject.name = "sim";
  subject.exe = "/home/alice/sim";
  subject.arguments = {"./sim", "-n", "7"};
  subject.cgroups = {"/user.slice/user-1000.slice/session-3.scope"};
  return subject;
}

const ManageRule kAll{ManageRule::Kind::kAll, "", 0, 0};

std::string why(const std::function<void(Subject&)>& but, const ManageRule& rule = kAll) {
  Subject subject = computation();
  but(subject);
  return excluded_because(subject, rule);
}

// The reason has to be this one, not just any.
#define EXPECT_LEFT_ALONE(because, ...)                                        \
  EXPECT_NE(why([](Subject & s) __VA_ARGS__).find(because), std::string::npos) \
      << "told: " << why([](Subject & s) __VA_ARGS__)
#define EXPECT_TAKEN(...) EXPECT_EQ(why([]([[maybe_unused]] Subject & s) __VA_ARGS__), "")

TEST(ManageExclusions, ComputationsAreTaken) {
  EXPECT_TAKEN({});
  EXPECT_TAKEN({
    s.terminal = 0;
    s.session = s.pid;
    s.parent = 1;
  });  // setsid nohup ./sim &
  EXPECT_TAKEN({
    s.name = "bash";
    s.exe = "/bin/bash";
    s.arguments = {"bash", "work.sh"};
  });
  EXPECT_TAKEN({ s.cgroups = {"/system.slice/cron.service"}; });  // a person's, by cron
  EXPECT_TAKEN({
    s.uids.fill(0);
    s.gids.fill(0);
    s.has_capabilities = true;
  });
}

TEST(ManageExclusions, WhatTheMachineNeedsStays) {
  EXPECT_LEFT_ALONE("kernel thread", { s.kernel_thread = true; });
  EXPECT_LEFT_ALONE("init", { s.pid = s.innermost_pid = 1; });
  EXPECT_LEFT_ALONE("init", { s.innermost_pid = 1; });
  EXPECT_LEFT_ALONE("ended", { s.state = 'Z'; });
  EXPECT_LEFT_ALONE("Tessera itself", { s.of_tessera = true; });
  EXPECT_LEFT_ALONE("container", { s.own_pid_namespace = false; });
}

TEST(ManageExclusions, WhatPeopleSitAtStays) {
  EXPECT_LEFT_ALONE("sessions", { s.name = "Xorg"; });
  EXPECT_LEFT_ALONE("sessions", {
    s.name = "sshd";
    s.exe = "/usr/sbin/sshd";
  });
  EXPECT_LEFT_ALONE("sessions", {
    s.name = "worker";
    s.exe = "/usr/bin/gnome-shell";
  });
  EXPECT_LEFT_ALONE("shell", {
    s.exe = "/bin/bash";
    s.arguments = {"-bash"};
  });
  EXPECT_LEFT_ALONE("shell", {
    s.exe = "/usr/bin/zsh";
    s.arguments = {"zsh"};
  });
  EXPECT_LEFT_ALONE("leads a session", { s.session = s.pid; });
  EXPECT_LEFT_ALONE("leads a session", {
    s.session = s.pid;
    s.terminal = 0;
    s.exe = "/bin/sh";
    s.arguments = {"sh", "x.sh"};
  });
}

TEST(ManageExclusions, WhatIsAnotherBusinessStays) {
  EXPECT_LEFT_ALONE("traced by process 12", { s.tracer = 12; });
  EXPECT_LEFT_ALONE("rights", { s.uids[1] = 0; });
  EXPECT_LEFT_ALONE("rights", { s.gids[1] = 0; });
  EXPECT_LEFT_ALONE("rights", { s.has_capabilities = true; });
  EXPECT_LEFT_ALONE("seccomp", { s.seccomp = true; });
  const ManageRule of_bob{ManageRule::Kind::kAll, "", 0, 1001};
  EXPECT_NE(why([](Subject&) {}, of_bob), "");
}

TEST(ManageExclusions, AServiceOfTheSystemStaysUnlessTheRuleNamesIt) {
  const auto service = [](Subject& s) {
    s.uids.fill(33);
    s.gids.fill(33);
    s.parent = 1;
    s.session = s.pid;
    s.terminal = 0;
    s.name = "httpd";
    s.exe = "/usr/sbin/httpd";
    s.cgroups = {"/system.slice/httpd.service"};
  };
  using Kind = ManageRule::Kind;
  const auto named = [&](Kind kind, const std::string& pattern, uid_t user = 0) {
    return why(service, ManageRule{kind, pattern, user, 0}).empty();
  };
  EXPECT_NE(why(service).find("service of the system"), std::string::npos);
  EXPECT_FALSE(named(Kind::kUser, "root", 0));
  EXPECT_FALSE(named(Kind::kCgroup, "/"));
  EXPECT_FALSE(named(Kind::kCgroup, "/system.slice"));
  EXPECT_FALSE(named(Kind::kCommand, "*"));
  EXPECT_TRUE(named(Kind::kUser, "www-data", 33));
  EXPECT_TRUE(named(Kind::kCgroup, "/system.slice/httpd.service"));
  EXPECT_TRUE(named(Kind::kCommand, "httpd"));
  // A machine without systemd.
  EXPECT_NE(why([&](Subject& s) {
              service(s);
              s.cgroups = {"/"};
            }),
            "");
}

}  // namespace
}  // namespace tess::node
