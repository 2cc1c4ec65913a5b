#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "lab/lab_fixture.h"

namespace tess::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(LabTest, NodesAreApartFromTheMachineAndFromEachOther) {
  const Outcome made = up({"3"});
  ASSERT_TRUE(made.status.success()) << made.output;
  const auto state = read_state(name_);
  ASSERT_TRUE(state) << state.error().message();
  for (const sys::Namespace kind : kKinds) {
    std::set<uint64_t> ids{*sys::namespace_id(0, kind)};
    for (const NodeState& node : state->nodes) {
      EXPECT_TRUE(ids.insert(*sys::namespace_id(node.init.pid, kind)).second)
          << node.name << " shares its " << sys::namespace_name(kind) << " namespace";
    }
  }
  EXPECT_EQ(exec("n1", {"hostname"}).output, "n1\n");
  EXPECT_EQ(ask("n3", {"read", "/proc/sys/kernel/hostname"}).output, "n3\n");
}

TEST_F(LabTest, HostsHoldNothingOfTheMachineButTheServerSeesIt) {
  const std::string marker = "/tmp/tess-lab-test-" + name_;
  ASSERT_TRUE(sys::write_file(marker, "machine"));
  ASSERT_TRUE(up({"2"}).status.success());
  EXPECT_EQ(ask("n1", {"read", marker}).output, "machine");
  EXPECT_EQ(ask("n2", {"exists", marker}).status.value, 1);
  for (const char* path :
       {"/bin/sh", "/usr/bin/env", "/etc/debian_version", "/home", "/usr/lib/apt"}) {
    EXPECT_EQ(ask("n2", {"exists", path}).status.value, 1) << path;
  }
  EXPECT_EQ(exec("n2", {"sh", "-c", "exit 0"}).status.value, 127);
  for (const char* path : {"/dev/null", "/dev/pts/ptmx", "/proc/self/stat", "/sys/class/net/eth0",
                           "/var/lib/tessera/node.key", "/etc/tessera/tessera.toml", "/tmp"}) {
    EXPECT_EQ(ask("n2", {"exists", path}).status.value, 0) << path;
  }
  const std::string mounts = ask("n2", {"read", "/proc/self/mountinfo"}).output;
  EXPECT_EQ(mounts.find("ext4"), std::string::npos) << mounts;
  EXPECT_EQ(mounts.find("/run/tessera-lab"), std::string::npos) << mounts;
  // The certificate is the node's own; another's key is nowhere to be seen.
  EXPECT_NE(ask("n1", {"read", "/var/lib/tessera/node.key"}).output,
            ask("n2", {"read", "/var/lib/tessera/node.key"}).output);
  EXPECT_EQ(ask("n1", {"read", "/var/lib/tessera/ca.crt"}).output,
            ask("n2", {"read", "/var/lib/tessera/ca.crt"}).output);
  ASSERT_TRUE(sys::remove_tree(marker));
}

TEST_F(LabTest, NodesReachEachOtherAndTheMachineReachesNone) {
  ASSERT_TRUE(up({"3"}).status.success());
  const auto state = read_state(name_);
  for (const NodeState& from : state->nodes) {
    for (const NodeState& to : state->nodes) {
      const Outcome sent = ask(from.name, {"send", to.address, "100000"});
      EXPECT_TRUE(sent.status.success()) << from.name << " to " << to.name << ": " << sent.output;
    }
  }
  EXPECT_EQ(sys::read_file("/proc/net/dev")->find("eth0@"), std::string::npos);
  EXPECT_EQ(sys::read_file("/proc/net/fib_trie")->find("10.77."), std::string::npos);
}

TEST_F(LabTest, RateLimitsALinkEachWay) {
  ASSERT_TRUE(up({"2", "--rate", "80mbit"}).status.success());
  const auto state = read_state(name_);
  for (int from = 0; from < 2; ++from) {
    double best = 0;
    for (int i = 0; i < 20 && best < 40; ++i) {  // once at least the machine lets it have that much
      const Outcome sent =
          ask(state->nodes[from].name, {"send", state->nodes[1 - from].address, "20000000"});
      ASSERT_TRUE(sent.status.success()) << sent.output;
      const double rate = std::atof(sent.output.c_str());
      EXPECT_LT(rate, 90) << "Mbit/s over a link of 80";
      best = std::max(best, rate);
    }
    EXPECT_GT(best, 40) << "Mbit/s over a link of 80";
  }
}

