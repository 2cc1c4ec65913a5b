// tessd and tess as people meet them: real programs, two nodes, a fake agent.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <thread>

#include "cli/test_node.h"
#include "sys/files.h"

namespace tess::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// A process to be moved about; ended with the object.
class Victim {
 public:
  explicit Victim(std::vector<std::string> argv = {"sleep", "1000"}) {
    sys::SpawnOptions options;
    options.argv = std::move(argv);
    auto spawned = sys::Process::spawn(options);
    EXPECT_TRUE(spawned);
    process_ = std::move(*spawned);
  }
  ~Victim() {
    (void)process_.signal(SIGKILL);
    (void)process_.wait();
  }
  std::string pid() const { return std::to_string(process_.pid()); }
  sys::Process& process() { return process_; }

 private:
  sys::Process process_;
};

class Tessd : public ::testing::Test {
 protected:
  void SetUp() override {
    static const bool ready = enter_test_network();
    if (!ready) {
      GTEST_SKIP() << "needs root and network namespaces";
    }
  }
  void start_both(const std::vector<std::string>& more_environment = {}) {
    n1_.start(more_environment);
    n2_.start(more_environment);
    ASSERT_TRUE(eventually([&] { return n1_.sees("n2") && n2_.sees("n1"); }));
  }
  static json process_in(const json& answer, const std::string& pid) {
    for (const auto& process : answer.value("processes", json::array())) {
      if (std::to_string(process.value("pid", 0)) == pid) {
        return process;
      }
    }
    return json::object();
  }
  void expect(const Output& output, int code, const std::string& words) {
    EXPECT_EQ(output.code(), code) << output.out << output.err;
    EXPECT_TRUE(contains(output.out + output.err, words)) << output.out << output.err;
  }

  TestCa ca_;
  TestNode n1_{ca_, "n1", "127.0.0.1", {{"n2", "127.0.0.2"}}};
  TestNode n2_{ca_, "n2", "127.0.0.2", {{"n1", "127.0.0.1"}}};
};

TEST_F(Tessd, NodesAreListed) {
  start_both();
  const json answer = n1_.tess_json({"nodes", "--json"});
  ASSERT_EQ(answer["nodes"].size(), 2U) << answer;
  for (const auto& node : answer["nodes"]) {
    EXPECT_TRUE(node["up"].get<bool>());
    EXPECT_GT(node["cores"].get<int>(), 0);
    EXPECT_GT(node["memory_bytes"].get<uint64_t>(), 0U);
    EXPECT_FALSE(node["kernel"].get<std::string>().empty());
  }
  EXPECT_EQ(answer["nodes"][1]["address"], "127.0.0.2:7117");
  expect(n1_.tess({"version"}), 0, "on node n1");
}

TEST_F(Tessd, AProcessGoesAwayHopsAndComesBack) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  json process = process_in(n1_.tess_json({"ps", "--json"}), victim.pid());
  EXPECT_EQ(process["node"], "n2") << process;
  EXPECT_EQ(process["home"], "n1");
  EXPECT_EQ(process["state"], "deputy");
  EXPECT_EQ(process["command"], "sleep 1000");
  EXPECT_EQ(process["moves"], 1);
  EXPECT_EQ(process["cpu_home_s"], 1.5);
  EXPECT_EQ(process["user"], "root");
  EXPECT_EQ(process["job"].get<std::string>().size(), 16U);
  const json guests = n2_.tess_json({"ps", "--json"});
  ASSERT_EQ(guests["processes"].size(), 1U) << guests;
  EXPECT_EQ(guests["processes"][0]["state"], "guest");
  EXPECT_EQ(guests["processes"][0]["home"], "n1");
  EXPECT_EQ(n2_.tess_json({"ps", "--all", "--json"})["processes"].size(), 2U)
      << "the fake guest has a pid of its own, so both are there";
  EXPECT_EQ(n1_.agents("home").size(), 1U);
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  EXPECT_EQ(n1_.agents("home").size(), 1U) << "the job's agent is used again";
  EXPECT_EQ(n2_.agents("host").size(), 1U) << "the host agent is used again";
  expect(n1_.tess({"migrate", victim.pid(), "home"}), 0, "now on n1");
  process = process_in(n1_.tess_json({"ps", "--json"}), victim.pid());
  EXPECT_EQ(process["state"], "native");
  EXPECT_EQ(process["moves"], 3);
  expect(n1_.tess({"ps"}), 0, "sleep 1000");
}

