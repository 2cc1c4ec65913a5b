#include "batch/store.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "batch/registry.h"
#include "sys/process.h"

namespace tess::batch {
namespace {

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    std::string path = "/tmp/tess-store-XXXXXX";
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    dir_ = path;
  }
  ~StoreTest() override { std::filesystem::remove_all(dir_); }
  Result<Store> open() { return Store::open(dir_ + "/registry.db"); }
  std::string dir_;
};

TEST_F(StoreTest, KeepsJobsAndTasks) {
  {
    auto store = open();
    ASSERT_TRUE(store) << store.error().message();
    ASSERT_TRUE(store->begin());
    EXPECT_EQ(*store->add_job("one", Time(5), false), 1U);
    EXPECT_EQ(*store->add_job("two", Time(6), true), 2U);
    TaskRow row{{1, 7}, {}};
    row.info.state = TaskState::kRunning;
    row.info.attempt = 2;
    row.info.started = Time(77);
    row.info.outcome = "it's 'quoted'";
    ASSERT_TRUE(store->put_task(row));
    row.info.state = TaskState::kFailed;
    row.info.exit_code = 3;
    row.info.cancelling = true;
    ASSERT_TRUE(store->put_task(row));
    ASSERT_TRUE(store->hold_job(2, false));
    ASSERT_TRUE(store->cancel_job(2, "why not"));
    ASSERT_TRUE(store->commit());
  }
  auto store = open();
  ASSERT_TRUE(store);
  const auto jobs = store->jobs();
  ASSERT_TRUE(jobs);
  ASSERT_EQ(jobs->size(), 2U);
  EXPECT_EQ((*jobs)[0].spec, "one");
  EXPECT_EQ((*jobs)[1].submitted, Time(6));
  EXPECT_FALSE((*jobs)[1].held);
  EXPECT_EQ((*jobs)[1].cancelled, "why not");
  const auto tasks = store->tasks();
  ASSERT_TRUE(tasks);
  ASSERT_EQ(tasks->size(), 1U);
  EXPECT_EQ((*tasks)[0].id, (TaskId{1, 7}));
  EXPECT_EQ((*tasks)[0].info.state, TaskState::kFailed);
  EXPECT_EQ((*tasks)[0].info.exit_code, 3);
  EXPECT_EQ((*tasks)[0].info.attempt, 2U);
  EXPECT_TRUE((*tasks)[0].info.cancelling);
  EXPECT_EQ((*tasks)[0].info.started, Time(77));
  EXPECT_EQ((*tasks)[0].info.outcome, "it's 'quoted'");
}

TEST_F(StoreTest, NumbersAreNotUsedTwice) {
  auto store = open();
  ASSERT_TRUE(store);
  EXPECT_EQ(*store->add_job("a", Time(1), false), 1U);
  ASSERT_TRUE(store->forget_job(1));
  EXPECT_EQ(*store->add_job("b", Time(1), false), 2U);
}

TEST_F(StoreTest, WhatWasNotCommittedIsNotThere) {
  auto store = open();
  ASSERT_TRUE(store);
  ASSERT_TRUE(store->begin());
  EXPECT_TRUE(store->add_job("a", Time(1), false));
  store->rollback();
  EXPECT_TRUE(store->jobs()->empty());
}

TEST_F(StoreTest, AForeignFileIsRefused) {
  sys::SpawnOptions options;
  options.argv = {
      "sh", "-c",
      "echo this is no database, and is long enough to be read as one > " + dir_ + "/registry.db"};
  auto shell = sys::Process::spawn(options);
  ASSERT_TRUE(shell);
  ASSERT_TRUE(shell->wait());
  EXPECT_FALSE(open());
}

TEST_F(StoreTest, TheRegistryAnswersInOrderAfterTheCommit) {
  std::mutex mutex;
  std::condition_variable some;
  std::vector<int> answers;
  {
    auto store = open();
    ASSERT_TRUE(store);
    Registry registry(std::move(*store), [](const std::function<void()>& task) { task(); });
    for (int i = 0; i < 20; ++i) {
      registry.write(
          [i](Store& s) -> Result<> {
            if (i == 7) {
              return fail(ErrorKind::kFailed, "this one does not work");
            }
            TESS_TRY(s.add_job("job", Time(i), false));
            return {};
          },
          [&, i](const Result<>& done) {
            const std::lock_guard lock(mutex);
            EXPECT_EQ(done.has_value(), i != 7);
            answers.push_back(i);
            some.notify_one();
          });
    }
    std::unique_lock lock(mutex);
    EXPECT_TRUE(
        some.wait_for(lock, std::chrono::seconds(60), [&] { return answers.size() == 20; }));
  }
  EXPECT_TRUE(std::is_sorted(answers.begin(), answers.end()));
  auto store = open();
  ASSERT_TRUE(store);
  EXPECT_EQ(store->jobs()->size(), 19U) << "one's failure is not the others'";
}

}  // namespace
}  // namespace tess::batch