TEST_F(LabTest, CpuAndMemoryLimitsHoldInANode) {
  const Outcome made = up({"2", "--cpus", "0.25", "--memory", "256M"});
  ASSERT_TRUE(made.status.success()) << made.output;
  if (made.output.find("no CPU and memory limits") != std::string::npos) {
    GTEST_SKIP() << made.output;
  }
  const Outcome spun = ask("n2", {"spin", "1000"});
  ASSERT_TRUE(spun.status.success()) << spun.output;
  EXPECT_LT(std::atoi(spun.output.c_str()), 45) << "per cent of a CPU, with a limit of 25";
  const auto status = lab({"status", "--name", name_, "--json"});
  const auto json = nlohmann::json::parse(status.output);
  EXPECT_EQ(json["cpus"], 0.25);
  EXPECT_EQ(json["memory_bytes"], uint64_t{256} << 20);
}

TEST_F(LabTest, StatusTellsWhatRuns) {
  ASSERT_TRUE(up({"3"}).status.success());
  const auto ask_status = [&] {
    return nlohmann::json::parse(lab({"status", "--name", name_, "--json"}).output);
  };
  auto status = ask_status();
  ASSERT_EQ(status["nodes"].size(), 3U);
  for (const auto& node : status["nodes"]) {
    EXPECT_TRUE(node["tessd"]);
    EXPECT_TRUE(node["alive"]);
  }
  ASSERT_TRUE(lab({"stop", "--name", name_, "n2"}).status.success());
  ASSERT_TRUE(lab({"kill", "--name", name_, "n3"}).status.success());
  status = ask_status();
  EXPECT_TRUE(status["nodes"][0]["tessd"]);
  EXPECT_FALSE(status["nodes"][1]["tessd"]);
  EXPECT_TRUE(status["nodes"][1]["alive"]);
  EXPECT_FALSE(status["nodes"][2]["alive"]);
  ASSERT_TRUE(lab({"start", "--name", name_, "n2"}).status.success());
  EXPECT_TRUE(ask_status()["nodes"][1]["tessd"]);
  EXPECT_FALSE(lab({"start", "--name", name_, "n3"}).status.success());
  EXPECT_TRUE(lab({"down", "--name", name_}).status.success()) << "with a node gone";
}

TEST_F(LabTest, DownStopsTessdInOrderAndLeavesNothing) {
  ASSERT_TRUE(up({"3", "--cpus", "1", "--memory", "256M", "--rate", "1gbit"}).status.success());
  const auto state = read_state(name_);
  const auto namespaces = namespaces_of(*state);
  ASSERT_FALSE(traces(*state, namespaces).empty()) << "the search itself must find a living lab";
  // A hard link keeps the log readable after its directory has gone.
  const std::string log = "/run/tess-lab-test-" + name_ + ".log";
  ASSERT_EQ(::link((lab_directory(name_) + "/n2.log").c_str(), log.c_str()), 0);
  const Outcome ended = lab({"down", "--name", name_});
  ASSERT_TRUE(ended.status.success()) << ended.output;
  EXPECT_EQ(join(traces(*state, namespaces)), "");
  EXPECT_EQ(sys::read_file(log).value_or("unreadable"), "ready\nstopped in order\n");
  ASSERT_TRUE(sys::remove_tree(log));
  EXPECT_EQ(lab({"down", "--name", name_}).status.value, 1);
}

TEST_F(LabTest, TwoLabsDoNotDisturbEachOther) {
  ASSERT_TRUE(up({"2"}).status.success());
  const std::string other = name_ + "b";
  ASSERT_TRUE(
      lab({"up", "2", "--name", other, "--tessd", bin("lab_test_program")}).status.success());
  const auto first = read_state(name_);
  const auto second = read_state(other);
  EXPECT_NE(first->subnet, second->subnet);
  const std::string listed = lab({"list"}).output;
  EXPECT_NE(listed.find(name_ + "\n"), std::string::npos);
  EXPECT_NE(listed.find(other + "\n"), std::string::npos);
  EXPECT_FALSE(ask("n1", {"send", second->nodes[1].address, "1000"}).status.success());
  const auto namespaces = namespaces_of(*second);
  ASSERT_TRUE(lab({"down", "--name", other}).status.success());
  EXPECT_EQ(join(traces(*second, namespaces)), "");
  EXPECT_TRUE(ask("n1", {"send", first->nodes[1].address, "1000"}).status.success());
  EXPECT_EQ(ask("n1", {"exists", "/etc/tessera/tessera.toml"}).status.value, 0);
  // The same name twice is refused and harms nothing.
  const Outcome again = up({"2"});
  EXPECT_EQ(again.status.value, 1);
  EXPECT_NE(again.output.find("up already"), std::string::npos) << again.output;
  EXPECT_TRUE(ask("n1", {"send", first->nodes[1].address, "1000"}).status.success());
}

