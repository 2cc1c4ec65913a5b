#include "base/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace tess::log {
namespace {

// What the log writes while standard error is a file that systemd would call the journal, or not.
std::string written(bool journal) {
  char path[] = "/tmp/tess-log-XXXXXX";
  const int file = ::mkstemp(path);
  ::unlink(path);
  struct stat status {};
  ::fstat(file, &status);
  const std::string stream = fmt::format("{}:{}", status.st_dev, status.st_ino + (journal ? 0 : 1));
  ::setenv("JOURNAL_STREAM", stream.c_str(), 1);
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(file, STDERR_FILENO);
  start("logtest");
  info("base", "event=one number={}", 1);
  warn("base", "event=two");
  error("base", "event=three");
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::unsetenv("JOURNAL_STREAM");
  start("logtest");
  char text[4096] = "";
  const ssize_t size = ::pread(file, text, sizeof(text) - 1, 0);
  ::close(file);
  return size > 0 ? std::string(text, static_cast<size_t>(size)) : std::string();
}

TEST(Log, InTheJournalALineBeginsWithItsPriority) {
  EXPECT_EQ(written(true),
            "<6>base: event=one number=1\n<4>base: event=two\n<3>base: event=three\n");
}

TEST(Log, ElsewhereItHasTimeLevelAndProgram) {
  const std::string text = written(false);
  EXPECT_NE(text.find(fmt::format(" info logtest[{}] base: event=one number=1\n", ::getpid())),
            std::string::npos)
      << text;
  EXPECT_EQ(text.find("<6>"), std::string::npos) << text;
}

}  // namespace
}  // namespace tess::log
