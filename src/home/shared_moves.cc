// Which segments there are: their end, and what a move of processes makes of them.
#include <algorithm>

#include "home/shared_segments.h"

namespace tess::home {

// ---- the end of a segment ----

bool SharedSegments::still_mapped(Segment& segment) {
  const auto maps = [&](pid_t pid) {
    const auto mappings = shared_mappings(pid);
    return std::any_of(mappings.begin(), mappings.end(),
                       [&](const SharedMapping& m) { return m.key == segment.key; });
  };
  if (const auto all = handlers_.deputies();
      std::find(all.begin(), all.end(), segment.mapper) != all.end() && maps(segment.mapper)) {
    return true;
  }
  for (const pid_t pid : handlers_.deputies()) {
    if (maps(pid)) {
      segment.mapper = pid;
      return true;
    }
  }
  // One on its way has no deputy yet, and its new host is reading what it shares.
  return std::any_of(moves_.begin(), moves_.end(), [&](const auto& move) {
    return std::any_of(move.second.pids.begin(), move.second.pids.end(), maps);
  });
}

// Segments that nobody has mapped any more: their last content goes home, then the host forgets
// them.
void SharedSegments::prune() {
  std::vector<uint64_t> unused;
  for (auto& [number, segment] : segments_) {
    if (segment.move == 0 && !segment.locked && !still_mapped(segment)) {
      unused.push_back(number);
    }
  }
  for (const uint64_t number : unused) {
    lock(number, [this, number] {
      flush(number, [this, number] {
        Segment* const segment = find(number);
        if (segment == nullptr) {
          return;
        }
        if (still_mapped(*segment)) {
          unlock(number);
          return;
        }
        drop_everywhere(*segment);
        erase(number);
      });
    });
  }
}

void SharedSegments::publish() {
  table_.clear();
  for (const auto& [number, segment] : segments_) {
    if (!segment.anonymous && table_.size() < stub::kSharedFilesMax) {
      table_.push_back(segment.identity);
      table_.back().segment |= segment.writable ? 0 : stub::kSharedReadOnly;
    }
  }
  handlers_.table_changed();
}

// ---- moves ----

std::set<ObjectKey> SharedSegments::live_objects() const {
  std::set<ObjectKey> keys;
  for (const auto& [number, segment] : segments_) {
    keys.insert(segment.key);
  }
  return keys;
}

uint64_t SharedSegments::begin_move(const std::vector<pid_t>& pids, const Link& target, Done done) {
  const uint64_t id = next_id_++;
  Move& move = moves_[id];
  move.pids.insert(pids.begin(), pids.end());
  move.target = target;
  std::set<ObjectKey>& keys = move.keys;
  for (const pid_t pid : pids) {
    for (const SharedMapping& mapping : shared_mappings(pid)) {
      keys.insert(mapping.key);
    }
  }
  std::vector<uint64_t> numbers;
  std::vector<uint64_t> joined;
  for (const auto& [number, segment] : segments_) {
    if (segment.writable && keys.contains(segment.key)) {
      (segment.holder != target ? numbers : joined).push_back(number);
    }
  }
  move.segments.insert(numbers.begin(), numbers.end());
  const auto left = std::make_shared<size_t>(numbers.size() + joined.size() + 1);
  const auto one_done = [left, done] {
    if (--*left == 0) {
      done();
    }
  };
  for (const uint64_t number : numbers) {
    lock(number, [this, number, id, one_done] {
      if (Segment* const segment = find(number); segment != nullptr) {
        segment->move = id;
      }
      flush(number, one_done);
    });
  }
  // The target has it already: what has been done to it here is news there.
  for (const uint64_t number : joined) {
    lock(number, [this, number, one_done] {
      flush(number, [this, number, one_done] {
        update(number, 0, stub::kSharedAll, [this, number, one_done] {
          unlock(number);
          one_done();
        });
      });
    });
  }
  one_done();
  return id;
}

void SharedSegments::end_move(uint64_t id, bool committed) {
  auto ended = moves_.extract(id);
  if (ended.empty()) {
    return;
  }
  const Move& move = ended.mapped();
  for (const uint64_t number : move.segments) {
    Segment* const segment = find(number);
    if (segment == nullptr) {
      continue;
    }
    segment->move = 0;
    if (!committed) {
      if (move.opened.contains(number) && !segment->readers.contains(move.target)) {
        drop_at(move.target, number);
      }
    } else {
      drop_at(segment->holder, number);
      segment->holder = move.opened.contains(number) ? move.target : nullptr;
      segment->readers.erase(segment->holder);
    }
    if (segment->holder == nullptr && !segment->readers.empty()) {
      segment->writable = false;
      publish();
      unlock(number);
    } else if (segment->holder == nullptr) {
      erase(number);
    } else {
      unlock(number);
    }
  }
}

}  // namespace tess::home