struct Murder {
  bool supervisor;
  bool keeper;
};

class LabMurder : public LabTest, public testing::WithParamInterface<Murder> {};

TEST_P(LabMurder, LeavesNothing) {
  ASSERT_TRUE(up({"3", "--cpus", "1", "--memory", "256M"}).status.success());
  const auto state = read_state(name_);
  const auto namespaces = namespaces_of(*state);
  // Something at work in a node, which must go too.
  auto worker = sys::Process::spawn(
      command({"exec", "--name", name_, "n2", "lab_test_program", "spin", "600000"}));
  ASSERT_TRUE(worker);
  const auto keeper = state->keeper.open();
  const auto supervisor = state->supervisor.open();
  ASSERT_TRUE(keeper && supervisor);
  if (GetParam().keeper) {
    ASSERT_TRUE(keeper->signal(SIGKILL));
  }
  if (GetParam().supervisor) {
    ASSERT_TRUE(supervisor->signal(SIGKILL));
  }
  ASSERT_TRUE(worker->wait(sys::after(seconds(60))));
  if (GetParam().keeper && GetParam().supervisor) {
    ASSERT_TRUE(supervisor->wait_gone(sys::after(seconds(60))));
    // Nobody is left to sweep: the next command does.
    for (const NodeState& node : state->nodes) {
      const auto init = node.init.open();
      EXPECT_TRUE(!init || init->wait_gone(sys::after(seconds(60))));
    }
    EXPECT_TRUE(lab({"list"}).status.success());
  }
  EXPECT_EQ(join(traces_after(*state, namespaces, seconds(60))), "");
}

INSTANTIATE_TEST_SUITE_P(All, LabMurder,
                         testing::Values(Murder{true, false}, Murder{false, true},
                                         Murder{true, true}),
                         [](const auto& param) {
                           return std::string(param.param.supervisor ? "supervisor" : "") +
                                  (param.param.keeper ? "keeper" : "");
                         });

TEST_F(LabTest, KilledUpLeavesNothing) {
  // Killed at many moments of its life, from before anything exists to after all does.
  for (const int delay : {1, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 200}) {
    auto upper = sys::Process::spawn(
        command({"up", "4", "--name", name_, "--cpus", "1", "--tessd", bin("lab_test_program")}));
    ASSERT_TRUE(upper);
    const auto early = upper->wait(sys::after(milliseconds(delay)));
    if (early) {
      break;  // it was done before we struck
    }
    const auto state = read_state(name_);
    ASSERT_TRUE(upper->signal(delay % 3 == 0 ? SIGINT : SIGKILL));
    (void)upper->wait();
    const std::string directory = lab_directory(name_);
    const auto ready = read_state(name_);
    if (ready && ready->ready) {
      break;  // it had confirmed: this is a lab that is up
    }
    const auto deadline = sys::after(seconds(60));
    while (std::filesystem::exists(directory) && std::chrono::steady_clock::now() < deadline) {
      ::usleep(5'000);
    }
    EXPECT_FALSE(std::filesystem::exists(directory)) << "killed after " << delay << " ms";
    if (state) {
      EXPECT_EQ(join(traces_after(*state, {}, seconds(60))), "") << "after " << delay << " ms";
      for (const ProcessName& each : {state->keeper, state->supervisor}) {
        const auto process = each.open();
        EXPECT_TRUE(!process || process->wait_gone(sys::after(seconds(60))));
      }
    }
  }
}

TEST_F(LabTest, FailingTessdFailsTheLabWithItsWordsAndLeavesNothing) {
  const Outcome made = lab({"up", "2", "--name", name_, "--tessd", "/bin/false"});
  EXPECT_EQ(made.status.value, 1);
  EXPECT_NE(made.output.find("tessd of n1 ended (exited with status 1)"), std::string::npos)
      << made.output;
  EXPECT_FALSE(std::filesystem::exists(lab_directory(name_)));
  EXPECT_EQ(lab({"up", "2", "--name", name_, "--tessd", "/no/such"}).status.value, 1);
  EXPECT_EQ(lab({"up", "0", "--name", name_}).status.value, 2);
  EXPECT_EQ(lab({"up", "--memory", "lots"}).status.value, 2);
  EXPECT_FALSE(std::filesystem::exists(lab_directory(name_)));
}

}  // namespace
}  // namespace tess::lab
