#include "node/start_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tess::node {

struct StartQueue::State {
  struct Caller {
    int64_t name = 0;
    std::deque<Start> starts;  // never empty
  };

  net::Loop& loop;
  std::function<size_t()> limit;
  std::deque<Caller> callers;  // in the order of their turns; who comes anew is the last
  size_t under_way = 0;

  void add(int64_t name, Start start) {
    auto caller = std::find_if(callers.begin(), callers.end(),
                               [name](const Caller& one) { return one.name == name; });
    if (caller == callers.end()) {
      callers.push_back({name, {}});
      caller = std::prev(callers.end());
    }
    caller->starts.push_back(std::move(start));
  }

  Start take_next() {
    Caller caller = std::move(callers.front());
    callers.pop_front();
    Start start = std::move(caller.starts.front());
    caller.starts.pop_front();
    if (!caller.starts.empty()) {
      callers.push_back(std::move(caller));
    }
    return start;
  }
};

StartQueue::StartQueue(net::Loop& loop, std::function<size_t()> limit)
    : state_(std::make_shared<State>(State{loop, std::move(limit), {}, 0})) {}

StartQueue::~StartQueue() {
  state_->callers.clear();
}

size_t StartQueue::waiting() const {
  size_t sum = 0;
  for (const auto& caller : state_->callers) {
    sum += caller.starts.size();
  }
  return sum;
}

size_t StartQueue::under_way() const {
  return state_->under_way;
}

void StartQueue::enter(int64_t caller, Start start) {
  state_->add(caller, std::move(start));
  serve(state_);
}

void StartQueue::serve(const std::shared_ptr<State>& state) {
  while (!state->callers.empty() && state->under_way < std::max<size_t>(state->limit(), 1)) {
    const Start start = state->take_next();
    if (!start.wanted()) {
      continue;
    }
    ++state->under_way;
    const std::weak_ptr<State> weak = state;
    start.begin(Turn(static_cast<void*>(nullptr), [weak](void*) {
      const auto alive = weak.lock();
      if (alive == nullptr) {
        return;
      }
      --alive->under_way;
      // Not from within: the turn may end in the middle of anything.
      alive->loop.post([weak] {
        if (const auto still = weak.lock()) {
          serve(still);
        }
      });
    }));
  }
}

}  // namespace tess::node
