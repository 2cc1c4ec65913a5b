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

TEST(LoadMeter, AQuotaLimitsCoresThreadsAndSpeed) {
  cluster::LoadRecord machine;
  machine.cores = 4;
  machine.threads = 8;
  machine.speed = 1000;
  const auto within = [&](std::optional<double> quota) {
    cluster::LoadRecord load = machine;
    keep_within(quota, load);
    return std::tuple(load.cores, load.threads, load.speed);
  };
  EXPECT_EQ(within(std::nullopt), std::tuple(4, 8, 1000U));
  EXPECT_EQ(within(8), std::tuple(4, 8, 1000U));
  EXPECT_EQ(within(5.5), std::tuple(4, 6, 1000U));
  EXPECT_EQ(within(2), std::tuple(2, 2, 1000U));
  EXPECT_EQ(within(1.5), std::tuple(2, 2, 750U));
  EXPECT_EQ(within(0.25), std::tuple(1, 1, 250U));
  EXPECT_EQ(within(1e-9), std::tuple(1, 1, 1U));
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
