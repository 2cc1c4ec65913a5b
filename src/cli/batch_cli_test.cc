// tess batch as people meet it: real tess, tessd and keepers, one node, a fake home agent.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "cli/test_node.h"
#include "sys/files.h"

namespace tess::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// What the programs of this test inherit.
rlim_t own_descriptor_limit() {
  rlimit limit{};
  EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  return limit.rlim_cur;
}

// Like eventually(), with time for a machine that has other things to do.
bool in_time(const std::function<bool()>& condition) {
  return eventually(condition, 4 * kPatience);
}

class Batch : public ::testing::Test {
 protected:
  void SetUp() override {
    static const bool ready = enter_test_network();
    if (!ready) {
      GTEST_SKIP() << "needs root and network namespaces";
    }
    work_ = n1_.dir() + "/work";
    std::filesystem::create_directory(work_);
    ::chmod(work_.c_str(), 0777);
    n1_.start();
    // Answered when it has wholly started: its socket has its mode, the registry is there.
    ASSERT_EQ(batch({"list"}).code(), 0);
  }
  Output batch(std::vector<std::string> arguments, bool as_nobody = false) {
    arguments.insert(arguments.begin(), "batch");
    return n1_.tess(std::move(arguments), as_nobody);
  }
  // The job's number, or 0. Output goes to WORK/JOB.TASK.
  int submit(std::vector<std::string> arguments, bool as_nobody = false) {
    arguments.insert(arguments.begin(),
                     {"submit", "--json", "--chdir", work_, "--output", "%j.%a"});
    const Output output = batch(std::move(arguments), as_nobody);
    const json answer = json::parse(output.out, nullptr, false);
    EXPECT_TRUE(answer.is_object()) << output.err;
    return answer.is_object() ? answer.value("job", 0) : 0;
  }
  json show(int job) {
    return json::parse(batch({"show", std::to_string(job), "--json"}).out, nullptr, false);
  }
  std::string state(int job) {
    const json answer = show(job);
    return answer.is_object() ? answer.value("state", "") : "";
  }
  bool becomes(int job, const std::string& wanted) {
    const bool came = in_time([&] { return state(job) == wanted; });
    EXPECT_TRUE(came) << "job " << job << ": " << show(job).dump(1);
    return came;
  }
  json task(int job) { return show(job).value("task_list", json::array()).at(0); }
  std::string written(const std::string& name) {
    return sys::read_file(work_ + "/" + name).value_or("(no " + name + ")");
  }
  void restart() {
    n1_.kill_daemon();
    n1_.start();
  }
  static std::string waiting_script(const std::string& then) {
    return "echo begun >> begun; while [ ! -e go ]; do sleep 0.05; done; " + then;
  }
  void let_go() { ASSERT_TRUE(sys::write_file(work_ + "/go", "")); }
  std::string begun_once() { return written("begun"); }

  TestCa ca_;
  TestNode n1_{ca_, "n1", "127.0.0.1", {}};
  std::string work_;
};

TEST_F(Batch, AnArrayRuns) {
  const int job = submit({"--array", "1-4%2", "--name", "four", "--", "sh", "-c",
                          "echo $TESS_JOB_ID.$TESS_TASK_ID of $TESS_TASK_COUNT $TESS_JOB_NAME; "
                          "[ $TESS_TASK_ID != 3 ] || exit 9"});
  ASSERT_TRUE(becomes(job, "failed"));
  const json answer = show(job);
  EXPECT_EQ(answer["done"], 3) << answer;
  EXPECT_EQ(answer["task_list"][2]["exit_code"], 9);
  EXPECT_EQ(answer["task_list"][2]["outcome"], "exited with status 9");
  EXPECT_EQ(written(fmt::format("{}.4", job)), fmt::format("{}.4 of 4 four\n", job));
  EXPECT_EQ(batch({"wait", std::to_string(job)}).code(), 1);
  EXPECT_EQ(batch({"log", fmt::format("{}.2", job)}).out, fmt::format("{}.2 of 4 four\n", job));
  EXPECT_TRUE(contains(batch({"list", "-a"}).out, "four"));
  EXPECT_FALSE(contains(batch({"list"}).out, "four")) << "it is over";
}