TEST_F(Tessd, ProgressAndTokenReachTheCaller) {
  start_both();
  const Victim victim;
  const Output output = n1_.tess({"migrate", victim.pid(), "n2"});
  EXPECT_TRUE(contains(output.err, "moving to n2 with a token of 32 bytes, encrypted"))
      << output.err;
}

TEST_F(Tessd, HomeWithoutHavingLeft) {
  n1_.start();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "home"}), 0, "at home already");
  EXPECT_TRUE(n1_.agents("home").empty());
}

TEST_F(Tessd, WhyNothingForbidsIt) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"why", victim.pid()}), 0, "can move");
  const json answer = n1_.tess_json({"why", victim.pid(), "n2", "--json"});
  EXPECT_EQ(answer["can_move"], true) << answer;
  EXPECT_EQ(answer["node"], "n2");
  EXPECT_TRUE(answer["reasons"].empty());
  EXPECT_TRUE(eventually([&] { return n1_.agents("home").empty(); }))
      << "the agents that were started for the question are gone";
}

TEST_F(Tessd, WhyTellsTheReasons) {
  n1_.start({"FAKE_AGENT_REASON=it uses io_uring; \xff close the ring"});
  const Victim victim;
  const Output output = n1_.tess({"why", victim.pid()});
  expect(output, 6, "cannot move");
  EXPECT_TRUE(contains(output.out, "io_uring")) << "also with a byte that is not UTF-8";
  // A node that is down is one more reason, an unknown one a mistake.
  EXPECT_EQ(n1_.tess_json({"why", victim.pid(), "n2", "--json"})["reasons"].size(), 2U);
  expect(n1_.tess({"why", victim.pid(), "n9"}), 5, "there is no node 'n9'");
}

TEST_F(Tessd, BadInputIsToldApart) {
  n1_.start();
  const Victim victim;
  expect(n1_.tess({"migrate", "999999999", "n2"}), 5, "there is no process 999999999 on node n1");
  expect(n1_.tess({"migrate", victim.pid(), "n9"}), 5,
         "there is no node 'n9'; the nodes are n1, n2");
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 7,
         "node n2 is down: connect to 127.0.0.2:7117: refused");
  expect(n1_.tess({"migrate", "abc", "n2"}), 2, "'abc' is not a process id");
  expect(n1_.tess({"migrate", victim.pid()}), 2, "node is required");
  expect(n1_.tess({"frobnicate"}), 2, "");
  expect(n1_.tess({"migrate", std::to_string(n1_.daemon().pid()), "n2"}), 6,
         "part of Tessera itself");
  EXPECT_TRUE(victim.pid() != "" && n1_.agents("home").empty())
      << "nothing was started for any of these";
  n1_.kill_daemon();
  expect(n1_.tess({"ps"}), 3, "tessd does not run");
}

