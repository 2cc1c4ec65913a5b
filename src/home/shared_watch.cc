// What others do to a shared object at home: programs outside of the job, and processes of the job
// that are not away. Nobody tells of it, so each object is looked at now and then. What is written
// by write() and its like shows in the file's times; what is written through a mapping need not, so
// the content of small objects that bodies only read is looked at, too.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "home/shared_segments.h"
#include "migrate/sharing.h"
#include "sys/process.h"

namespace tess::home {
namespace {

constexpr uint64_t kSmall = 4 << 20;         // an object whose content is looked at
constexpr uint64_t kLookedAtMax = 16 << 20;  // bytes of content in one round

int64_t nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

std::string hash_of(const sys::Fd& fd, uint64_t size) {
  std::string content(size, '\0');
  const ssize_t n = ::pread(fd.get(), content.data(), content.size(), 0);
  const XXH128_hash_t hash = XXH3_128bits(content.data(), n > 0 ? static_cast<size_t>(n) : 0);
  std::string bytes(sizeof(hash), '\0');
  std::memcpy(bytes.data(), &hash, sizeof(hash));
  return bytes;
}

}  // namespace

// `budget`: bytes of content that may still be looked at.
SharedSegments::Stamp SharedSegments::stamp_of(const Segment& segment, uint64_t* budget) {
  struct stat info {};
  if (::fstat(segment.fd.get(), &info) != 0) {
    return segment.stamp;
  }
  Stamp stamp{.modified_ns = nanoseconds(info.st_mtim),
              .changed_ns = nanoseconds(info.st_ctim),
              .size = info.st_size,
              .content = segment.stamp.content};
  const auto size = static_cast<uint64_t>(info.st_size);
  if (segment.writable) {
    stamp.content.clear();
  } else if (size <= std::min(kSmall, *budget)) {
    *budget -= size;
    stamp.content = hash_of(segment.fd, size);
  }
  return stamp;
}

// It is about to be changed by the job: has somebody else changed it since it was last looked at?
void SharedSegments::note_others(Segment& segment) {
  uint64_t none = 0;
  segment.changed_by_others =
      segment.changed_by_others || stamp_of(segment, &none) != segment.stamp;
}

// It has just been changed by the job, which tells all hosts itself.
void SharedSegments::note_own(Segment& segment) {
  uint64_t enough = kSmall;
  segment.stamp = stamp_of(segment, &enough);
}

void SharedSegments::look_at_others() {
  const auto now = Clock::now();
  uint64_t budget = kLookedAtMax;
  std::vector<uint64_t> changed;
  for (auto& [number, segment] : segments_) {
    if (segment.anonymous || segment.locked || segment.next_look > now ||
        (segment.holder == nullptr && segment.readers.empty())) {
      continue;
    }
    if (segment.changed_by_others || stamp_of(segment, &budget) != segment.stamp) {
      changed.push_back(number);
    }
  }
  for (const uint64_t number : changed) {
    lock(number, [this, number, now] {
      flush(number, [this, number, now] {
        if (Segment* const segment = find(number); segment != nullptr) {
          note_own(*segment);
          segment->changed_by_others = false;
        }
        update(number, 0, stub::kSharedAll, [this, number, now] {
          if (Segment* const segment = find(number); segment != nullptr) {
            const auto end = Clock::now();
            segment->next_look = end + (end - now) * kUnaskedShare;
          }
          unlock(number);
        });
      });
    });
  }
}

// Who maps such an object for writing at home tells nobody. It is one machine's memory from then
// on: that of home, where what bodies have written comes with them.
void SharedSegments::look_for_writers() {
  const auto now = Clock::now();
  if (next_writers_look_ > now) {
    return;
  }
  std::vector<uint64_t> numbers;
  std::vector<migrate::ObjectId> objects;
  for (const auto& [number, segment] : segments_) {
    if (segment.writable && segment.holder != nullptr && segment.move == 0) {
      numbers.push_back(number);
      objects.push_back({segment.key.dev_major, segment.key.dev_minor, segment.key.inode});
    }
  }
  if (objects.empty()) {
    return;
  }
  const auto writers = migrate::find_writers(objects);
  const auto end = Clock::now();
  next_writers_look_ = end + (end - now) * kUnaskedShare;
  handlers_.catch_up();  // children that have just been made
  std::set<uint64_t> called;
  for (const auto& [index, writer] : writers) {
    Segment* const segment = find(numbers[index]);
    if (segment == nullptr || segment->holder == nullptr || segment->move != 0 ||
        called.contains(segment->number)) {
      continue;
    }
    const Whose whose = handlers_.whose(writer.pid);
    if ((whose == Whose::kStranger || whose == Whose::kHome) && still_mapped(*segment)) {
      called.insert(segment->number);
      handlers_.call_home(segment->mapper, writer.pid, writer.command);
    }
  }
}

// ---- processes of the job at home ----

// Who begins to write to what bodies only read is not watched for: most programs read such files.
void SharedSegments::look_for_relatives() {
  const auto now = Clock::now();
  const auto is_read = [](const auto& entry) { return !entry.second.writable; };
  if (next_relatives_look_ > now || std::ranges::none_of(segments_, is_read)) {
    return;
  }
  std::map<uint64_t, pid_t> found;
  for (const pid_t pid : handlers_.natives()) {
    for (const SharedMapping& mapping : shared_mappings(pid)) {
      const Segment* const segment = mapping.written ? find(mapping.key) : nullptr;
      if (segment != nullptr && !segment->writable && segment->move == 0) {
        found.emplace(segment->number, pid);
      }
    }
  }
  const auto end = Clock::now();
  next_relatives_look_ = end + (end - now) * kUnaskedShare;
  for (const auto& [number, pid] : found) {
    if (Segment* const segment = find(number); segment != nullptr && still_mapped(*segment)) {
      handlers_.call_home(segment->mapper, pid, sys::process_name(pid));
    }
  }
}

bool SharedSegments::Segment::elsewhere() const {
  return writable && !inherited && (holder != nullptr || move != 0);
}

bool SharedSegments::any_elsewhere() const {
  const auto leaves = [](const auto& move) { return move.second.target != nullptr; };
  return std::ranges::any_of(moves_, leaves) ||
         std::ranges::any_of(segments_, [](const auto& entry) { return entry.second.elsewhere(); });
}

bool SharedSegments::is_elsewhere(const ObjectKey& key) const {
  return std::ranges::any_of(moves_,
                             [&](const auto& move) {
                               return move.second.target != nullptr &&
                                      move.second.keys.contains(key);
                             }) ||
         std::ranges::any_of(segments_, [&](const auto& entry) {
           return entry.second.key == key && entry.second.elsewhere();
         });
}

bool SharedSegments::is_elsewhere(uint64_t number) const {
  const auto segment = segments_.find(number);
  return segment != segments_.end() && segment->second.elsewhere();
}

uint64_t SharedSegments::file_shared(pid_t pid, int fd) const {
  struct stat info {};
  if (fd < 0 || ::stat(fmt::format("/proc/{}/fd/{}", pid, fd).c_str(), &info) != 0) {
    return 0;
  }
  const auto found = std::ranges::find_if(segments_, [&](const auto& entry) {
    const stub::SharedFile& file = entry.second.identity;
    return file.device == info.st_dev && file.inode == info.st_ino;
  });
  return found == segments_.end() ? 0 : found->first;
}

void SharedSegments::fetch_home(const ObjectKey& key, pid_t pid, const std::string& command) {
  Segment* const segment = find(key);
  if (segment == nullptr || segment->holder == nullptr || segment->move != 0) {
    return;
  }
  if (still_mapped(*segment)) {
    handlers_.call_home(segment->mapper, pid, command);
  } else {
    prune();  // its last content comes
  }
}

}  // namespace tess::home