TEST_F(Batch, AJobFileRunsWithItsOptions) {
  const std::string path = work_ + "/job.sh";
  ASSERT_TRUE(
      sys::write_file(path, "#!/bin/sh -e\n#TESS --error 'err of %n'\necho $1\necho 2 >&2\n"));
  const int job = submit({path, "an argument"});
  ASSERT_TRUE(sys::write_file(path, "#!/bin/sh\necho changed later\n"));
  ASSERT_TRUE(becomes(job, "done"));
  EXPECT_EQ(written(fmt::format("{}.1", job)), "an argument\n");
  EXPECT_EQ(written("err of job.sh"), "2\n");
}

TEST_F(Batch, MistakesAreTold) {
  const auto refused = [&](const std::vector<std::string>& arguments, const std::string& words) {
    std::vector<std::string> all = {"submit"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Output output = batch(all);
    EXPECT_EQ(output.code(), 2) << output.err;
    EXPECT_TRUE(contains(output.err, words)) << output.err;
  };
  const std::string path = work_ + "/bad.sh";
  ASSERT_TRUE(sys::write_file(path, "#!/bin/sh\n#TESS --cpu 2\n#TESS --memroy 2G\n"));
  refused({path}, path + ":3: unknown option '--memroy'");
  ASSERT_TRUE(sys::write_file(path, "echo hello\n"));
  refused({path}, path + ":1: a job file is a script");
  refused({}, "a job file, or -- and a command, is missing");
  refused({"--output", "%x", "--", "true"}, "after % comes j (job)");
  EXPECT_EQ(batch({"submit", "--after", "99", "--", "true"}).code(), 5);
  EXPECT_EQ(batch({"show", "99"}).code(), 5);
  EXPECT_EQ(batch({"cancel", "x"}).code(), 2);
}

TEST_F(Batch, WhatCannotBeStartedIsTold) {
  const int missing = submit({"--", "/no/such/program"});
  ASSERT_TRUE(becomes(missing, "failed"));
  EXPECT_EQ(task(missing)["exit_code"], 127);
  EXPECT_TRUE(contains(task(missing)["outcome"], "No such file")) << task(missing);
  const int nowhere = submit({"--output", "no/such/dir/out", "--", "true"});
  ASSERT_TRUE(becomes(nowhere, "failed"));
  EXPECT_TRUE(contains(task(nowhere)["outcome"], "no/such/dir/out: No such file"));
}

TEST_F(Batch, ARunningTaskIsFoundAgain) {
  const int job = submit({"--", "sh", "-c", waiting_script("exit 3")});
  ASSERT_TRUE(becomes(job, "running"));
  restart();
  EXPECT_EQ(state(job), "running");
  n1_.kill_daemon();
  let_go();  // it ends while no tessd is there to see it
  n1_.start();
  ASSERT_TRUE(becomes(job, "failed"));
  EXPECT_EQ(task(job)["exit_code"], 3);
  EXPECT_EQ(task(job)["attempt"], 1);
  EXPECT_EQ(begun_once(), "begun\n");
  restart();
  EXPECT_EQ(state(job), "failed") << "it stays known";
}

TEST_F(Batch, TheQueueSurvives) {
  const int first = submit({"--hold", "--", "sh", "-c", "echo first"});
  const int second = submit({"--after", std::to_string(first), "--", "sh", "-c", "echo second"});
  restart();
  EXPECT_EQ(state(first), "held");
  EXPECT_EQ(show(second)["waits_for"], fmt::format("job {} is not over", first));
  ASSERT_EQ(batch({"release", std::to_string(first)}).code(), 0);
  ASSERT_TRUE(becomes(second, "done"));
  EXPECT_EQ(written(fmt::format("{}.1", first)), "first\n");
  EXPECT_EQ(submit({"--", "true"}), second + 1) << "numbers go on";
}

TEST_F(Batch, WhatIsLostIsToldAndNotRunAgain) {
  const int job = submit({"--", "sh", "-c", waiting_script("true")});
  const auto has_begun = [&] { return begun_once() == "begun\n"; };
  ASSERT_TRUE(becomes(job, "running"));
  ASSERT_TRUE(in_time(has_begun));
  ASSERT_TRUE(in_time([&] { return task(job)["pid"].is_number(); }));
  const auto command = sys::Process::open(task(job)["pid"].get<pid_t>());
  ASSERT_TRUE(command);
  const auto keepers = n1_.agents("task");
  ASSERT_EQ(keepers.size(), 1U);
  const auto keeper = sys::Process::open(keepers[0]);
  ASSERT_TRUE(keeper);
  n1_.kill_daemon();
  ASSERT_TRUE(keeper->signal(SIGKILL));
  ASSERT_TRUE(keeper->wait_gone(sys::after(60s)));
  n1_.start();
  EXPECT_EQ(state(job), "running") << "its command goes on without its keeper";
  ASSERT_TRUE(command->signal(SIGKILL));
  ASSERT_TRUE(becomes(job, "lost"));
  EXPECT_TRUE(contains(task(job)["outcome"], "is not known")) << task(job);
  EXPECT_EQ(begun_once(), "begun\n");
  EXPECT_EQ(batch({"wait", std::to_string(job)}).code(), 1);
}

TEST_F(Batch, CancelEndsTheWholeSession) {
  const int job =
      submit({"--array", "1-3%1", "--", "sh", "-c",
              "trap 'echo told > told; exit 1' TERM; sleep 1000 & echo $! > child; wait; wait"});
  ASSERT_TRUE(becomes(job, "running"));
  ASSERT_TRUE(in_time([&] { return contains(written("child"), "\n"); }));
  const auto child = sys::Process::open(std::stoi(written("child")));
  ASSERT_TRUE(child);
  ASSERT_EQ(batch({"cancel", std::to_string(job)}).code(), 0);
  ASSERT_TRUE(becomes(job, "cancelled"));
  EXPECT_EQ(show(job)["cancelled"], 3);
  EXPECT_TRUE(child->wait_gone(sys::after(60s)));
  EXPECT_EQ(written("told"), "told\n");
  EXPECT_EQ(batch({"cancel", std::to_string(job)}).code(), 6) << "it is over";
}

TEST_F(Batch, RunsAsItsOwner) {
  // As if nobody were in the group.
  ASSERT_EQ(::chmod((n1_.dir() + "/run/control.sock").c_str(), 0666), 0);
  const int roots = submit({"--hold", "--", "true"});
  const int job = submit({"--", "sh", "-c",
                          "id -u; id -g; id -G; ulimit -n; grep NoNew /proc/$$/status; "
                          "grep CapEff /proc/$$/status; cat /proc/$$/oom_score_adj"},
                         true);
  ASSERT_TRUE(becomes(job, "done"));
  const std::string said = written(fmt::format("{}.1", job));
  EXPECT_TRUE(said.starts_with("65534\n65534\n65534\n")) << said;
  EXPECT_TRUE(contains(said, fmt::format("\n{}\n", own_descriptor_limit()))) << said;
  EXPECT_TRUE(contains(said, "CapEff:\t0000000000000000")) << said;
  EXPECT_TRUE(said.ends_with("\n0\n")) << said;
  struct stat info {};
  ASSERT_EQ(::stat(fmt::format("{}/{}.1", work_, job).c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 65534U);
  // Files are opened with the owner's rights.
  const int forbidden = submit({"--output", n1_.dir() + "/state/x", "--", "true"}, true);
  ASSERT_TRUE(becomes(forbidden, "failed"));
  EXPECT_TRUE(contains(task(forbidden)["outcome"], "Permission denied")) << task(forbidden);
  for (const char* what : {"show", "cancel", "release", "wait"}) {
    EXPECT_EQ(batch({what, std::to_string(roots)}, true).code(), 4) << what;
  }
  EXPECT_FALSE(contains(batch({"list", "--json"}, true).out, "\"uid\":0"));
  EXPECT_EQ(batch({"submit", "--priority", "3", "--", "true"}, true).code(), 4);
  EXPECT_EQ(state(roots), "held");
}

TEST_F(Batch, ARegistryThatCannotBeReadStopsNothingElse) {
  n1_.kill_daemon();
  // Its log would mend it.
  std::filesystem::remove(n1_.dir() + "/state/batch/registry.db-wal");
  ASSERT_TRUE(sys::write_file(n1_.dir() + "/state/batch/registry.db",
                              "this is not a database, though it is long enough to look like one"));
  n1_.start();
  const Output output = batch({"list"});
  EXPECT_EQ(output.code(), 7);
  EXPECT_TRUE(contains(output.err, "no batch jobs on this node")) << output.err;
  EXPECT_EQ(n1_.tess({"nodes"}).code(), 0);
}

}  // namespace
}  // namespace tess::cli