TEST_F(Tessd, SignalsReachOnlyWhatTheCallerMayTouch) {
  start_both();
  Victim victim;
  for (const TestNode* node : {&n1_, &n2_}) {
    ASSERT_EQ(::chmod((node->dir() + "/run/control.sock").c_str(), 0666), 0);
  }
  expect(n1_.tess({"kill", victim.pid()}, true), 4, "belongs to uid 0");
  expect(n2_.tess({"kill", "--at", "n1", victim.pid()}, true), 4,
         "only root may do this from here");
  expect(n1_.tess({"kill", "-s", "gently", victim.pid()}), 2, "no signal 'gently'");
  expect(n1_.tess({"kill", "--at", "n9", victim.pid()}), 5, "there is no node 'n9'");
  expect(n1_.tess({"kill"}), 2, "either processes or a job");
  expect(n1_.tess({"kill", "--job", "12345678"}), 5, "there is no job '12345678'");
  expect(n1_.tess({"kill", std::to_string(n1_.daemon().pid())}), 6, "part of Tessera itself");
  expect(n1_.tess({"kill", "-s", "0", victim.pid()}), 0, "");
  expect(n2_.tess({"kill", "--at", "n1", victim.pid()}), 4, "is in no job");
  EXPECT_TRUE(victim.process().running());
  // From another node, by its home: once it is in a job.
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  expect(n2_.tess({"kill", "-s", "USR1", "--at", "n1", victim.pid()}), 0, "");
  const auto status = victim.process().wait(sys::after(60s));
  ASSERT_TRUE(status) << status.error().message();
  EXPECT_EQ(status->kind, sys::ExitStatus::kSignaled);
  EXPECT_EQ(status->value, SIGUSR1);
}

TEST_F(Tessd, TopShowsTheWholeCluster) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  const Output picture = n2_.tess({"top", "--once", "--width", "100"});
  expect(picture, 0, "2 of 2 nodes up");
  expect(picture, 0, "sleep 1000");
  expect(n1_.tess({"top"}), 1, "needs a terminal");
  expect(n1_.tess({"top", "--sort", "colour"}), 2, "no column 'colour'");
  const json figures = n1_.tess_json({"top", "--json"});
  EXPECT_EQ(figures["node"], "n1");
  EXPECT_EQ(figures["nodes"].size(), 2U);
  n1_.kill_daemon();
  expect(n1_.tess({"top", "--once"}), 3, "tessd does not run");
}

TEST_F(Tessd, WhatIsSetHoldsAfterARestart) {
  n1_.start();
  expect(n1_.tess({"set", "hysteresis", "0.25"}), 0, "");
  expect(n1_.tess({"set", "balance", "on"}), 0, "");
  expect(n1_.tess({"set", "hysteresis", "7"}), 2, "a number from 0 to 1");
  n1_.kill_daemon();
  n1_.start();
  const json values = n1_.tess_json({"set", "--json"})["values"];
  EXPECT_EQ(values["hysteresis"], 0.25);
  EXPECT_EQ(values["balance"], "on") << "before the configuration, which says false";
  expect(n1_.tess({"set", "balance", "default"}), 0, "");
  EXPECT_EQ(n1_.tess_json({"set", "--json"})["values"]["balance"], "off");
}

TEST_F(Tessd, AZombieIsRefused) {
  n1_.start();
  Victim victim;
  (void)victim.process().signal(SIGKILL);
  ASSERT_TRUE(victim.process().wait_gone(sys::after(60s)));
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 6, "has already ended");
}

TEST_F(Tessd, OnlyTheOwnerMayMove) {
  start_both();
  const Victim roots;
  const Victim nobodys(
      {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "sleep", "1000"});
  expect(n1_.tess({"ps"}, true), 3, "become root or a member of group tessera");
  // As if nobody were in the group.
  ASSERT_EQ(::chmod((n1_.dir() + "/run/control.sock").c_str(), 0666), 0);
  expect(n1_.tess({"migrate", roots.pid(), "n2"}, true), 4, "belongs to uid 0");
  expect(n1_.tess({"why", roots.pid()}, true), 4, "belongs to uid 0");
  EXPECT_TRUE(n1_.agents("home").empty());
  ASSERT_TRUE(eventually([&] {
    const auto status = sys::read_file("/proc/" + nobodys.pid() + "/status");
    return status && contains(*status, "Uid:\t65534\t65534\t65534\t65534");
  }));
  expect(n1_.tess({"migrate", nobodys.pid(), "n2"}, true), 0, "now on n2");
  expect(n1_.tess({"migrate", roots.pid(), "n2"}), 0, "now on n2");
  // bring-home of a user is about that user's jobs only.
  expect(n1_.tess({"bring-home"}, true), 0, "1 job brought home");
  expect(n1_.tess({"bring-home"}), 0, "1 job brought home");
}

