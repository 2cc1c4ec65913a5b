#include "host/shared_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "host/home_link.h"
#include "memory/address_space.h"
#include "wire/agent.pb.h"

namespace tess::host {
namespace {

constexpr std::chrono::seconds kAnswerTimeout{60};
// An object up to this size comes as a whole: parts of it may be mapped later by ways that nobody
// tells us of (mremap).
constexpr uint64_t kWholeMax = uint64_t{64} << 20;
constexpr uint64_t kRunMax = 1 << 20;

std::string name_of(const wire::SharedOpened& opened) {
  memory::Mapping mapping;
  mapping.kind =
      opened.anonymous() ? memory::MappingKind::kAnonShared : memory::MappingKind::kFileShared;
  mapping.dev_major = opened.dev_major();
  mapping.dev_minor = opened.dev_minor();
  mapping.inode = opened.inode();
  return memory::body_file_name(mapping);
}

}  // namespace

SharedMemory::SharedMemory(HomeLink& link) : link_(link), worker_([this] { work(); }) {}

SharedMemory::~SharedMemory() {
  close();
  worker_.join();
}

void SharedMemory::close() {
  const std::lock_guard guard(mutex_);
  closed_ = true;
  changed_.notify_all();
}

// ---- asking home ----

uint64_t SharedMemory::new_id() {
  const std::lock_guard guard(mutex_);
  answers_[next_id_];
  return next_id_++;
}

Result<SharedMemory::Message> SharedMemory::ask(wire::LinkMessage& question, uint64_t id) {
  link_.send(question);
  std::unique_lock lock(mutex_);
  const bool came =
      changed_.wait_for(lock, kAnswerTimeout, [&] { return closed_ || answers_[id] != nullptr; });
  Message answer = std::move(answers_[id]);
  answers_.erase(id);
  if (answer == nullptr) {
    return fail(came ? ErrorKind::kDisconnected : ErrorKind::kRetry,
                "home does not answer about shared memory");
  }
  return answer;
}

bool SharedMemory::is_meant(const wire::LinkMessage& message) {
  switch (message.body_case()) {
    case wire::LinkMessage::kSharedOpened:
    case wire::LinkMessage::kSharedData:
    case wire::LinkMessage::kSharedFlush:
    case wire::LinkMessage::kSharedUpdate:
    case wire::LinkMessage::kSharedDrop:
      return true;
    default:
      return false;
  }
}

void SharedMemory::post(Message message) {
  uint64_t id = 0;
  if (message->has_shared_opened()) {
    id = message->shared_opened().id();
  } else if (message->has_shared_data()) {
    id = message->shared_data().id();
  }
  const std::lock_guard guard(mutex_);
  if (id == 0) {
    work_.push_back(std::move(message));
  } else if (const auto waiting = answers_.find(id); waiting != answers_.end()) {
    waiting->second = std::move(message);
  }
  changed_.notify_all();
}

// ---- opening ----

std::shared_ptr<SharedMemory::Segment> SharedMemory::find(uint64_t number) {
  const auto it = segments_.find(number);
  return it == segments_.end() ? nullptr : it->second;
}

Result<std::shared_ptr<SharedMemory::Segment>> SharedMemory::segment_of(
    const wire::LinkMessage& message) {
  const wire::SharedOpened& opened = message.shared_opened();
  const std::lock_guard guard(content_mutex_);
  if (auto known = find(opened.segment()); known != nullptr) {
    return known;
  }
  auto file = memory::SharedFile::create(name_of(opened), opened.size());
  if (!file) {
    return tl::unexpected(std::move(file.error()));
  }
  auto made = std::make_shared<Segment>(std::move(*file));
  segments_[opened.segment()] = made;
  return made;
}

Result<> SharedMemory::fetch(uint64_t number, Segment& segment, uint64_t offset, uint64_t size) {
  uint64_t at = offset & ~(memory::kPageSize - 1);
  const uint64_t end = offset + size;
  while (at < end) {
    const uint64_t id = new_id();
    wire::LinkMessage question;
    wire::SharedRead& read = *question.mutable_shared_read();
    read.set_id(id);
    read.set_segment(number);
    read.set_offset(at);
    read.set_size(end - at);
    TESS_TRY_ASSIGN(const Message answer, ask(question, id));
    const wire::SharedData& data = answer->shared_data();
    if (data.error() != 0 || data.end() <= at) {
      errno = data.error() != 0 ? data.error() : EIO;
      return fail_errno("read shared memory at home");
    }
    std::vector<memory::SharedFile::Run> runs;
    for (const wire::SharedRun& run : data.run()) {
      runs.push_back({run.offset(), std::as_bytes(std::span(run.data()))});
    }
    const std::lock_guard guard(content_mutex_);
    TESS_TRY(segment.file.fill(at, std::min(data.end(), end) - at, runs));
    at = data.end();
  }
  return {};
}

Result<sys::Fd> SharedMemory::open(int32_t pid, uint64_t address, bool read_only) {
  wire::LinkMessage question;
  question.mutable_shared_open()->set_address(address);
  return open(pid, question, read_only);
}

Result<sys::Fd> SharedMemory::open(int32_t pid, const memory::Mapping& mapping) {
  wire::LinkMessage question;
  wire::SharedOpen& wish = *question.mutable_shared_open();
  wish.set_address(mapping.start);
  wish.set_dev_major(mapping.dev_major);
  wish.set_dev_minor(mapping.dev_minor);
  wish.set_inode(mapping.inode);
  wish.set_offset(mapping.offset);
  wish.set_length(mapping.size());
  return open(pid, question, false);
}

Result<sys::Fd> SharedMemory::open(int32_t pid, wire::LinkMessage& question, bool read_only) {
  const std::lock_guard one(open_mutex_);
  const uint64_t id = new_id();
  question.set_pid(pid);
  question.mutable_shared_open()->set_id(id);
  TESS_TRY_ASSIGN(const Message answer, ask(question, id));
  const wire::SharedOpened& opened = answer->shared_opened();
  if (opened.error() != 0) {
    return tl::unexpected(Error(ErrorKind::kNotPossible, opened.reason(), opened.error()));
  }
  TESS_TRY_ASSIGN(const std::shared_ptr<Segment> segment, segment_of(*answer));
  const bool whole = opened.size() <= kWholeMax;
  const uint64_t offset = whole ? 0 : opened.offset();
  const uint64_t reach = whole ? opened.size() : opened.length();
  const uint64_t size = opened.size() > offset ? std::min(reach, opened.size() - offset) : 0;
  bool known;
  {
    const std::lock_guard guard(content_mutex_);
    known = segment->file.knows(offset, size);
  }
  if (!known) {
    TESS_TRY(fetch(opened.segment(), *segment, offset, size));
  }
  const int flags = (read_only || !opened.writable() ? O_RDONLY : O_RDWR) | O_CLOEXEC;
  sys::Fd fd(::open(fmt::format("/proc/self/fd/{}", segment->file.fd().get()).c_str(), flags));
  if (!fd.valid()) {
    return fail_errno("open shared memory");
  }
  return fd;
}

// ---- what home orders ----

void SharedMemory::work() {
  while (true) {
    Message next;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return closed_ || !work_.empty(); });
      if (closed_) {
        return;
      }
      next = std::move(work_.front());
      work_.pop_front();
    }
    handle(*next);
  }
}

