#include "home/shared_segments.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "base/log.h"
#include "home/host_link.h"
#include "memory/shared_file.h"
#include "migrate/sharing.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

constexpr int kAskAgain = -static_cast<int>(stub::kKicked);
constexpr uint64_t kAnswerMax = 1 << 20;  // bytes of content in one message

uint64_t size_of(const sys::Fd& fd) {
  struct stat info {};
  return ::fstat(fd.get(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

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
  const uint64_t size = size_of(fd);
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

}  // namespace

SharedSegments::Segment* SharedSegments::find(uint64_t number) {
  const auto it = segments_.find(number);
  return it == segments_.end() ? nullptr : &it->second;
}

SharedSegments::Segment* SharedSegments::find(const ObjectKey& key) {
  for (auto& [number, segment] : segments_) {
    if (segment.key == key) {
      return &segment;
    }
  }
  return nullptr;
}

SharedSegments::Move* SharedSegments::move_of(pid_t pid) {
  for (auto& [number, move] : moves_) {
    if (move.pids.contains(pid)) {
      return &move;
    }
  }
  return nullptr;
}

// ---- opening ----

void SharedSegments::open(const Link& link, pid_t pid, const wire::LinkMessage& message) {
  const wire::SharedOpen& wish = message.shared_open();
  wire::LinkMessage reply;
  wire::SharedOpened& answer = *reply.mutable_shared_opened();
  answer.set_id(wish.id());
  if (auto described = describe(link, pid, wish.address(), answer); !described) {
    const int error = described.error().sys_errno();
    answer.set_error(error != 0 ? error : ENODEV);
    answer.set_reason(described.error().message());
    if (error != kAskAgain) {
      log::warn("home", "event=share_refused pid={} reason=\"{}\"", pid,
                described.error().message());
    }
  }
  (void)link->send(reply);
}

Result<> SharedSegments::describe(const Link& link, pid_t pid, uint64_t address,
                                  wire::SharedOpened& answer) {
  if (pid == 0) {
    return fail(ErrorKind::kBadInput, "shared memory of a process that is not of this job");
  }
  TESS_TRY_ASSIGN(const SharedMapping mapping, read_shared_mapping(pid, address));
  TESS_TRY_ASSIGN(Segment* const segment, find_or_make(pid, mapping, link));
  answer.set_segment(segment->number);
  answer.set_dev_major(segment->key.dev_major);
  answer.set_dev_minor(segment->key.dev_minor);
  answer.set_inode(segment->key.inode);
  answer.set_anonymous(segment->anonymous);
  answer.set_writable(mapping.may_write);
  answer.set_size(size_of(segment->fd));
  answer.set_offset(mapping.offset + (address - mapping.start));
  answer.set_length(mapping.end - address);
  return {};
}

Result<SharedSegments::Segment*> SharedSegments::find_or_make(pid_t pid,
                                                              const SharedMapping& mapping,
                                                              const Link& link) {
  if (Segment* const known = find(mapping.key); known != nullptr) {
    TESS_TRY(mapping.may_write && !known->writable ? make_writable(*known, pid, mapping, link)
                                                   : admit(*known, pid, link));
    return known;
  }
  if (mapping.may_write) {
    TESS_TRY(refuse_if_written_at_home(pid, mapping, link));
  }
  Segment segment;
  TESS_TRY_ASSIGN(segment.fd, open_object(pid, mapping));
  struct stat info {};
  if (::fstat(segment.fd.get(), &info) != 0) {
    return fail_errno("look at {}", mapping.path);
  }
  segment.number = next_number_++;
  segment.key = mapping.key;
  segment.identity = {info.st_dev, info.st_ino, segment.number};
  segment.writable = mapping.may_write;
  segment.anonymous = mapping.anonymous;
  segment.mapper = pid;
  segment.next_flush = Clock::now() + kFlushInterval;
  if (segment.writable) {
    give_to(segment, pid, link);
  } else {
    segment.readers.insert(link);
  }
  note_own(segment);
  const uint64_t number = segment.number;
  log::debug("home", "event=shared segment={} path={} pid={}", number, mapping.path, pid);
  segments_[number] = std::move(segment);
  publish();
  return find(number);
}

Result<> SharedSegments::refuse_if_written_at_home(pid_t pid, const SharedMapping& mapping,
                                                   const Link& link) {
  for (const migrate::Sharer& other : migrate::find_writers(
           pid, mapping.key.dev_major, mapping.key.dev_minor, mapping.key.inode)) {
    if (handlers_.is_away(other.pid, link->host().node)) {
      continue;
    }
    if (move_of(pid) == nullptr && handlers_.gather(pid, "")) {
      return tl::unexpected(Error(ErrorKind::kRetry, "it is used at home", kAskAgain));
    }
    return fail(ErrorKind::kNotPossible,
                "process {} cannot map {} away from home: process {} ({}) has it mapped there", pid,
                mapping.path, other.pid, other.command);
  }
  return {};
}

// From now on this host alone may write to it: at once, or when the move that brings the process
// there is decided.
void SharedSegments::give_to(Segment& segment, pid_t pid, const Link& link) {
  Move* const move = move_of(pid);
  if (move == nullptr || move->target != link) {
    segment.holder = link;
    segment.readers.erase(link);
    return;
  }
  segment.locked = true;
  for (const auto& [number, other] : moves_) {
    segment.move = &other == move ? number : segment.move;
  }
  move->segments.insert(segment.number);
  move->opened.insert(segment.number);
}

// One that could only be read until now. Who reads it on one other node may want to see at once
// what is written: the writer goes there. Those on several nodes see it a moment later.
Result<> SharedSegments::make_writable(Segment& segment, pid_t pid, const SharedMapping& mapping,
                                       const Link& link) {
  if (segment.locked) {
    return tl::unexpected(Error(ErrorKind::kRetry, "it is being changed", kAskAgain));
  }
  TESS_TRY(refuse_if_written_at_home(pid, mapping, link));
  if (segment.readers.size() == 1 && !segment.readers.contains(link) && move_of(pid) == nullptr) {
    const std::string& node = (*segment.readers.begin())->host().node;
    if (handlers_.gather(pid, node)) {
      return tl::unexpected(Error(ErrorKind::kRetry, "it is on " + node, kAskAgain));
    }
  }
  segment.writable = true;
  give_to(segment, pid, link);
  publish();
  return {};
}

// One host at a time may write; the target of a move becomes the next.
Result<> SharedSegments::admit(Segment& segment, pid_t pid, const Link& link) {
  if (!segment.writable) {
    segment.readers.insert(link);
    return {};
  }
  Move* const move = move_of(pid);
  const auto moving = moves_.find(segment.move);
  if (segment.move != 0 && moving != moves_.end() && moving->second.target == link) {
    moving->second.opened.insert(segment.number);
    return {};
  }
  if (segment.move != 0) {
    return tl::unexpected(Error(ErrorKind::kRetry, "it is moving", kAskAgain));
  }
  if (segment.holder == link && move == nullptr) {
    return {};
  }
  if (segment.holder == link && move->target == link) {
    return {};  // joins others that are there already
  }
  if (segment.holder == nullptr) {
    segment.holder = link;
    return {};
  }
  const std::string& node = segment.holder->host().node;
  if (move == nullptr && handlers_.gather(pid, node)) {
    return tl::unexpected(Error(ErrorKind::kRetry, "it is on " + node, kAskAgain));
  }
  return fail(ErrorKind::kNotPossible,
              "what process {} shares is in use by processes of its job on another node ({})", pid,
              node);
}

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
      std::min(wish.offset() + wish.size(), std::max(wish.offset(), size_of(segment->fd)));
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

// ---- turns ----

void SharedSegments::lock(uint64_t number, Done then) {
  Segment* const segment = find(number);
  if (segment == nullptr) {
    then();
    return;
  }
  if (segment->locked) {
    segment->waiting.push_back(std::move(then));
    return;
  }
  segment->locked = true;
  then();
}

void SharedSegments::unlock(uint64_t number) {
  Segment* const segment = find(number);
  if (segment == nullptr) {
    return;
  }
  segment->window = 0;
  if (segment->waiting.empty()) {
    segment->locked = false;
    return;
  }
  const Done next = std::move(segment->waiting.front());
  segment->waiting.pop_front();
  next();
}

void SharedSegments::erase(uint64_t number) {
  auto gone = segments_.extract(number);
  if (gone.empty()) {
    return;
  }
  publish();
  for (const Done& waiting : gone.mapped().waiting) {
    waiting();  // finds nothing to wait for any more
  }
}

void SharedSegments::drop_everywhere(const Segment& segment) {
  drop_at(segment.holder, segment.number);
  for (const Link& reader : segment.readers) {
    drop_at(reader, segment.number);
  }
}

void SharedSegments::drop_at(const Link& link, uint64_t number) {
  if (link != nullptr) {
    wire::LinkMessage message;
    message.mutable_shared_drop()->add_segment(number);
    (void)link->send(message);
  }
}

// ---- content on its way ----

void SharedSegments::flush(uint64_t number, Done done) {
  Segment* const segment = find(number);
  if (segment == nullptr || segment->holder == nullptr || !segment->writable) {
    done();
    return;
  }
  const uint64_t id = next_id_++;
  wire::LinkMessage message;
  message.mutable_shared_flush()->set_id(id);
  message.mutable_shared_flush()->set_segment(number);
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
    news.set_size(size_of(segment.fd));
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

// All hosts hear of a change at home. `size` kSharedAll: of a change somewhere.
void SharedSegments::update(uint64_t number, uint64_t offset, uint64_t size, Done done) {
  Segment* const segment = find(number);
  if (segment == nullptr) {
    done();
    return;
  }
  wire::LinkMessage message;
  wire::SharedUpdate& news = *message.mutable_shared_update();
  news.set_segment(number);
  news.set_size(size_of(segment->fd));
  if (size > kAnswerMax) {
    news.set_everything(true);
  } else if (size != 0) {
    // With its zeros: they may replace something.
    const uint64_t n = offset < news.size() ? std::min(size, news.size() - offset) : 0;
    std::string data(n, '\0');
    const ssize_t got = ::pread(segment->fd.get(), data.data(), n, static_cast<off_t>(offset));
    data.resize(got > 0 ? static_cast<size_t>(got) : 0);
    news.add_run()->set_offset(offset);
    news.mutable_run(0)->set_data(std::move(data));
  }
  std::set<Link> links = segment->readers;
  if (segment->holder != nullptr) {
    links.insert(segment->holder);
  }
  const auto left = std::make_shared<size_t>(links.size() + 1);
  const auto one_done = [left, done = std::move(done)] {
    if (--*left == 0) {
      done();
    }
  };
  for (const Link& link : links) {
    send_update(link, number, message, one_done);
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

void SharedSegments::handle(const Link& link, const wire::LinkMessage& message) {
  switch (message.body_case()) {
    case wire::LinkMessage::kSharedRead:
      read(link, message);
      break;
    case wire::LinkMessage::kSharedDirty:
      dirty(message);
      break;
    case wire::LinkMessage::kSharedUpdated:
      if (auto waiting = pending_.extract(message.shared_updated().id()); !waiting.empty()) {
        waiting.mapped().done();
      }
      break;
    default:
      break;
  }
}

void SharedSegments::host_lost(const Link& link) {
  for (auto& [number, segment] : segments_) {
    segment.readers.erase(link);
    if (segment.holder == link) {
      segment.holder.reset();
    }
  }
  std::vector<Done> cut;
  for (auto it = pending_.begin(); it != pending_.end();) {
    if (it->second.link == link) {
      cut.push_back(std::move(it->second.done));
      it = pending_.erase(it);
    } else {
      ++it;
    }
  }
  for (const Done& done : cut) {
    done();
  }
}

}  // namespace tess::home
