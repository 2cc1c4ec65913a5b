#include "net/loop.h"

#define ASIO_STANDALONE
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>

#include "base/check.h"

namespace tess::net {

struct Loop::Impl {
  asio::io_context context{1};
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

void Loop::run() {
  const auto guard = asio::make_work_guard(impl_->context);
  impl_->context.run();
}

void Loop::stop() {
  impl_->context.stop();
}

void Loop::restart() {
  impl_->context.restart();
}

void Loop::post(std::function<void()> task) {
  asio::post(impl_->context, std::move(task));
}

// The handlers hold the state weakly: destroying the owner ends the callbacks, whatever asio still
// has queued.
struct Timer::State {
  explicit State(Loop& loop) : timer(loop.impl().context) {}
  asio::steady_timer timer;
  uint64_t generation = 0;
};

Timer::Timer(Loop& loop) : state_(std::make_shared<State>(loop)) {}
Timer::~Timer() {
  stop();
}

void Timer::start(std::chrono::milliseconds delay, std::function<void()> task) {
  const uint64_t generation = ++state_->generation;
  state_->timer.expires_after(delay);
  state_->timer.async_wait([weak = std::weak_ptr(state_), generation,
                            task = std::move(task)](const asio::error_code& error) {
    const auto state = weak.lock();
    if (!error && state != nullptr && state->generation == generation) {
      task();
    }
  });
}

void Timer::stop() {
  ++state_->generation;
  asio::error_code ignored;
  state_->timer.cancel(ignored);
}

struct FdWatch::State : std::enable_shared_from_this<FdWatch::State> {
  State(Loop& loop, int fd) : descriptor(loop.impl().context, fd) {}
  asio::posix::stream_descriptor descriptor;
  std::function<void()> readable;
  std::function<void()> writable;
  bool want[2] = {false, false};  // read, write
  bool armed[2] = {false, false};
  bool ended = false;

  void arm(int side) {
    if (ended || !want[side] || armed[side]) {
      return;
    }
    armed[side] = true;
    descriptor.async_wait(side == 0 ? asio::posix::descriptor_base::wait_read
                                    : asio::posix::descriptor_base::wait_write,
                          [weak = weak_from_this(), side](const asio::error_code& error) {
                            const auto state = weak.lock();
                            if (state == nullptr || state->ended) {
                              return;
                            }
                            state->armed[side] = false;
                            if (error || !state->want[side]) {
                              return;
                            }
                            side == 0 ? state->readable() : state->writable();
                            state->arm(side);
                          });
  }
};

FdWatch::FdWatch(Loop& loop, int fd, std::function<void()> readable, std::function<void()> writable)
    : state_(std::make_shared<State>(loop, fd)) {
  state_->readable = std::move(readable);
  state_->writable = std::move(writable);
}

FdWatch::~FdWatch() {
  state_->ended = true;
  state_->descriptor.release();  // the descriptor is not ours to close; cancels what waits
}

void FdWatch::want_read(bool on) {
  state_->want[0] = on;
  state_->arm(0);
}

void FdWatch::want_write(bool on) {
  state_->want[1] = on;
  state_->arm(1);
}

struct SignalWatch::State : std::enable_shared_from_this<SignalWatch::State> {
  explicit State(Loop& loop) : signals(loop.impl().context) {}
  asio::signal_set signals;
  std::function<void(int)> task;

  void arm() {
    signals.async_wait([weak = weak_from_this()](const asio::error_code& error, int signal) {
      const auto state = weak.lock();
      if (!error && state != nullptr) {
        state->task(signal);
        state->arm();
      }
    });
  }
};

SignalWatch::SignalWatch(Loop& loop, std::initializer_list<int> signals,
                         std::function<void(int)> task)
    : state_(std::make_shared<State>(loop)) {
  state_->task = std::move(task);
  for (const int signal : signals) {
    asio::error_code error;
    state_->signals.add(signal, error);
    TESS_CHECK(!error, "watch signal {}: {}", signal, error.message());
  }
  state_->arm();
}

SignalWatch::~SignalWatch() {
  asio::error_code ignored;
  state_->signals.cancel(ignored);
}

}  // namespace tess::net
