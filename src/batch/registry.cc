#include "batch/registry.h"

#include <csignal>
#include <utility>
#include <vector>

namespace tess::batch {

Registry::Registry(Store store, Post post) : store_(std::move(store)), post_(std::move(post)) {
  // Signals are for the loop's thread.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Registry::~Registry() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  some_.notify_one();
  thread_.join();
}

void Registry::write(Work work, Done done) {
  {
    const std::lock_guard lock(mutex_);
    items_.push_back({std::move(work), std::move(done)});
  }
  some_.notify_one();
}

void Registry::run() {
  while (true) {
    std::deque<Item> items;
    {
      std::unique_lock lock(mutex_);
      some_.wait(lock, [this] { return stop_ || !items_.empty(); });
      if (items_.empty()) {
        return;
      }
      items = std::exchange(items_, {});
    }
    write_all(items);
  }
}

// All in one transaction; if that fails, each in its own, so that one's failure is not the others'.
void Registry::write_all(std::deque<Item>& items) {
  const auto attempt = [this](const auto& begin, const auto& end) -> Result<> {
    TESS_TRY(store_.begin());
    for (auto item = begin; item != end; ++item) {
      if (auto done = item->work(store_); !done) {
        store_.rollback();
        return done;
      }
    }
    auto committed = store_.commit();
    if (!committed) {
      store_.rollback();
    }
    return committed;
  };
  std::vector<Result<>> results(items.size());
  if (!attempt(items.begin(), items.end())) {
    for (size_t i = 0; i < items.size(); ++i) {
      const auto at = items.begin() + static_cast<long>(i);
      results[i] = attempt(at, at + 1);
    }
  }
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].done) {
      post_([done = std::move(items[i].done), result = std::move(results[i])] { done(result); });
    }
  }
}

}  // namespace tess::batch