TEST_F(Tessd, RulesAreRootsOrForOnesOwnProcessesAndLast) {
  n1_.start();
  ASSERT_EQ(::chmod((n1_.dir() + "/run/control.sock").c_str(), 0666), 0);
  expect(n1_.tess({"manage", "user", "root"}, true), 4, "only root");
  expect(n1_.tess({"manage", "user", "no such user"}), 2, "there is no user");
  expect(n1_.tess({"manage", "user", "nobody"}, true), 0, "");
  expect(n1_.tess({"manage", "command", "sim*"}), 0, "");
  expect(n1_.tess({"manage", "command", "sim*"}), 6, "already");
  expect(n1_.tess({"manage", "command", "sim*", "--remove"}, true), 6, "no such rule of yours");
  n1_.kill_daemon();
  n1_.start();
  const auto rules = n1_.tess_json({"manage", "list", "--json"})["rules"];
  ASSERT_EQ(rules.size(), 2U) << rules;
  EXPECT_EQ(rules[0]["pattern"], "nobody");
  EXPECT_EQ(rules[0]["owner"], 65534);
  EXPECT_EQ(rules[1]["owner"], 0);
  expect(n1_.tess({"manage", "user", "nobody", "--remove"}), 0, "");
  expect(n1_.tess({"manage", "list"}), 0, "sim*");
}

TEST_F(Tessd, TheSocketIsClosedToOthers) {
  n1_.start();
  struct stat info {};
  // The mode is set just after the socket is there.
  EXPECT_TRUE(eventually([&] {
    return ::stat((n1_.dir() + "/run/control.sock").c_str(), &info) == 0 &&
           (info.st_mode & 0777) == 0660U;
  }));
  ASSERT_EQ(::stat((n1_.dir() + "/run/agents.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
}

TEST_F(Tessd, ARestartedTessdKnowsItsJobs) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  const auto home_agents = n1_.agents("home");
  const auto host_agents = n2_.agents("host");
  n1_.kill_daemon();
  n2_.kill_daemon();
  EXPECT_EQ(n1_.agents("home"), home_agents) << "agents outlive tessd";
  start_both();
  ASSERT_TRUE(eventually([&] {
    return process_in(n1_.tess_json({"ps", "--json"}), victim.pid()).value("node", "") == "n2" &&
           n2_.tess_json({"ps", "--json"})["processes"].size() == 1;
  }));
  // The host agent's address and token are known again, too.
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  EXPECT_EQ(n1_.agents("home"), home_agents);
  EXPECT_EQ(n2_.agents("host"), host_agents);
}

TEST_F(Tessd, StoppingAHostSendsGuestsHomeFirst) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  ASSERT_TRUE(n2_.daemon().signal(SIGTERM));
  const auto status = n2_.daemon().wait(sys::after(60s));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->success());
  EXPECT_TRUE(eventually([&] { return n2_.agents("host").empty(); }));
  EXPECT_FALSE(contains(n2_.log(), "stays_away")) << n2_.log();
}

TEST_F(Tessd, StoppingAHomeBringsItsProcessesBack) {
  start_both();
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  ASSERT_TRUE(n1_.daemon().signal(SIGTERM));
  const auto status = n1_.daemon().wait(sys::after(60s));
  ASSERT_TRUE(status);
  EXPECT_TRUE(status->success());
  EXPECT_FALSE(contains(n1_.log(), "stays_away")) << n1_.log();
  n1_.start();
  ASSERT_TRUE(eventually([&] {
    return process_in(n1_.tess_json({"ps", "--json"}), victim.pid()).value("state", "") == "native";
  }));
}

TEST_F(Tessd, ASecondTessdIsRefused) {
  n1_.start();
  expect(n1_.start_expecting_failure(), 1, "tessd is already running here");
  expect(n1_.tess({"ps"}), 0, "JOB");
}

