// What deputies do with a shared object, and the flushes that nobody asks for.
#include <algorithm>

#include "home/shared_segments.h"

namespace tess::home {

void SharedSegments::call(pid_t pid, stub::SharedMoment moment, const stub::SharedCall& call,
                          Done done) {
  const uint64_t number = call.segment;
  switch (moment) {
    case stub::SharedMoment::kBefore:
      lock(number, [this, number, call, done] {
        const auto seen = [this, number, done] {
          unlock(number);
          done();
        };
        flush(number, seen, call.offset, call.size);
      });
      break;
    case stub::SharedMoment::kOpen:
      lock(number, [this, number, pid, done] {
        open_window(number, pid);
        flush(number, done);
      });
      break;
    case stub::SharedMoment::kHold:
      lock(number, [this, number, pid, done] {
        open_window(number, pid);
        done();
      });
      break;
    case stub::SharedMoment::kClose:
      close_window(number, pid, call.offset, call.size, done);
      break;
    case stub::SharedMoment::kAll:
      flush_all(false, done);
      break;
  }
}

bool SharedSegments::try_open(uint64_t number, pid_t tid, Done free) {
  Segment* const segment = find(number);
  if (segment != nullptr && !segment->locked) {
    segment->locked = true;
    open_window(number, tid);
    return true;
  }
  lock(number, [this, number, free = std::move(free)] {
    unlock(number);
    free();
  });
  return false;
}

void SharedSegments::open_window(uint64_t number, pid_t pid) {
  if (Segment* const segment = find(number); segment != nullptr) {
    segment->window = pid;
    note_others(*segment);
  }
}

void SharedSegments::close_window(uint64_t number, pid_t pid, uint64_t offset, uint64_t size,
                                  Done done) {
  Segment* const segment = find(number);
  const bool had_window = segment != nullptr && segment->window == pid;
  if (segment != nullptr) {
    note_own(*segment);
  }
  if (!had_window) {  // a call that could not keep the file to itself
    lock(number, [this, number, offset, size, done] {
      update(number, offset, size, [this, number, done] {
        unlock(number);
        done();
      });
    });
    return;
  }
  if (size == 0) {
    unlock(number);
    done();
    return;
  }
  update(number, offset, size, [this, number, done] {
    unlock(number);
    done();
  });
}

void SharedSegments::flush_all(bool anonymous_too, Done done) {
  const auto left = std::make_shared<size_t>(1);
  const auto one_done = [left, done] {
    if (--*left == 0) {
      done();
    }
  };
  std::vector<uint64_t> numbers;
  for (const auto& [number, segment] : segments_) {
    if (segment.writable && segment.holder != nullptr && (anonymous_too || !segment.anonymous)) {
      numbers.push_back(number);
    }
  }
  *left += numbers.size();
  for (const uint64_t number : numbers) {
    lock(number, [this, number, one_done] {
      flush(number, [this, number, one_done] {
        unlock(number);
        one_done();
      });
    });
  }
  one_done();
}

void SharedSegments::left(pid_t pid) {
  if (segments_.empty()) {
    return;
  }
  std::vector<uint64_t> windows;
  for (const auto& [number, segment] : segments_) {
    if (segment.window == pid) {
      windows.push_back(number);
    }
  }
  for (const uint64_t number : windows) {
    close_window(number, pid, 0, stub::kSharedAll, [] {});
  }
  flush_all(false, [] {});
  prune();
}

void SharedSegments::tick() {
  if (segments_.empty()) {
    return;
  }
  prune();
  flush_due();
  look_at_others();
  look_for_writers();
  look_for_relatives();
}

void SharedSegments::flush_due() {
  const auto now = Clock::now();
  std::vector<uint64_t> due;
  for (const auto& [number, segment] : segments_) {
    if (segment.writable && !segment.anonymous && segment.holder != nullptr && !segment.locked &&
        segment.next_flush <= now) {
      due.push_back(number);
    }
  }
  for (const uint64_t number : due) {
    lock(number, [this, number, now] {
      flush(number, [this, number, now] {
        if (Segment* const segment = find(number); segment != nullptr) {
          const auto end = Clock::now();
          segment->next_flush =
              end + std::max<Clock::duration>(kFlushInterval / 2, (end - now) * kUnaskedShare);
        }
        unlock(number);
      });
    });
  }
}

}  // namespace tess::home
