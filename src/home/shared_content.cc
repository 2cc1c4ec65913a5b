// Content of shared objects on its way: to a host that opens one, home from the one that has it,
// and news of changes at home.
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/log.h"
#include "home/host_link.h"
#include "home/shared_segments.h"
#include "memory/shared_file.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

constexpr uint64_t kAnswerMax = 1 << 20;  // bytes of content in one message

// The object's bytes [from, to) into runs, without its holes.
int read_runs(const sys::Fd& fd, uint64_t from, uint64_t to, auto add_run) {
  for (const auto& [start, end] : memory::SharedFile::data_extents(fd, from, to)) {
    const uint64_t begin = std::max(start, from);
    std::string data(std::min(end, to) - begin, '\0');
    const ssize_t n = ::pread(fd.get(), data.data(), data.size(), static_cast<off_t>(begin));
    if (n < 0) {
      return errno;
    }
    data.resize(static_cast<size_t>(n));
    if (!data.empty()) {
      add_run(begin, std::move(data));
    }
  }
  return 0;
}

Result<sys::Fd> open_to_write(const sys::Fd& object) {
  const std::string path = fmt::format("/proc/self/fd/{}", object.get());
  sys::Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid()) {
    return fail_errno("open {} for writing", path);
  }
  return fd;
}

// A memfd that nobody may write to any more (F_SEAL_FUTURE_WRITE) is written to by the mappings
// that were there before.
bool write_by_mapping(const std::vector<pid_t>& mappers, const ObjectKey& key, uint64_t offset,
                      std::string_view data) {
  for (const pid_t pid : mappers) {
    for (const SharedMapping& mapping : shared_mappings(pid)) {
      const uint64_t last = mapping.offset + (mapping.end - mapping.start);
      if (mapping.key != key || !mapping.written || offset < mapping.offset ||
          offset + data.size() > last) {
        continue;
      }
      const sys::Fd memory(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_WRONLY | O_CLOEXEC));
      const uint64_t address = mapping.start + (offset - mapping.offset);
      if (memory.valid() &&
          ::pwrite(memory.get(), data.data(), data.size(), static_cast<off_t>(address)) ==
              static_cast<ssize_t>(data.size())) {
        return true;
      }
    }
  }
  return false;
}

// The object is open for writing no longer than this takes: while it is, nobody can execute it.
// `mappers` are the deputies, some of which may have it mapped.
void write_runs(const sys::Fd& fd, const ObjectKey& key, const std::vector<pid_t>& mappers,
                const wire::SharedDirty& news) {
  const auto out = open_to_write(fd);
  if (!out) {
    log::error("home", "event=shared_write_failed segment={} reason=\"{}\"", news.segment(),
               out.error().message());
    return;
  }
  const uint64_t size = object_size(fd);
  for (const wire::SharedRun& run : news.run()) {
    if (run.offset() >= size) {
      continue;  // the object has become shorter: what was behind its end is lost, as it would be
                 // here
    }
    const uint64_t n = std::min<uint64_t>(run.data().size(), size - run.offset());
    if (::pwrite(out->get(), run.data().data(), n, static_cast<off_t>(run.offset())) ==
        static_cast<ssize_t>(n)) {
      continue;
    }
    const int error = errno;
    if (error != EPERM ||
        !write_by_mapping(mappers, key, run.offset(), std::string_view(run.data()).substr(0, n))) {
      log::error("home", "event=shared_write_failed segment={} offset={} errno={}", news.segment(),
                 run.offset(), error);
    }
  }
}

// The object's bytes as they are now, with their zeros: those may replace something.
void add_content(const sys::Fd& fd, uint64_t offset, uint64_t size, wire::SharedUpdate& news) {
  const uint64_t n = offset < news.size() ? std::min(size, news.size() - offset) : 0;
  std::string data(n, '\0');
  const ssize_t got = ::pread(fd.get(), data.data(), n, static_cast<off_t>(offset));
  data.resize(got > 0 ? static_cast<size_t>(got) : 0);
  news.add_run()->set_offset(offset);
  news.mutable_run(0)->set_data(std::move(data));
}

}  // namespace

