#include "lab/spec.h"

#include <gtest/gtest.h>

namespace tess::lab {
namespace {

TEST(Spec, ParsesSizes) {
  EXPECT_EQ(*parse_bytes("512M"), uint64_t{512} << 20);
  EXPECT_EQ(*parse_bytes("1.5G"), uint64_t{3} << 29);
  EXPECT_EQ(*parse_bytes("64KiB"), 65536U);
  EXPECT_EQ(*parse_bytes("64kb"), 65536U);
  EXPECT_EQ(*parse_bytes("100"), 100U);
  EXPECT_EQ(*parse_bytes("7B"), 7U);
  for (const char* wrong :
       {"", "M", "-1M", "1X", "1MM", "1e400", "nan", "inf", "1 M", "9999999T"}) {
    EXPECT_FALSE(parse_bytes(wrong)) << wrong;
  }
}

TEST(Spec, ParsesRates) {
  EXPECT_EQ(*parse_bits("100mbit"), 100'000'000U);
  EXPECT_EQ(*parse_bits("1Gbit"), 1'000'000'000U);
  EXPECT_EQ(*parse_bits("2.5g"), 2'500'000'000U);
  EXPECT_EQ(*parse_bits("64000"), 64'000U);
  EXPECT_EQ(*parse_bits("64kbps"), 64'000U);
  for (const char* wrong : {"", "fast", "1mbyte", "bit", "1bitbit"}) {
    EXPECT_FALSE(parse_bits(wrong)) << wrong;
  }
}

TEST(Spec, RefusesWhatCannotBe) {
  Spec spec;
  EXPECT_TRUE(check_spec(spec));
  for (const char* name : {"", "../etc", "a b", ".x", "-x", "a/b"}) {
    spec.name = name;
    EXPECT_FALSE(check_spec(spec)) << name;
  }
  spec = {};
  for (const int count : {0, -1, kMaxNodes + 1}) {
    spec.node_count = count;
    EXPECT_FALSE(check_spec(spec)) << count;
  }
  spec = {};
  spec.cpus = 0.0;
  EXPECT_FALSE(check_spec(spec));
  spec = {};
  spec.memory_bytes = 1000;
  EXPECT_FALSE(check_spec(spec));
  spec = {};
  spec.rate_bits = 1;
  EXPECT_FALSE(check_spec(spec));
}

TEST(Spec, ConfigNamesTheNodeAndAllOthers) {
  Spec spec;
  spec.node_count = 3;
  EXPECT_EQ(node_config(spec, 5, 2),
            "name = \"n2\"\n"
            "listen = \"10.77.5.2:7117\"\n"
            "\n[[node]]\nname = \"n1\"\naddress = \"10.77.5.1:7117\"\n"
            "\n[[node]]\nname = \"n3\"\naddress = \"10.77.5.3:7117\"\n");
  spec.balance = false;
  EXPECT_NE(node_config(spec, 5, 2).find("\"\nbalance = false\n\n[[node]]"), std::string::npos);
}

TEST(Spec, BucketsGrowWithTheRateButAreNeverTiny) {
  EXPECT_EQ(bucket_for(64'000).burst_bytes, 16U << 10);
  EXPECT_EQ(bucket_for(1'000'000'000).burst_bytes, 625'000U);
  EXPECT_EQ(bucket_for(1'000'000'000).queue_bytes, 6'250'000U);
}

}  // namespace
}  // namespace tess::lab
