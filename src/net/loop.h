// Loop: one thread's event loop, with timers, descriptor watches and signals on it. The one place
// where asio is used. All calls but post() and stop() are made on the loop's thread; callbacks run
// on it. A Timer, FdWatch or SignalWatch calls back no more once destroyed, and may be destroyed in
// its own callback. Nothing in a callback may block.
#pragma once

#include <chrono>
#include <functional>
#include <initializer_list>
#include <memory>

namespace tess::net {

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run();      // until stop()
  void stop();     // any thread
  void restart();  // after stop(), before run() again
  // Runs `task` soon, after what is running now; any thread.
  void post(std::function<void()> task);

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

class Timer {
 public:
  explicit Timer(Loop& loop);
  ~Timer();
  // Once, after `delay`; replaces what was set before.
  void start(std::chrono::milliseconds delay, std::function<void()> task);
  void stop();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Level-triggered readiness of a descriptor that somebody else owns and that outlives the watch.
class FdWatch {
 public:
  FdWatch(Loop& loop, int fd, std::function<void()> readable, std::function<void()> writable);
  ~FdWatch();
  void want_read(bool on);
  void want_write(bool on);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Signals as events.
class SignalWatch {
 public:
  SignalWatch(Loop& loop, std::initializer_list<int> signals, std::function<void(int)> task);
  ~SignalWatch();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tess::net