void SharedSegments::read(const Link& link, const wire::LinkMessage& message) {
  const wire::SharedRead& wish = message.shared_read();
  wire::LinkMessage reply;
  wire::SharedData& answer = *reply.mutable_shared_data();
  answer.set_id(wish.id());
  const Segment* const segment = find(wish.segment());
  if (segment == nullptr) {
    answer.set_error(ENOENT);
    (void)link->send(reply);
    return;
  }
  // As many pages with content as fit; holes cost nothing.
  const uint64_t end =
      std::min(wish.offset() + wish.size(), std::max(wish.offset(), object_size(segment->fd)));
  uint64_t room = kAnswerMax;
  uint64_t reached = std::max(end, wish.offset() + wish.size());
  for (const auto& [start, stop] :
       memory::SharedFile::data_extents(segment->fd, wish.offset(), end)) {
    const uint64_t from = std::max(start, wish.offset());
    const uint64_t to = std::min({stop, end, from + room});
    const int error = read_runs(segment->fd, from, to, [&](uint64_t offset, std::string data) {
      answer.add_run()->set_offset(offset);
      answer.mutable_run()->rbegin()->set_data(std::move(data));
    });
    answer.set_error(error);
    room -= to - from;
    if (room == 0) {
      reached = to;
      break;
    }
  }
  answer.set_end(reached);
  (void)link->send(reply);
}

void SharedSegments::flush(uint64_t number, Done done, uint64_t offset, uint64_t size) {
  Segment* const segment = find(number);
  if (segment == nullptr || segment->holder == nullptr || !segment->writable) {
    done();
    return;
  }
  const uint64_t id = next_id_++;
  wire::LinkMessage message;
  message.mutable_shared_flush()->set_id(id);
  message.mutable_shared_flush()->set_segment(number);
  if (size != stub::kSharedAll) {
    message.mutable_shared_flush()->set_offset(offset);
    message.mutable_shared_flush()->set_size(size);
  }
  pending_[id] = {segment->holder, number, std::move(done)};
  const Link link = segment->holder;
  if (!link->send(message)) {
    host_lost(link);
  }
}

void SharedSegments::dirty(const wire::LinkMessage& message) {
  const wire::SharedDirty& news = message.shared_dirty();
  const auto waiting = pending_.find(news.id());
  if (waiting == pending_.end() || waiting->second.segment != news.segment()) {
    return;
  }
  Segment* const segment = find(news.segment());
  if (segment != nullptr && segment->writable && !news.run().empty()) {
    note_others(*segment);
    write_runs(segment->fd, segment->key, handlers_.deputies(), news);
  }
  if (segment != nullptr && !news.run().empty()) {
    note_own(*segment);
    pass_on(*segment, message);
  }
  if (news.last()) {
    const Done done = std::move(waiting->second.done);
    pending_.erase(waiting);
    done();
  }
}

// What the holder has written, for those that have a copy on other hosts.
void SharedSegments::pass_on(const Segment& segment, const wire::LinkMessage& dirty) {
  for (const Link& reader : segment.readers) {
    wire::LinkMessage message;
    wire::SharedUpdate& news = *message.mutable_shared_update();
    news.set_segment(segment.number);
    news.set_size(object_size(segment.fd));
    for (const wire::SharedRun& run : dirty.shared_dirty().run()) {
      if (run.offset() < news.size()) {
        *news.add_run() = run;
        news.mutable_run()->rbegin()->mutable_data()->resize(
            std::min<uint64_t>(run.data().size(), news.size() - run.offset()));
      }
    }
    (void)reader->send(message);  // nobody waits for it
  }
}

// All hosts hear of a change at home, and of the object's length. `size` kSharedAll: of a change
// somewhere.
void SharedSegments::update(uint64_t number, uint64_t offset, uint64_t size, Done done) {
  Segment* const segment = find(number);
  if (segment == nullptr) {
    done();
    return;
  }
  std::set<Link> links = segment->readers;
  if (segment->holder != nullptr) {
    links.insert(segment->holder);
  }
  const bool everything = size == stub::kSharedAll;
  size = size == stub::kSharedLength ? 0 : size;
  const size_t parts =
      everything || size == 0 ? 1 : static_cast<size_t>((size + kAnswerMax - 1) / kAnswerMax);
  const auto left = std::make_shared<size_t>(links.size() * parts + 1);
  const auto one_done = [left, done = std::move(done)] {
    if (--*left == 0) {
      done();
    }
  };
  for (size_t part = 0; part < parts; ++part) {
    wire::LinkMessage message;
    wire::SharedUpdate& news = *message.mutable_shared_update();
    news.set_segment(number);
    news.set_size(object_size(segment->fd));
    news.set_everything(everything);
    if (!everything && size != 0) {
      const uint64_t skipped = part * kAnswerMax;
      add_content(segment->fd, offset + skipped, std::min(size - skipped, kAnswerMax), news);
    }
    for (const Link& link : links) {
      send_update(link, number, message, one_done);
    }
  }
  one_done();
}

void SharedSegments::send_update(const Link& link, uint64_t number, wire::LinkMessage& message,
                                 Done done) {
  const uint64_t id = next_id_++;
  message.mutable_shared_update()->set_id(id);
  pending_[id] = {link, number, std::move(done)};
  if (!link->send(message)) {
    host_lost(link);
  }
}

}  // namespace tess::home
