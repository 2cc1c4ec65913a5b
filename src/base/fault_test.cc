#include "base/fault.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace tess {
namespace {

TEST(Faults, UnarmedPointsPass) {
  Faults none;
  EXPECT_TRUE(none.at("a.b"));
  Faults other("c.d", "");
  EXPECT_TRUE(other.at("a.b"));
}

TEST(Faults, EachEntryFiresOnce) {
  Faults faults("a.b:fail,c.d", "");
  EXPECT_FALSE(faults.at("a.b"));
  EXPECT_TRUE(faults.at("a.b"));
  EXPECT_FALSE(faults.at("c.d"));
  EXPECT_TRUE(faults.at("c.d"));
}

TEST(Faults, FileIsTakenOnlyByItsPoint) {
  char name[] = "/tmp/tess-fault-XXXXXX";
  const int fd = ::mkstemp(name);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(::write(fd, "x.y\n", 4), 4);
  ::close(fd);
  Faults faults("", name);
  EXPECT_TRUE(faults.at("a.b"));
  EXPECT_TRUE(std::filesystem::exists(name));
  EXPECT_FALSE(faults.at("x.y"));
  EXPECT_FALSE(std::filesystem::exists(name));
  EXPECT_TRUE(faults.at("x.y"));
}

TEST(Faults, KillDiesAtThePoint) {
  const pid_t child = ::fork();
  if (child == 0) {
    Faults faults("a.b:kill", "");
    (void)faults.at("a.b");
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

}  // namespace
}  // namespace tess
