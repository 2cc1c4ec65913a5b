#include "node/load_meter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "node/process_meter.h"
#include "sys/files.h"

namespace tess::node {
namespace {

class Folder {
 public:
  Folder() { EXPECT_NE(::mkdtemp(path_.data()), nullptr); }
  ~Folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }
  void put(const std::string& name, const std::string& text) const {
    EXPECT_TRUE(sys::make_directories(std::filesystem::path(path_ + "/" + name).parent_path()));
    EXPECT_TRUE(sys::write_file(path_ + "/" + name, text));
  }

 private:
  std::string path_ = "/tmp/tess-meter-XXXXXX";
};

TEST(LoadMeter, QuotasOfBothVersionsOfControlGroupsAreRead) {
  const Folder root;
  root.put("cpu/a/cpu.cfs_quota_us", "50000\n");
  root.put("cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("4:memory:/a\n1:cpu:/a\n", root.path()), 0.5);
  root.put("unified/b/cpu.max", "150000 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/b\n", root.path()), 1.5);
  root.put("unified/c/cpu.max", "max 100000\n");
  EXPECT_EQ(cgroup_cpus("0::/c\n", root.path()), std::nullopt);
  root.put("cpu/d/cpu.cfs_quota_us", "-1\n");
  root.put("cpu/d/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(cgroup_cpus("1:cpu:/d\n", root.path()), std::nullopt);
  EXPECT_EQ(cgroup_cpus("1:cpu:/d\n0::/b\n1:cpu:/a\n", root.path()), 0.5);
}

TEST(LoadMeter, PressureAndCoresAreParsed) {
  EXPECT_FLOAT_EQ(pressure_of("some avg10=12.50 avg60=0 avg300=0 total=1\nfull …"), 0.125F);
  EXPECT_EQ(pressure_of(""), 0);
  const auto smt = count_cores({{0, "0-1\n"}, {1, "0-1\n"}, {2, "2-3\n"}, {3, "2-3\n"}});
  EXPECT_EQ(smt.cores, 2);
  EXPECT_EQ(smt.threads, 4);
  EXPECT_EQ(count_cores({}).cores, 1);
}

TEST(LoadMeter, TheSpeedIsMeasuredOnceForAProcessorModel) {
  const Folder dir;
  const uint32_t speed = cached_speed(dir.path());
  EXPECT_GT(speed, 0u);
  auto text = sys::read_file(dir.path() + "/speed");
  ASSERT_TRUE(text);
  text->replace(0, text->find('\n'), "4711");
  dir.put("speed", *text);
  EXPECT_EQ(cached_speed(dir.path()), 4711u);
  dir.put("speed", "4711\nmodel name: another\n");
  EXPECT_NE(cached_speed(dir.path()), 4711u);
}

TEST(LoadMeter, AThreadThatSpinsIsSeenUnlessItsProcessIsLeftOut) {
  const Folder dir;
  dir.put("speed", "1000\n");
  LoadMeter meter(dir.path());
  std::atomic<bool> stop{false};
  std::thread spinner([&] {
    while (!stop) {
    }
  });
  // Until it has run or waited for a second by its own account; the clock of the calls is as real.
  const auto clock = [] {
    return cluster::Time(std::chrono::duration_cast<cluster::Duration>(
        std::chrono::steady_clock::now().time_since_epoch()));
  };
  (void)meter.demand_of_others(clock(), {});
  LoadMeter without(dir.path());
  (void)without.demand_of_others(clock(), {{::getpid(), true}});
  // The two look one after the other: what else runs may begin or end in between, not always.
  double seen = 0;
  for (int rounds = 0; rounds < 20 && seen <= 0.3; ++rounds) {
    const auto begin = *process_demand_ns(::getpid());
    while (*process_demand_ns(::getpid()) - begin < 1'000'000'000) {
      std::this_thread::yield();
    }
    const double all = meter.demand_of_others(clock(), {});
    seen = all - without.demand_of_others(clock(), {{::getpid(), true}});
  }
  stop = true;
  spinner.join();
  EXPECT_GT(seen, 0.3);
  const auto load = meter.measure();
  EXPECT_GT(load.memory_bytes, load.memory_free_bytes);
  EXPECT_GE(load.threads, load.cores);
}

}  // namespace
}  // namespace tess::node
