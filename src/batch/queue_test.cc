#include "batch/queue.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace tess::batch {
namespace {

using std::chrono::seconds;

JobSpec job(double cpus = 1, const std::string& array = "", uid_t uid = 1) {
  JobSpec spec;
  spec.name = "job";
  spec.command = {"true"};
  spec.cpus = cpus;
  spec.array = array;
  spec.uid = uid;
  return spec;
}

NodeRoom node(const std::string& name, double cpus, double runnable = 0) {
  NodeRoom room;
  room.name = name;
  room.home = name == "n1";
  room.cpus = cpus;
  room.runnable = runnable;
  room.memory_bytes = 8ULL << 30;
  room.memory_free_bytes = 7ULL << 30;
  return room;
}

class QueueTest : public ::testing::Test {
 protected:
  // Starts what the plan says.
  std::vector<TaskId> go() {
    const Plan plan = queue_.plan(now_, nodes_);
    for (const TaskId& id : plan.start) {
      queue_.starting(id, now_);
      queue_.running(id, 100 + id.task);
    }
    return plan.start;
  }
  void end(const TaskId& id, TaskState state = TaskState::kDone) {
    (void)queue_.ended(id, state, state == TaskState::kDone ? 0 : 1, "ended", now_);
  }
  std::string waits(uint64_t id) { return queue_.find(id)->waits_for; }

  Time now_{1000000};
  std::vector<NodeRoom> nodes_ = {node("n1", 2), node("n2", 2)};
  Queue queue_;
};

TEST_F(QueueTest, StartsWhatFitsAndNoMore) {
  queue_.add(1, job(1, "1-10"), now_, false);
  EXPECT_EQ(go().size(), 4U);
  EXPECT_EQ(go().size(), 0U) << "what has just started counts before the load picture shows it";
  EXPECT_EQ(waits(1), "it needs 1 CPUs; the most that are free on a node are 0.0");
  end({1, 2});
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 5}}));
}

TEST_F(QueueTest, TheLoadOfOthersCounts) {
  nodes_ = {node("n1", 2, 2.0), node("n2", 2, 1.1)};
  queue_.add(1, job(1, "1-10"), now_, false);
  EXPECT_EQ(go().size(), 1U);
}

TEST_F(QueueTest, WhatRunsLongIsSeenInTheLoad) {
  queue_.add(1, job(1, "1-10"), now_, false);
  for (const TaskId& id : go()) {
    queue_.set_place(id, id.task % 2 == 0 ? "n1" : "n2");
  }
  now_ += seconds(60);
  nodes_ = {node("n1", 2, 2.0), node("n2", 2, 2.0)};
  EXPECT_EQ(go().size(), 0U);
  // One that only waits for something keeps its CPU all the same.
  nodes_ = {node("n1", 2, 0.1), node("n2", 2, 0.1)};
  EXPECT_EQ(go().size(), 0U);
}

TEST_F(QueueTest, MemoryCounts) {
  JobSpec large = job(0.1, "1-4");
  large.memory_bytes = 4ULL << 30;
  queue_.add(1, large, now_, false);
  EXPECT_EQ(go().size(), 2U) << "one a node";
  EXPECT_NE(waits(1).find("it needs 4096 MiB; the most that is free on a node is "),
            std::string::npos)
      << waits(1);
}

TEST_F(QueueTest, WhatNoNodeHasIsTold) {
  queue_.add(1, job(16), now_, false);
  JobSpec huge = job();
  huge.memory_bytes = 64ULL << 30;
  queue_.add(2, huge, now_, false);
  JobSpec elsewhere = job();
  elsewhere.node = "n9";
  queue_.add(3, elsewhere, now_, false);
  EXPECT_TRUE(go().empty());
  EXPECT_EQ(waits(1), "it needs 16 CPUs on one node; the largest has 2");
  EXPECT_EQ(waits(2), "it needs 65536 MiB on one node; the largest has 8192");
  EXPECT_EQ(waits(3), "no node that it may use is there");
}

TEST_F(QueueTest, AWishFollowsANodeToItsNewName) {
  nodes_.push_back(node("new", 2));
  nodes_.back().id = "its id";
  JobSpec there = job(1, "1-9");
  there.node = "old";
  there.node_id = "its id";
  queue_.add(1, there, now_, false);
  EXPECT_EQ(go().size(), 2U);
  there.node_id = "another id";
  queue_.add(2, there, now_, false);
  EXPECT_TRUE(go().empty());
  EXPECT_EQ(waits(2), "no node that it may use is there");
}

TEST_F(QueueTest, WishesChooseNodes) {
  JobSpec there = job(1, "1-9");
  there.node = "n2";
  queue_.add(1, there, now_, false);
  EXPECT_EQ(go().size(), 2U);
  JobSpec here = job(1, "1-9");
  here.home = true;
  queue_.add(2, here, now_, false);
  EXPECT_EQ(go().size(), 2U);
  nodes_.push_back(node("n3", 1));
  JobSpec other = job(1, "1-9");
  other.avoid = {"n3"};
  queue_.add(3, other, now_, false);
  EXPECT_EQ(go().size(), 0U);
}

