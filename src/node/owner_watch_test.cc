#include "node/owner_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <filesystem>

#include "sys/files.h"

namespace tess::node {
namespace {

using namespace std::chrono_literals;
using Time = OwnerRule::Time;

TEST(OwnerRule, PresentUntilIdle) {
  OwnerRule rule({.idle = 300s, .load = 0});
  EXPECT_FALSE(rule.present(Time(0)));
  rule.touched(Time(1000));
  EXPECT_TRUE(rule.present(Time(1000)));
  EXPECT_TRUE(rule.present(Time(300999)));
  EXPECT_FALSE(rule.present(Time(301000)));
  rule.touched(Time(400000));
  EXPECT_TRUE(rule.present(Time(400001)));
}

TEST(OwnerRule, LoadCountsIfItLasts) {
  OwnerRule rule({.idle = 300s, .load = 1.5});
  rule.loaded(Time(0), 2);
  EXPECT_FALSE(rule.present(Time(1000)));
  rule.loaded(Time(1000), 2);
  EXPECT_TRUE(rule.present(Time(2000)));
  rule.loaded(Time(3000), 1);
  EXPECT_FALSE(rule.present(Time(3000)));
  OwnerRule without({.idle = 300s, .load = 0});
  without.loaded(Time(0), 99);
  EXPECT_FALSE(without.present(Time(9000)));
}

TEST(OwnerDevices, AreThoseOfTheirKind) {
  std::string dir = "/tmp/tess-owner-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  for (const char* sub : {"/input", "/pts"}) {
    std::filesystem::create_directory(dir + sub);
  }
  for (const char* name : {"/tty1", "/tty", "/ttyS0", "/null", "/input/event3", "/input/mice",
                           "/pts/7", "/pts/ptmx"}) {
    ASSERT_TRUE(sys::write_file(dir + name, ""));
  }
  using Names = std::vector<std::string>;
  EXPECT_EQ(owner_devices(OwnerKind::kOff, dir), Names());
  const Names console = {dir + "/input/event3", dir + "/tty1", dir + "/ttyS0"};
  EXPECT_EQ(owner_devices(OwnerKind::kConsole, dir), console);
  const Names logins = {dir + "/input/event3", dir + "/pts/7", dir + "/tty1", dir + "/ttyS0"};
  EXPECT_EQ(owner_devices(OwnerKind::kLogins, dir), logins);
  EXPECT_EQ(owner_kind_of("logins"), OwnerKind::kLogins);
  EXPECT_FALSE(owner_kind_of("nobody"));
  std::filesystem::remove_all(dir);
}

// A real terminal: what is typed into it is read by a program, and that tells.
TEST(OwnerWatch, SeesThatATerminalIsUsed) {
  int master = -1;
  int slave = -1;
  char name[128];
  ASSERT_EQ(::openpty(&master, &slave, name, nullptr, nullptr), 0);
  const sys::Fd owner(master);
  const sys::Fd terminal(slave);
  net::Loop loop;
  int touched = 0;
  std::vector<std::string> devices;
  auto watch = OwnerWatch::start(
      loop, [&] { return devices; },
      [&] {
        ++touched;
        loop.stop();
      });
  ASSERT_TRUE(watch) << watch.error().message();
  devices = {name};  // it comes later
  (*watch)->look();
  ASSERT_EQ(::write(owner.get(), "x\n", 2), 2);
  char read[8];
  ASSERT_EQ(::read(terminal.get(), read, sizeof(read)), 2);
  net::Timer deadline(loop);
  deadline.start(60s, [&] { loop.stop(); });
  loop.run();
  EXPECT_GT(touched, 0);
}

}  // namespace
}  // namespace tess::node