TEST_F(Tessd, WrongNameOrMissingCertificateIsTold) {
  ASSERT_TRUE(sys::write_file(n1_.dir() + "/tessera.toml", "name = 'other'\n"));
  expect(n1_.start_expecting_failure(), 1, "its certificate");
  std::filesystem::remove(n1_.dir() + "/state/node.crt");
  expect(n1_.start_expecting_failure(), 1, "tess init");
}

TEST_F(Tessd, ReloadTakesNewNodes) {
  TestNode n3(ca_, "n3", "127.0.0.3", {});
  n1_.start();
  n3.start();
  EXPECT_FALSE(n1_.sees("n3"));
  n1_.write_config({{"n3", "127.0.0.3"}});
  ASSERT_TRUE(n1_.daemon().signal(SIGHUP));
  EXPECT_TRUE(eventually([&] { return n1_.sees("n3"); }));
  EXPECT_EQ(n1_.tess_json({"nodes", "--json"})["nodes"].size(), 2U) << "n2 is gone";
  // A mistake changes nothing.
  ASSERT_TRUE(sys::write_file(n1_.dir() + "/tessera.toml", "nonsense"));
  ASSERT_TRUE(n1_.daemon().signal(SIGHUP));
  EXPECT_TRUE(eventually([&] { return contains(n1_.log(), "reload_failed"); }));
  EXPECT_TRUE(n1_.sees("n3"));
}

TEST_F(Tessd, AnAgentThatDiesIsTold) {
  start_both({"FAKE_AGENT_DIES=1"});
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 1, "this agent dies at once");
  expect(n1_.tess({"run", "true"}), 125, "this agent dies at once");
}

TEST_F(Tessd, AnAgentThatCrashesInTheMiddleIsTold) {
  start_both({"FAKE_AGENT_CRASHES=1"});
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 7, "crashes in the middle");
}

TEST_F(Tessd, AnAgentThatWasJustEndingIsReplaced) {
  start_both({"FAKE_AGENT_ENDS=1"});
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  const auto before = n1_.agents("home");
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 0, "now on n2");
  EXPECT_NE(n1_.agents("home"), before);
}

TEST_F(Tessd, TooLittleMemoryIsToldByTheHost) {
  start_both({"FAKE_AGENT_MEMORY=1125899906842624"});
  const Victim victim;
  expect(n1_.tess({"migrate", victim.pid(), "n2"}), 6, "node n2 has too little memory");
  EXPECT_TRUE(n2_.agents("host").empty());
}

TEST_F(Tessd, RunBecomesTheCommand) {
  start_both();
  expect(n1_.tess({"run", "--on", "n2", "true"}), 0, "");
  EXPECT_EQ(n1_.tess({"run", "sh", "-c", "exit 7"}).code(), 7);
  const Output killed = n1_.tess({"run", "--on=n2", "--", "sh", "-c", "kill -9 $$"});
  EXPECT_EQ(killed.status.kind, sys::ExitStatus::kSignaled);
  EXPECT_EQ(killed.status.value, SIGKILL);
  // Options of the command are the command's.
  expect(n1_.tess({"run", "sh", "-c", "echo $0 $1", "--on", "n9"}), 0, "--on n9");
}

TEST_F(Tessd, RunLeavesTheCommandsWorldAlone) {
  n1_.start();
  const std::string script =
      "pwd; ls /proc/self/fd | wc -l; grep -E '^(SigBlk|SigIgn)' /proc/self/status; env | sort | "
      "grep -v ^_=";
  const Output plain = run_program({"sh", "-c", script}, n1_.environment());
  const Output run = n1_.tess({"run", "sh", "-c", script});
  EXPECT_EQ(run.out, plain.out);
  EXPECT_EQ(run.err, plain.err);
}