TEST_F(QueueTest, AnUnusableNodeIsNotUsed) {
  nodes_[1].usable = false;
  queue_.add(1, job(1, "1-9"), now_, false);
  EXPECT_EQ(go().size(), 2U);
}

TEST_F(QueueTest, AtMostSoManyAtOnce) {
  queue_.add(1, job(0.1, "1-9%3"), now_, false);
  EXPECT_EQ(go().size(), 3U);
  EXPECT_EQ(go().size(), 0U);
  EXPECT_EQ(waits(1), "at most 3 of its tasks run at once");
  end({1, 1});
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 4}}));
}

TEST_F(QueueTest, HeldUntilReleased) {
  queue_.add(1, job(), now_, true);
  EXPECT_TRUE(go().empty());
  EXPECT_EQ(waits(1), "it is held");
  queue_.hold(1, false);
  EXPECT_EQ(go().size(), 1U);
}

TEST_F(QueueTest, AfterAnotherJob) {
  queue_.add(1, job(1, "1-2"), now_, false);
  JobSpec next = job();
  next.after = {{1, false}};
  queue_.add(2, next, now_, false);
  JobSpec cleanup = job();
  cleanup.after = {{1, true}};
  queue_.add(3, cleanup, now_, false);
  EXPECT_EQ(go().size(), 2U);
  EXPECT_EQ(waits(2), "job 1 is not over");
  end({1, 1});
  end({1, 2}, TaskState::kFailed);
  const Plan plan = queue_.plan(now_, nodes_);
  ASSERT_EQ(plan.give_up.size(), 1U);
  EXPECT_EQ(plan.give_up[0].first, 2U);
  EXPECT_EQ(plan.give_up[0].second, "job 1 did not end well");
  EXPECT_EQ(plan.start, std::vector<TaskId>({{3, 1}}));
}

TEST_F(QueueTest, UsersTakeTurns) {
  nodes_ = {node("n1", 4)};
  queue_.add(1, job(1, "1-100", 1), now_, false);
  queue_.add(2, job(1, "1-100", 2), now_, false);
  std::map<uint64_t, int> started;
  for (const TaskId& id : go()) {
    ++started[id.job];
  }
  EXPECT_EQ(started[1], 2);
  EXPECT_EQ(started[2], 2);
}

TEST_F(QueueTest, PriorityThenAge) {
  nodes_ = {node("n1", 1)};
  queue_.add(1, job(), now_, false);
  JobSpec urgent = job();
  urgent.priority = 5;
  queue_.add(2, urgent, now_, false);
  EXPECT_EQ(go(), std::vector<TaskId>({{2, 1}}));
  end({2, 1});
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 1}}));
}

TEST_F(QueueTest, ALargeJobIsNotPassedForEver) {
  nodes_ = {node("n1", 2)};
  queue_.add(1, job(1, "1-2"), now_, false);
  EXPECT_EQ(go().size(), 2U);
  queue_.add(2, job(2), now_, false);
  queue_.add(3, job(1, "1-100"), now_, false);
  now_ += seconds(10);
  end({1, 1});
  EXPECT_EQ(go(), std::vector<TaskId>({{3, 1}})) << "others may pass for a while";
  now_ += seconds(60);
  end({1, 2});
  EXPECT_TRUE(go().empty()) << "the node is kept for it";
  end({3, 1});
  EXPECT_EQ(go(), std::vector<TaskId>({{2, 1}}));
}

TEST_F(QueueTest, ForeignLoadDoesNotStopTheQueueForEver) {
  nodes_ = {node("n1", 2, 7), node("n2", 2, 9)};
  queue_.add(1, job(1, "1-5"), now_, false);
  EXPECT_EQ(go().size(), 1U);
  EXPECT_EQ(go().size(), 0U);
}

TEST_F(QueueTest, WhatNeverRanIsTriedAgainLater) {
  queue_.add(1, job(), now_, false);
  ASSERT_EQ(queue_.plan(now_, nodes_).start.size(), 1U);
  queue_.starting({1, 1}, now_);
  queue_.not_started({1, 1}, now_ + seconds(5), "node n2 is down");
  EXPECT_TRUE(go().empty());
  EXPECT_EQ(waits(1), "node n2 is down");
  now_ += seconds(5);
  EXPECT_EQ(go().size(), 1U);
  EXPECT_EQ(queue_.find(1)->info.at(1).attempt, 2U);
}

TEST_F(QueueTest, LostIsToldOrRunAgainIfWanted) {
  JobSpec again = job();
  again.requeue = true;
  queue_.add(1, again, now_, false);
  queue_.add(2, job(), now_, false);
  EXPECT_EQ(go().size(), 2U);
  EXPECT_TRUE(queue_.ended({1, 1}, TaskState::kLost, -1, "its node died", now_));
  EXPECT_FALSE(queue_.ended({2, 1}, TaskState::kLost, -1, "its node died", now_));
  EXPECT_EQ(queue_.state({1, 1}), TaskState::kQueued);
  EXPECT_EQ(queue_.state({2, 1}), TaskState::kLost);
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 1}}));
}

