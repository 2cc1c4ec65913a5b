#include "wire/agent_process.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tess::wire {
namespace {

TEST(AgentProcess, HexRoundTrip) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes.push_back(static_cast<char>(i));
  }
  EXPECT_EQ(from_hex(to_hex(bytes)), bytes);
  EXPECT_EQ(to_hex(std::string("\x0a\xff", 2)), "0aff");
  EXPECT_EQ(from_hex("0AFF"), std::string("\x0a\xff", 2));
}

TEST(AgentProcess, BadHexIsEmpty) {
  EXPECT_EQ(from_hex("0"), "");
  EXPECT_EQ(from_hex("0g"), "");
  EXPECT_EQ(from_hex("0x"), "");
}

TEST(AgentProcess, DirectoriesComeFromTheEnvironment) {
  ::setenv("TESS_RUN_DIR", "/somewhere/run", 1);
  EXPECT_EQ(agents_socket(), "/somewhere/run/agents.sock");
  EXPECT_EQ(control_socket(), "/somewhere/run/control.sock");
  ::unsetenv("TESS_RUN_DIR");
  EXPECT_EQ(run_dir(), "/run/tessera");
}

}  // namespace
}  // namespace tess::wire
