#include "node/proc_info.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "node/job_id.h"

namespace tess::node {
namespace {

TEST(ProcInfo, ThisProcess) {
  const auto facts = process_facts(::getpid());
  ASSERT_TRUE(facts);
  ASSERT_TRUE(*facts);
  EXPECT_EQ((*facts)->thread_group, ::getpid());
  EXPECT_EQ((*facts)->parent, ::getppid());
  EXPECT_EQ((*facts)->uids[0], ::getuid());
  EXPECT_EQ((*facts)->state, 'R');
  EXPECT_GE((*facts)->threads, 1);
}

TEST(ProcInfo, NoSuchProcessIsAnAnswer) {
  const auto facts = process_facts(1 << 29);
  ASSERT_TRUE(facts);
  EXPECT_FALSE(*facts);
}

TEST(ProcInfo, NamesWithSpaces) {
  const auto facts = parse_process_status("Name:\ta b\nUid:\t1\t2\t3\t4\nTracerPid:\t9\n");
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->name, "a b");
  EXPECT_EQ(facts->uids, (std::array<uid_t, 4>{1, 2, 3, 4}));
  EXPECT_EQ(facts->tracer, 9);
  EXPECT_FALSE(parse_process_status("Name:\tx\n"));
}

TEST(ProcInfo, OnlyTheOwnerAndRoot) {
  ProcessFacts process;
  process.uids = {1000, 1000, 1000, 1000};
  EXPECT_TRUE(may_control(0, process));
  EXPECT_TRUE(may_control(1000, process));
  EXPECT_FALSE(may_control(1001, process));
  process.uids[1] = 0;  // set-user-id root: not its starter's any more
  EXPECT_FALSE(may_control(1000, process));
  EXPECT_FALSE(may_control(0x7fffffff, process));
}

TEST(ProcInfo, MachineFacts) {
  const auto facts = machine_facts();
  ASSERT_TRUE(facts);
  EXPECT_GT(facts->cores, 0U);
  EXPECT_GT(facts->memory_bytes, 1U << 20);
  EXPECT_LE(facts->memory_free_bytes, facts->memory_bytes);
  EXPECT_FALSE(facts->kernel.empty());
}

TEST(JobIds, AreDistinctWithRandomUpperHalf) {
  JobIds ids;
  const uint64_t a = ids.next();
  const uint64_t b = ids.next();
  EXPECT_NE(a >> 32, 0U);
  EXPECT_NE(a >> 32, b >> 32);
  EXPECT_EQ(static_cast<uint32_t>(a) + 1, static_cast<uint32_t>(b));
  EXPECT_EQ(job_text(0x1234), "0000000000001234");
}

}  // namespace
}  // namespace tess::node
