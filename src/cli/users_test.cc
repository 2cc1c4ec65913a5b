#include "cli/users.h"

#include <gtest/gtest.h>

#include <csignal>
#include <nlohmann/json.hpp>

namespace tess::cli {
namespace {

TEST(Users, NamesOfProcesses) {
  nlohmann::json processes = {{{"uid", 0}}, {{"uid", 3999999}}};
  add_users(processes);
  EXPECT_EQ(processes[0]["user"], "root");
  EXPECT_EQ(processes[1]["user"], "3999999");
}

TEST(Signals, EveryWayToNameOne) {
  for (const char* text : {"TERM", "SIGTERM", "sigterm", "15"}) {
    EXPECT_EQ(signal_number(text), SIGTERM) << text;
  }
  EXPECT_EQ(signal_number("0"), 0);
  EXPECT_EQ(signal_number("64"), 64);
  for (const char* text : {"", "SIG", "65", "-1", "100", "TERMINATE", "1 "}) {
    EXPECT_EQ(signal_number(text), -1) << text;
  }
  EXPECT_EQ(signal_name(SIGKILL), "KILL");
  EXPECT_EQ(signal_name(40), "40");
}

}  // namespace
}  // namespace tess::cli
