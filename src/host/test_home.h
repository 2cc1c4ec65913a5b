// For tests: a home without agents. A traced child whose image can be taken, and a deputy that
// answers requests on an unencrypted channel.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "stub/abi.h"
#include "sys/fd.h"

namespace tess::wire {
class ProcessImage;
}

namespace tess::host {

// System calls of test programs: nothing of the C library may be in between, as its state belongs
// to the test.
long raw_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0);

// What a test program takes for its parent's pid, and acts on. No process has it: it asks at home
// first, where the kernel answers.
inline constexpr long kNoPid = 1 << 22;  // PID_MAX_LIMIT
inline constexpr long kEndNow = kNoPid + 1, kForkNow = kNoPid + 2;

// A child that runs `program` and is stopped by ptrace wherever it was. Killed at the end.
class TestProcess {
 public:
  // `program` says that it is under way by setting *started.
  explicit TestProcess(const std::function<void(std::atomic<int>* started)>& program);
  ~TestProcess();
  pid_t pid() const { return pid_; }
  // As home would make it. The leader has slot 3, other threads 4 and on.
  void fill_image(wire::ProcessImage& image, bool hash_files) const;
  const std::vector<pid_t>& threads() const { return threads_; }

 private:
  void add_thread(pid_t tid, uint32_t slot, wire::ProcessImage& image) const;

  pid_t pid_ = -1;
  std::vector<pid_t> threads_;  // the leader first
};

// The home end of one thread's channel. Answers getppid with `parent`, takes what is written,
// counts everything.
class TestDeputy {
 public:
  explicit TestDeputy(sys::Fd channel);
  ~TestDeputy();
  // Waits until the body has ended its channel. False: it did not in time.
  bool wait_end(int seconds);
  std::string written() const;
  int exit_status() const { return exit_status_; }
  int requests() const { return requests_; }
  std::set<uint32_t> seen() const;  // system calls and operations; after wait_end
  void set_parent(int64_t parent) { parent_ = parent; }
  // The pid that the next fork gets; getppid is answered with 0 from then on.
  void set_child(int32_t child) { child_ = child; }

 private:
  void run();
  bool read_plain(void* to, size_t n);
  void reply(const stub::Request& request, int64_t result);

  sys::Fd channel_;
  std::string pending_;  // unpacked, unread
  std::string written_;
  std::set<uint32_t> seen_;
  std::atomic<int64_t> parent_{0};
  std::atomic<int32_t> child_{0};
  std::atomic<int> exit_status_{-1}, requests_{0};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace tess::host
