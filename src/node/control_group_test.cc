#include "node/control_group.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "sys/files.h"

namespace tess::node {
namespace {

class ControlGroup : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(::mkdtemp(root_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void put(const std::string& name, const std::string& text) const {
    ASSERT_TRUE(sys::make_directories(std::filesystem::path(root_ + "/" + name).parent_path()));
    ASSERT_TRUE(sys::write_file(root_ + "/" + name, text + "\n"));
  }
  // "limit free", or "none".
  std::string memory(const std::string& membership) const {
    const auto found = cgroup_memory(membership, root_);
    return found ? std::to_string(found->limit) + " " + std::to_string(found->free) : "none";
  }

  std::string root_ = "/tmp/tess-cgroup-XXXXXX";
};

TEST_F(ControlGroup, MemoryOfVersionOne) {
  put("memory/v1/memory.limit_in_bytes", "1000");
  put("memory/v1/memory.usage_in_bytes", "400");
  put("memory/memory.limit_in_bytes", "9223372036854771712");
  put("memory/memory.usage_in_bytes", "70000");
  EXPECT_EQ(memory("3:cpu,memory:/v1\n"), "1000 600");
  put("memory/v1/memory.stat", "cache 300\ninactive_file 1\ntotal_inactive_file 250");
  EXPECT_EQ(memory("3:cpu,memory:/v1\n"), "1000 850");
  EXPECT_EQ(memory("5:cpu:/v1\nrubbish\n7\n"), "none");
}

TEST_F(ControlGroup, MemoryOfVersionTwo) {
  put("a/memory.max", "max");
  put("a/memory.high", "max");
  put("a/memory.current", "100");
  EXPECT_EQ(memory("0::/a\n"), "none");
  put("a/memory.max", "500");
  EXPECT_EQ(memory("0::/a\n"), "500 400");
  put("a/memory.high", "300");
  EXPECT_EQ(memory("0::/a\n"), "300 200");
  put("a/memory.stat", "anon 20\ninactive_file 60\nactive_file 20");
  EXPECT_EQ(memory("0::/a\n"), "300 260");
  put("a/memory.current", "900");  // over the high mark: slowed down, not ended
  EXPECT_EQ(memory("0::/a\n"), "300 0");
  put("unified/b/memory.max", "80");  // mounted beside version 1
  put("unified/b/memory.current", "30");
  EXPECT_EQ(memory("0::/b\n"), "80 50");
}

TEST_F(ControlGroup, TheLeastOfAllLevelsCounts) {
  put("a/memory.max", "1000");
  put("a/memory.current", "950");  // others of the same slice
  put("a/b/memory.max", "max");
  put("a/b/memory.current", "20");
  put("a/b/c/memory.max", "600");
  put("a/b/c/memory.current", "10");
  EXPECT_EQ(memory("0::/a/b/c\n"), "600 50");
  EXPECT_EQ(memory("0::/a/b\n"), "1000 50");
  put("memory/v1/memory.limit_in_bytes", "700");
  put("memory/v1/memory.usage_in_bytes", "690");
  EXPECT_EQ(memory("0::/a/b/c\n4:memory:/v1\n"), "600 10");
}

// A container sees its own group as the top, under whatever name its machine knows it.
TEST_F(ControlGroup, InAContainerTheTopIsItsOwn) {
  put("memory.max", "500");
  put("memory.current", "100");
  put("cpu.max", "50000 100000");
  for (const char* membership :
       {"0::/\n", "0::/docker/0123\n", "0::/../..\n", "0::/../other/x\n"}) {
    EXPECT_EQ(memory(membership), "500 400") << membership;
    EXPECT_EQ(cgroup_cpus(membership, root_), 0.5) << membership;
  }
}

TEST_F(ControlGroup, QuotasOfBothVersions) {
  put("cpu/a/cpu.cfs_quota_us", "50000");
  put("cpu/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_cpus("4:memory:/a\n1:cpu:/a\n", root_), 0.5);
  put("cpu,cpuacct/a/cpu.cfs_quota_us", "30000");
  put("cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_cpus("1:cpu,cpuacct:/a\n", root_), 0.3);
  put("unified/b/cpu.max", "150000 100000");
  EXPECT_EQ(cgroup_cpus("0::/b\n", root_), 1.5);
  put("unified/c/cpu.max", "max 100000");
  EXPECT_EQ(cgroup_cpus("0::/c\n", root_), std::nullopt);
  put("cpu/d/cpu.cfs_quota_us", "-1");
  put("cpu/d/cpu.cfs_period_us", "100000");
  EXPECT_EQ(cgroup_cpus("1:cpu:/d\n", root_), std::nullopt);
  EXPECT_EQ(cgroup_cpus("1:cpu:/d\n0::/b\n1:cpu:/a\n", root_), 0.5);
  put("unified/b/e/f/cpu.max", "max 100000");  // a child may have no limit of its own
  EXPECT_EQ(cgroup_cpus("0::/b/e/f\n", root_), 1.5);
  put("unified/b/e/cpu.max", "25000 100000");
  EXPECT_EQ(cgroup_cpus("0::/b/e/f\n", root_), 0.25);
}

}  // namespace
}  // namespace tess::node
