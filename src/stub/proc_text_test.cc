// The text of /proc/PID files that a body reads: made from what its host and its home say.
#include "stub/proc_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <string_view>

namespace tess::stub {
namespace {

Text text(std::string_view s) {
  return {s.data(), s.data() + s.size()};
}

std::string made(ProcFile file, std::string_view host, std::string_view home,
                 std::string_view home_maps, const ProcFacts& facts = {}) {
  std::string out;
  const TextSink sink{&out, [](void* context, const char* from, size_t n) {
                        static_cast<std::string*>(context)->append(from, n);
                      }};
  write_proc_text(file, text(host), text(home), text(home_maps), facts, sink);
  return out;
}

ProcFacts facts_with_region() {
  ProcFacts facts;
  facts.region_base = 0x2b0000000000;
  facts.region_data_kb = 1088;
  return facts;
}

constexpr std::string_view kHostMaps =
    "2b0000000000-2b0000100000 r-xp 00000000 00:00 0 \n"
    "2b0000100000-2b0080000000 ---p 00000000 00:00 0 \n"
    "55e0a0000000-55e0a0002000 r-xp 00001000 00:01 77                         "
    "/memfd:tess:fe:0:247134 (deleted)\n"
    "55e0a0002000-55e0a0003000 rw-p 00000000 00:00 0                          [heap]\n"
    "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    "7f0000001000-7f0000002000 r--p 00000000 00:00 0 \n";
constexpr std::string_view kHomeMaps =
    "55e0a0000000-55e0a0002000 r-xp 00001000 fe:00 247134                     /usr/bin/my prog\n"
    "7f0000001000-7f0000002000 r--p 00000000 00:00 0                          [vdso]\n";
constexpr std::string_view kMaps =
    "55e0a0000000-55e0a0002000 r-xp 00001000 fe:00 247134                     /usr/bin/my prog\n"
    "55e0a0002000-55e0a0003000 rw-p 00000000 00:00 0                          [heap]\n"
    "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    "7f0000001000-7f0000002000 r--p 00000000 00:00 0                          [vdso]\n";

TEST(ProcText, MapsAreTheBodysWithTheNamesOfHomesFiles) {
  EXPECT_EQ(made(kProcMaps, kHostMaps, "", kHomeMaps, facts_with_region()), kMaps);
}

TEST(ProcText, AFileThatHomeHasNoLongerMappedHasNoName) {
  const std::string maps = made(kProcMaps, kHostMaps, "", "", facts_with_region());
  EXPECT_NE(maps.find("55e0a0000000-55e0a0002000 r-xp 00001000 fe:00 247134 \n"),
            std::string::npos);
}

TEST(ProcText, MemoryThatIsSharedHasHomesName) {
  constexpr std::string_view kHost =
      "7f0000000000-7f0000001000 rw-s 00000000 00:01 90                         "
      "/memfd:tess-a:0:1:9223372036854775817 (deleted)\n"
      "7f0000001000-7f0000002000 rw-s 00000000 00:01 91                         "
      "/memfd:tess-a:0:1:9 (deleted)\n"
      "7f0000002000-7f0000003000 rw-s 00001000 00:01 92                         "
      "/memfd:tess-s:fe:0:247134 (deleted)\n";
  constexpr std::string_view kHome =
      "7f0000000000-7f0000001000 rw-s 00000000 00:01 9                          "
      "/SYSV0000002a (deleted)\n"
      "7f0000001000-7f0000002000 rw-s 00000000 00:01 9                          "
      "/dev/zero (deleted)\n"
      "7f0000002000-7f0000003000 rw-s 00001000 fe:00 247134                     /tmp/data\n";
  EXPECT_EQ(made(kProcMaps, kHost, "", kHome), kHome);
}

constexpr std::string_view kHostSmaps =
    "2b0000000000-2b0000100000 r-xp 00000000 00:00 0 \n"
    "Size:               1024 kB\nRss:                  52 kB\nPss:                  52 "
    "kB\nVmFlags: rd ex\n"
    "55e0a0000000-55e0a0002000 r-xp 00001000 00:01 77                         "
    "/memfd:tess:fe:0:247134 (deleted)\n"
    "Size:                  8 kB\nRss:                   8 kB\nPss:                   8 "
    "kB\nVmFlags: rd ex\n"
    "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n"
    "Size:                  4 kB\nRss:                   4 kB\nPss:                   4 "
    "kB\nVmFlags: rd wr\n";

TEST(ProcText, SmapsLoseTheRegionAndItsNumbers) {
  const std::string smaps = made(kProcSmaps, kHostSmaps, "", kHomeMaps, facts_with_region());
  EXPECT_TRUE(smaps.starts_with(kMaps.substr(0, kMaps.find('\n') + 1)));
  EXPECT_EQ(smaps.find("52 kB"), std::string::npos);
  EXPECT_NE(smaps.find("VmFlags: rd wr\n"), std::string::npos);
}

TEST(ProcText, ALineOfTheHostsMapsTellsTheFile) {
  FileRange range;
  const std::string_view line = kHostMaps.substr(kHostMaps.find("55e0a0000000"));
  ASSERT_TRUE(parse_file_range(text(line.substr(0, line.find('\n'))), range));
  EXPECT_EQ(range.end - range.start, 0x2000U);
  EXPECT_EQ(range.offset, 0x1000U);
  EXPECT_EQ(range.major, 0xfeU);
  EXPECT_EQ(range.inode, 247134U);
  EXPECT_EQ(std::string_view(range.perms, 4), "r-xp");
  EXPECT_FALSE(parse_file_range(text("7f0000000000-7f0000001000 rw-p 00000000 00:00 0 "), range));
}

TEST(ProcText, TheRollupIsTheSumWithoutTheRegion) {
  const std::string home =
      "55e0a0000000-7ffc00000000 ---p 00000000 00:00 0                          [rollup]\n"
      "Rss:                 999 kB\nPss:                 999 kB\nPss_Anon:            999 "
      "kB\nPss_File:            999 kB\n";
  EXPECT_EQ(made(kProcSmapsRollup, kHostSmaps, home, kHomeMaps, facts_with_region()),
            "55e0a0000000-7ffc00000000 ---p 00000000 00:00 0                          [rollup]\n"
            "Rss:                  12 kB\nPss:                  12 kB\nPss_Anon:              4 "
            "kB\nPss_File:              8 kB\n");
}

TEST(ProcText, StatusTakesMemoryFromTheHostAndIdentityFromHome) {
  const std::string home =
      "Name:\tprog\nState:\tS (sleeping)\nPid:\t12\nTracerPid:\t99\nFDSize:\t8192\nVmPeak:\t    "
      "1000 kB\nVmSize:\t"
      "    1000 kB\nVmRSS:\t      10 kB\nVmData:\t      10 "
      "kB\nThreads:\t3\nSigBlk:\t0000000000004000\n";
  const std::string host =
      "Name:\tx\nState:\tR (running)\nPid:\t4711\nTracerPid:\t0\nFDSize:\t64\nVmPeak:\t 2100000 "
      "kB\nVmSize:\t"
      " 2099152 kB\nVmRSS:\t    5000 kB\nVmData:\t    2088 "
      "kB\nThreads:\t2\nSigBlk:\t0000000000000000\n";
  EXPECT_EQ(made(kProcStatus, host, home, "", facts_with_region()),
            "Name:\tprog\nState:\tR (running)\nPid:\t12\nTracerPid:\t0\nFDSize:\t256\nVmPeak:\t    "
            "2848 kB\nVmSize:\t"
            "    2000 kB\nVmRSS:\t    5000 kB\nVmData:\t    1000 "
            "kB\nThreads:\t2\nSigBlk:\t0000000000004000\n");
}

TEST(ProcText, AStoppedProcessIsStoppedWhateverItsBodyDoes) {
  const std::string status =
      made(kProcStatus, "State:\tS (sleeping)\n", "State:\tT (stopped)\n", "", facts_with_region());
  EXPECT_EQ(status, "State:\tT (stopped)\n");
}

TEST(ProcText, StatMixesTheFieldsByWhatTheyTell) {
  const std::string home =
      "12 (a) b) S 1 12 12 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 100 1000 10 99\n";
  const std::string host =
      "4711 (a) R 9 9 9 0 -1 77 11 12 13 14 150 16 17 18 20 0 2 0 900 2147487744 33 98\n";
  ProcFacts facts = facts_with_region();
  facts.cpu_ticks = 50;
  facts.children_ticks_user = 1000;
  EXPECT_EQ(made(kProcStat, host, home, "", facts),
            "12 (a) b) R 1 12 12 0 -1 4194304 11 2 13 4 200 16 1007 8 20 0 2 0 100 4096 33 99\n");
}

// In milliseconds; one search from the start for each line would take half a minute.
TEST(ProcText, ManyMappingsAreNoMatterOfMinutes) {
  constexpr std::chrono::seconds kMost(10);
  std::string maps;
  for (uint64_t at = 0x7f0000000000; at < 0x7f0000000000 + 40000 * 0x1000; at += 0x1000) {
    maps += fmt::format("{:x}-{:x} {} 00000000 00:00 0 \n", at, at + 0x1000,
                        (at & 0x1000) != 0 ? "---p" : "rw-p");
  }
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(made(kProcMaps, maps, "", maps), maps);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kMost);
}

TEST(ProcText, BrokenTextDoesNoHarm) {
  for (const ProcFile file : {kProcMaps, kProcSmaps, kProcSmapsRollup, kProcNumaMaps, kProcStat,
                              kProcStatm, kProcStatus}) {
    for (const std::string_view broken : {"", "\n", "zz", "55e0-", "55e0a0000000-55e0a0002000",
                                          "1-2 r-xp", "Key", "Key:", ")", "1 (", "a-b c d e:f g"}) {
      made(file, broken, broken, broken, facts_with_region());
    }
  }
}

TEST(ProcPath, NamesProcessesAndThreads) {
  const ProcPath maps = parse_proc_path(text("/proc/123/maps"));
  EXPECT_EQ(maps.file, kProcMaps);
  EXPECT_EQ(maps.pid, 123);
  EXPECT_EQ(maps.tid, 0);
  const ProcPath of_thread = parse_proc_path(text("/mnt/proc/123/task/125/stat"));
  EXPECT_EQ(of_thread.file, kProcStat);
  EXPECT_EQ(of_thread.pid, 123);
  EXPECT_EQ(of_thread.tid, 125);
  EXPECT_EQ(parse_proc_path(text("/proc/123/task")).file, kProcTaskDir);
  EXPECT_EQ(parse_proc_path(text("/proc/meminfo")).file, kProcNone);
  EXPECT_EQ(parse_proc_path(text("/proc/sys/net/12x/maps")).file, kProcNone);
  EXPECT_EQ(parse_proc_path(text("")).file, kProcNone);
  EXPECT_EQ(parse_proc_path(text("maps")).file, kProcNone);
}

}  // namespace
}  // namespace tess::stub