TEST_F(QueueTest, CancelEndsWhatRunsAndDropsTheRest) {
  queue_.add(1, job(1, "1-9"), now_, false);
  const auto running = go();
  EXPECT_EQ(queue_.cancel(1, std::nullopt, now_, "cancelled"), running);
  EXPECT_TRUE(go().empty());
  EXPECT_FALSE(queue_.find(1)->over());
  for (const TaskId& id : running) {
    end(id, TaskState::kFailed);
    EXPECT_EQ(queue_.state(id), TaskState::kCancelled);
  }
  EXPECT_TRUE(queue_.find(1)->over());
  EXPECT_EQ(queue_.find(1)->counts.cancelled, 9U);
  queue_.forget(1);
  EXPECT_EQ(queue_.find(1), nullptr);
}

TEST_F(QueueTest, OneTaskIsCancelled) {
  queue_.add(1, job(1, "1-9"), now_, false);
  EXPECT_EQ(go().size(), 4U);
  EXPECT_TRUE(queue_.cancel(1, 5, now_, "cancelled").empty());
  end({1, 1});
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 6}}));
}

TEST_F(QueueTest, RestoredAsItWas) {
  queue_.add(1, job(1, "1-6"), now_, false);
  TaskInfo info;
  info.attempt = 1;
  info.started = now_;
  info.state = TaskState::kDone;
  queue_.restore({1, 1}, info);
  info.state = TaskState::kRunning;
  queue_.restore({1, 3}, info);
  info.state = TaskState::kQueued;
  queue_.restore({1, 2}, info);
  EXPECT_EQ(queue_.find(1)->counts.done, 1U);
  EXPECT_EQ(queue_.find(1)->counts.running, 1U);
  EXPECT_EQ(queue_.find(1)->counts.queued, 4U);
  EXPECT_EQ(go(), std::vector<TaskId>({{1, 2}, {1, 4}, {1, 5}}));
}

// Whatever happens in whatever order: each task is in one state, runs at most once at a time, is
// begun again only if nothing ran, nodes are not given more than they have, and all comes to an
// end.
TEST(QueueProperty, ConservesTasks) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    Queue queue;
    Time now{1};
    std::vector<NodeRoom> nodes;
    for (unsigned i = 1; i <= 1 + below(4); ++i) {
      nodes.push_back(node("n" + std::to_string(i), 1 + below(4)));
    }
    const double cpus = [&] {
      double sum = 0;
      for (const auto& one : nodes) {
        sum += one.cpus + 0.5;
      }
      return sum;
    }();
    const unsigned jobs = 1 + below(6);
    for (unsigned id = 1; id <= jobs; ++id) {
      JobSpec spec = job(1, "1-" + std::to_string(1 + below(20)), below(3));
      if (id > 1 && below(3) == 0) {
        spec.after = {{1 + below(id - 1), below(2) == 0}};
      }
      queue.add(id, spec, now, below(4) == 0);
    }
    std::set<TaskId> ran;
    const auto all_over = [&] {
      return std::all_of(queue.jobs().begin(), queue.jobs().end(),
                         [](const auto& item) { return item.second.over(); });
    };
    for (int step = 0; step < 4000 && !all_over(); ++step) {
      now += Time(500);
      const Plan plan = queue.plan(now, nodes);
      for (const auto& [id, why] : plan.give_up) {
        EXPECT_TRUE(queue.cancel(id, std::nullopt, now, why).empty());
      }
      for (const TaskId& id : plan.start) {
        EXPECT_FALSE(ran.contains(id)) << "seed " << seed << ": " << id.job << "." << id.task;
        queue.starting(id, now);
      }
      EXPECT_LE(static_cast<double>(queue.active().size()), cpus) << "seed " << seed;
      for (const TaskId& id : queue.active()) {
        if (queue.state(id) == TaskState::kStarting) {
          if (below(5) == 0) {
            queue.not_started(id, now + Time(below(3000)), "not now");
          } else {
            ran.insert(id);
            queue.running(id, 2);
          }
        } else if (below(3) == 0) {
          (void)queue.ended(id, below(8) == 0 ? TaskState::kFailed : TaskState::kDone, 0, "", now);
        }
      }
      if (below(50) == 0) {
        const uint64_t id = 1 + below(jobs);
        queue.hold(id, false);
        if (below(4) == 0 && !queue.find(id)->over()) {
          (void)queue.cancel(id, std::nullopt, now, "cancelled");
        }
      }
      for (const auto& [id, one] : queue.jobs()) {
        EXPECT_EQ(one.counts.all(), one.tasks.size()) << "seed " << seed;
      }
      if (::testing::Test::HasFailure()) {
        return;
      }
    }
    EXPECT_TRUE(all_over()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tess::batch