TEST_F(Tessd, RunFailuresHaveTheirOwnStatus) {
  n1_.start();
  expect(n1_.tess({"run", "no-such-command-here"}), 127, "command not found");
  expect(n1_.tess({"run", "/etc/passwd"}), 126, "Permission denied");
  expect(n1_.tess({"run", "/"}), 126, "");
  expect(n1_.tess({"run"}), 125, "the command is missing");
  expect(n1_.tess({"run", "--wrong", "true"}), 125, "unknown or incomplete option '--wrong'");
  expect(n1_.tess({"run", "--on", "n9", "touch", n1_.dir() + "/started"}), 125,
         "there is no node 'n9'");
  expect(n1_.tess({"run", "--on", "n2", "touch", n1_.dir() + "/started"}), 125, "node n2 is down");
  n1_.kill_daemon();
  expect(n1_.tess({"run", "touch", n1_.dir() + "/started"}), 125, "tessd does not run");
  n1_.start({"FAKE_AGENT_REFUSES=1"});
  expect(n1_.tess({"run", "touch", n1_.dir() + "/started"}), 125, "the test says so");
  EXPECT_FALSE(std::filesystem::exists(n1_.dir() + "/started"));
}

TEST_F(Tessd, RunWaitsForTheAgent) {
  n1_.start();
  const Output output = n1_.tess({"run", "sh", "-c", "echo $$"});
  EXPECT_EQ(output.code(), 0);
  // The agent was started for exactly the process that became the command.
  EXPECT_TRUE(contains(n1_.log(), "agent_started role=home")) << n1_.log();
}

TEST_F(Tessd, OfManyStartsAFewAreMadeAtATime) {
  const std::string held_back = n1_.dir() + "/held-back";
  ASSERT_TRUE(sys::write_file(held_back, ""));
  n1_.start({"FAKE_AGENT_HELD_BACK=" + held_back});
  const size_t limit = std::thread::hardware_concurrency() + 1;  // at most: of cores and quotas
  const size_t count = limit + 3;
  std::vector<std::thread> runs;
  std::atomic<size_t> good = 0;
  for (size_t i = 0; i < count; ++i) {
    runs.emplace_back([&] { good += n1_.tess({"run", "--stay", "true"}).code() == 0 ? 1 : 0; });
  }
  // The socket's queue is empty once every one of them has been accepted: the table has no more.
  const auto asked = [&] {
    size_t waiting = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const auto comm = sys::read_file(entry.path().string() + "/comm");
      const auto where = sys::read_file(entry.path().string() + "/wchan");
      waiting += comm && *comm == "tess\n" && where && contains(*where, "unix_stream") ? 1 : 0;
    }
    return waiting;
  };
  EXPECT_TRUE(eventually([&] { return asked() >= count && !n1_.agents("home").empty(); }));
  EXPECT_EQ(n1_.tess({"nodes"}).code(), 0);  // tessd has been through all that it was sent before
  EXPECT_LE(n1_.agents("home").size(), limit);
  std::filesystem::remove(held_back);
  for (std::thread& run : runs) {
    run.join();
  }
  EXPECT_EQ(good, count);
}

TEST_F(Tessd, InitMakesANode) {
  const std::string dir = n1_.dir() + "/fresh";
  const std::vector<std::string> environment = {"TESS_STATE_DIR=" + dir + "/state",
                                                "TESS_CONFIG=" + dir + "/etc/tessera.toml"};
  const auto init = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {build_program("tess"), "init"});
    return run_program(arguments, environment);
  };
  expect(init({"--name", "a", "--listen", "127.0.0.1:7117"}), 0, "made a new cluster");
  const auto ca = sys::read_file(dir + "/state/ca.crt");
  expect(init({"--name", "a"}), 0, "kept the certificate");
  EXPECT_EQ(*sys::read_file(dir + "/state/ca.crt"), *ca);
  expect(init({"--name", "b", "--out", dir + "/for-b"}), 0, "copy the four files");
  EXPECT_EQ(*sys::read_file(dir + "/for-b/ca.crt"), *ca);
  expect(init({"--name", "b"}), 1, "names this node 'a'");
  expect(init({"--name", "b c"}), 1, "is not a node name");
}

}  // namespace
}  // namespace tess::cli