void SharedMemory::handle(const wire::LinkMessage& message) {
  switch (message.body_case()) {
    case wire::LinkMessage::kSharedFlush:
      flush(message);
      break;
    case wire::LinkMessage::kSharedUpdate:
      update(message);
      break;
    case wire::LinkMessage::kSharedDrop: {
      const std::lock_guard guard(content_mutex_);
      for (const uint64_t number : message.shared_drop().segment()) {
        segments_.erase(number);
      }
      break;
    }
    default:
      break;
  }
}

void SharedMemory::flush(const wire::LinkMessage& message) {
  const wire::SharedFlush& order = message.shared_flush();
  const std::lock_guard guard(content_mutex_);
  wire::LinkMessage answer;
  const auto dirty = [&]() -> wire::SharedDirty& { return *answer.mutable_shared_dirty(); };
  const auto begin = [&] {
    answer.Clear();
    dirty().set_id(order.id());
    dirty().set_segment(order.segment());
  };
  begin();
  uint64_t gathered = 0;
  if (const auto segment = find(order.segment()); segment != nullptr) {
    const auto take = [&](uint64_t offset, std::span<const std::byte> bytes) {
      wire::SharedRun& run = *dirty().add_run();
      run.set_offset(offset);
      run.set_data(bytes.data(), bytes.size());
      gathered += bytes.size();
      if (gathered >= kRunMax) {
        link_.send(answer);
        begin();
        gathered = 0;
      }
      return Result<>();
    };
    const uint64_t size = order.size() != 0 ? order.size() : memory::SharedFile::kToTheEnd;
    const Result<> collected = segment->file.collect(kRunMax, take, order.offset(), size);
    if (!collected) {
      log::error("host", "event=shared_flush_failed segment={} reason=\"{}\"", order.segment(),
                 collected.error().message());
    }
  }
  dirty().set_last(true);
  link_.send(answer);
}

void SharedMemory::update(const wire::LinkMessage& message) {
  const wire::SharedUpdate& news = message.shared_update();
  std::shared_ptr<Segment> segment;
  {
    const std::lock_guard guard(content_mutex_);
    segment = find(news.segment());
    Result<> done;
    if (segment != nullptr) {
      done = segment->file.resize(news.size());
      for (const wire::SharedRun& run : news.run()) {
        if (done) {
          done = segment->file.update(run.offset(), std::as_bytes(std::span(run.data())));
        }
      }
    }
    if (!done) {
      log::error("host", "event=shared_update_failed segment={} reason=\"{}\"", news.segment(),
                 done.error().message());
    }
  }
  if (segment != nullptr && news.everything()) {
    refill(news.segment(), *segment, news.size());
  }
  wire::LinkMessage answer;
  answer.mutable_shared_updated()->set_id(news.id());
  link_.send(answer);
}

// What has been fetched once is fetched again.
void SharedMemory::refill(uint64_t number, Segment& segment, uint64_t size) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  {
    const std::lock_guard guard(content_mutex_);
    ranges = segment.file.known_ranges();
  }
  for (const auto& [start, end] : ranges) {
    if (start >= size) {
      continue;
    }
    if (auto fetched = fetch(number, segment, start, std::min(end, size) - start); !fetched) {
      log::error("host", "event=shared_update_failed segment={} reason=\"{}\"", number,
                 fetched.error().message());
    }
  }
}

}  // namespace tess::host
