// Registry: the store on a thread of its own, so that a slow disk does not stop the loop. Work is
// done in the order given; what has gathered meanwhile shares one commit. The answer to each piece
// of work comes on the loop's thread, after the commit: what it says is on the disk.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "batch/store.h"

namespace tess::batch {

class Registry {
 public:
  using Work = std::function<Result<>(Store&)>;
  using Done = std::function<void(const Result<>&)>;
  // Runs a task on the loop's thread; called on the registry's.
  using Post = std::function<void(std::function<void()>)>;

  Registry(Store store, Post post);
  // Does all that was given first; its answers may come after this is gone.
  ~Registry();

  void write(Work work, Done done);

 private:
  struct Item {
    Work work;
    Done done;
  };
  void run();
  void write_all(std::deque<Item>& items);

  Store store_;
  Post post_;
  std::mutex mutex_;  // of `items_` and `stop_`: the loop's thread gives, this one takes
  std::condition_variable some_;
  std::deque<Item> items_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace tess::batch
