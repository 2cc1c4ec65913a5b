#include "home/shared_segments.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/log.h"
#include "home/host_link.h"
#include "migrate/sharing.h"
#include "wire/agent.pb.h"

namespace tess::home {
namespace {

constexpr int kAskAgain = -static_cast<int>(stub::kKicked);

// Where the body has this mapping home may have another one, or none: munmap is not told. The same
// object is mapped elsewhere then.
Result<SharedMapping> mapping_meant(pid_t pid, const wire::SharedOpen& wish) {
  const ObjectKey key{wish.dev_major(), wish.dev_minor(), wish.inode()};
  auto there = read_shared_mapping(pid, wish.address());
  if (wish.inode() == 0 || (there && there->key == key)) {
    return there;
  }
  for (const SharedMapping& other : shared_mappings(pid)) {
    if (other.key == key) {
      return read_shared_mapping(pid, other.start);
    }
  }
  return fail(ErrorKind::kNotPossible, "process {} has object {}:{}:{} no longer mapped at home",
              pid, key.dev_major, key.dev_minor, key.inode);
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
  if (auto described = describe(link, pid, wish, answer); !described) {
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

Result<> SharedSegments::describe(const Link& link, pid_t pid, const wire::SharedOpen& wish,
                                  wire::SharedOpened& answer) {
  if (pid == 0) {
    return fail(ErrorKind::kBadInput, "shared memory of a process that is not of this job");
  }
  TESS_TRY_ASSIGN(const SharedMapping mapping, mapping_meant(pid, wish));
  TESS_TRY_ASSIGN(Segment* const segment, find_or_make(pid, mapping, link));
  answer.set_segment(segment->number);
  answer.set_dev_major(segment->key.dev_major);
  answer.set_dev_minor(segment->key.dev_minor);
  answer.set_inode(segment->key.inode);
  answer.set_anonymous(segment->anonymous);
  answer.set_writable(mapping.may_write);
  answer.set_size(object_size(segment->fd));
  const bool as_wished = wish.inode() != 0;
  answer.set_offset(as_wished ? wish.offset() : mapping.offset + (wish.address() - mapping.start));
  answer.set_length(as_wished ? wish.length() : mapping.end - wish.address());
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
  TESS_TRY(join_those_at_home(pid, mapping));
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
  segment.inherited = mapping.inherited;
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
  if (!mapping.inherited) {
    handlers_.watch_home();
  }
  if (is_fetched(mapping.key)) {
    return tl::unexpected(Error(ErrorKind::kRetry, "another job's process comes home", kAskAgain));
  }
  for (const migrate::Sharer& other : migrate::find_writers(
           pid, mapping.key.dev_major, mapping.key.dev_minor, mapping.key.inode)) {
    if (handlers_.is_away(other.pid, link->host().node)) {
      continue;
    }
    if (move_of(other.pid) != nullptr) {
      return tl::unexpected(Error(ErrorKind::kRetry, "it is moving", kAskAgain));
    }
    if (move_of(pid) == nullptr && handlers_.whose(other.pid) == Whose::kStranger) {
      TESS_TRY(fetch_stranger(other.pid, mapping.key));
    }
    if (move_of(pid) == nullptr && handlers_.gather(pid, "", mapping.key)) {
      return tl::unexpected(Error(ErrorKind::kRetry, "it is used at home", kAskAgain));
    }
    return fail(ErrorKind::kNotPossible,
                "process {} cannot map {} away from home: process {} ({}) has it mapped there", pid,
                mapping.path, other.pid, other.command);
  }
  return {};
}

// One writes, the other may only read. If the body cannot go there, its host has the news late.
Result<> SharedSegments::join_those_at_home(pid_t pid, const SharedMapping& mapping) {
  const auto shares = [&](pid_t other) {
    return move_of(other) == nullptr &&
           std::ranges::any_of(shared_mappings(other), [&](const SharedMapping& theirs) {
             return theirs.key == mapping.key && (mapping.may_write || theirs.written);
           });
  };
  if (move_of(pid) == nullptr && std::ranges::any_of(handlers_.natives(), shares) &&
      handlers_.gather(pid, "", mapping.key)) {
    return tl::unexpected(Error(ErrorKind::kRetry, "it is used at home", kAskAgain));
  }
  return {};
}

bool SharedSegments::is_fetched(const ObjectKey& key) const {
  return std::ranges::any_of(fetches_, [&](const auto& fetch) {
    return fetch.second.key == key && fetch.second.state == Fetch::State::kAsked;
  });
}

// It may be another job's deputy, whose body writes to a copy of its own: first that comes home.
// Success: it is at home now.
Result<> SharedSegments::fetch_stranger(pid_t stranger, const ObjectKey& key) {
  const auto now = Clock::now();
  std::erase_if(fetches_, [&](const auto& fetch) {
    return fetch.second.state != Fetch::State::kAsked && fetch.second.believed < now;
  });
  const auto [fetch, fresh] = fetches_.try_emplace(stranger);
  if (fresh) {
    fetch->second.key = key;
    handlers_.fetch(stranger, [this, stranger](const Result<>& result) {
      Fetch& answered = fetches_[stranger];
      answered.state = result ? Fetch::State::kHome : Fetch::State::kRefused;
      answered.reason = result ? "" : result.error().message();
      answered.believed = Clock::now() + kBelieved;
    });
  }
  switch (fetch->second.state) {
    case Fetch::State::kAsked:
      return tl::unexpected(
          Error(ErrorKind::kRetry, "another job's process comes home", kAskAgain));
    case Fetch::State::kRefused:
      return fail(ErrorKind::kNotPossible,
                  "process {}, which is not of this job, has it mapped and does not come home: {}",
                  stranger, fetch->second.reason);
    case Fetch::State::kHome:
      break;
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
  TESS_TRY(join_those_at_home(pid, mapping));
  if (segment.readers.size() == 1 && !segment.readers.contains(link) && move_of(pid) == nullptr) {
    const std::string& node = (*segment.readers.begin())->host().node;
    if (handlers_.gather(pid, node, mapping.key)) {
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
    if (!segment.inherited) {
      handlers_.watch_home();
    }
    segment.holder = link;
    return {};
  }
  const std::string& node = segment.holder->host().node;
  if (move == nullptr && handlers_.gather(pid, node, segment.key)) {
    return tl::unexpected(Error(ErrorKind::kRetry, "it is on " + node, kAskAgain));
  }
  return fail(ErrorKind::kNotPossible,
              "what process {} shares is in use by processes of its job on another node ({})", pid,
              node);
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
  handlers_.came_home();
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
