#include "batch/task_record.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

namespace tess::batch {
namespace {

TEST(TaskRecord, LinesAndBack) {
  TaskRecord record = parse_record(keeper_line(11) + running_line({12, 345}));
  EXPECT_EQ(record.keeper, 11);
  ASSERT_TRUE(record.running);
  EXPECT_EQ(record.running->pid, 12);
  EXPECT_EQ(record.running->start_time, 345U);
  EXPECT_FALSE(record.ended);
  record = parse_record(ended_line({sys::ExitStatus::kSignaled, SIGKILL}));
  ASSERT_TRUE(record.ended);
  EXPECT_EQ(record.ended->shell_code(), 137);
  record = parse_record(not_started_line({true, 127, "execute x:\nno such file"}));
  ASSERT_TRUE(record.not_started);
  EXPECT_TRUE(record.not_started->for_good);
  EXPECT_EQ(record.not_started->exit_code, 127);
  EXPECT_EQ(record.not_started->why, "execute x: no such file");
}

TEST(TaskRecord, ATornLineIsNotBelieved) {
  EXPECT_FALSE(parse_record("running 12 34").running) << "its end is missing";
  EXPECT_FALSE(parse_record("ended exi\n").ended);
  EXPECT_FALSE(parse_record("ended exited\n").ended);
  EXPECT_FALSE(parse_record("running x y\n\n\0garbage\n").running);
  EXPECT_FALSE(parse_record("running 1 5\n").running) << "never the session of init";
}

TEST(TaskRecord, TheLockTellsWhetherTheKeeperLives) {
  std::string dir = "/tmp/tess-record-XXXXXX";
  ASSERT_NE(::mkdtemp(dir.data()), nullptr);
  const std::string path = dir + "/1.1.1";
  ASSERT_TRUE(read_record(path));
  EXPECT_FALSE(*read_record(path)) << "there is none";
  auto record = make_record(path);
  ASSERT_TRUE(record);
  EXPECT_FALSE(make_record(path)) << "never the same twice";
  sys::SpawnOptions options;
  options.argv = {"sleep", "1000"};
  options.fds = {{record->get(), 3}};
  auto keeper = sys::Process::spawn(options);
  ASSERT_TRUE(keeper);
  record->reset();
  EXPECT_EQ((*read_record(path))->keeper, Keeper::kAlive) << "it inherited the lock";
  ASSERT_TRUE(keeper->signal(SIGKILL));
  ASSERT_TRUE(keeper->wait());
  EXPECT_EQ((*read_record(path))->keeper, Keeper::kGone);
  std::filesystem::remove_all(dir);
}

}  // namespace
}  // namespace tess::batch
