// For unit tests: a loop that runs until something has come to pass.
#pragma once

#include <chrono>
#include <functional>

#include "net/loop.h"

namespace tess::node {

// Whether `done` held within `patience`. The loop can be run again.
inline bool run_until(net::Loop& loop, const std::function<bool()>& done,
                      std::chrono::seconds patience = std::chrono::seconds(60)) {
  net::Timer poll(loop);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  bool came = false;
  std::function<void()> check = [&] {
    came = done();
    if (came || std::chrono::steady_clock::now() > deadline) {
      loop.stop();
    } else {
      poll.start(std::chrono::milliseconds(2), check);
    }
  };
  check();
  loop.run();
  loop.restart();
  return came;
}

}  // namespace tess::node
