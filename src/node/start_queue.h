// StartQueue: whose turn it is to be started. Jobs that begin at the same moment would share the
// CPU that their starts take, so that none leaves this node before nearly all have been made. Here
// a few are made at a time, and the first leave early. Callers (sessions) take turns: who starts a
// thousand keeps nobody else waiting for them; of one caller, first come first served. Loop thread
// only.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "net/loop.h"

namespace tess::node {

class StartQueue {
 public:
  // A place among those being started; free again when the last copy is gone.
  using Turn = std::shared_ptr<void>;
  struct Start {
    std::function<bool()> wanted;  // asked when it is its turn: it may have been given up
    std::function<void(Turn)> begin;
  };

  // `limit`: so many at a time, asked again each time.
  StartQueue(net::Loop& loop, std::function<size_t()> limit);
  ~StartQueue();

  // `begin` comes at once if there is room and nobody waits, else when it is its turn.
  void enter(int64_t caller, Start start);

  size_t waiting() const;
  size_t under_way() const;

 private:
  struct State;
  static void serve(const std::shared_ptr<State>& state);

  std::shared_ptr<State> state_;
};

}  // namespace tess::node
