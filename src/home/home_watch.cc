#include "home/home_watch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <vector>

#include "base/log.h"
#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/process.h"

namespace tess::home {

// The descriptors of files that a call sees or changes, by the place of the argument.
struct FileCall {
  uint64_t number;
  int sees;
  int changes;
};

namespace {

// A host that does not answer is lost by then, or keeps the bodies: no process stands for ever.
constexpr std::chrono::seconds kLongestStand{60};

bool has_failed(const trace::Registers& r) {
  constexpr auto kErrorsFrom = static_cast<uint64_t>(-4095);
  return r.rax >= kErrorsFrom;
}

uint64_t argument(const trace::Registers& r, int index) {
  const uint64_t all[] = {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
  return all[index];
}

// ---- memory ----

// The call, which has not failed, has mapped something shared: also who only reads that has to see
// what the others write.
bool has_mapped(const trace::Registers& r) {
  return r.orig_rax == SYS_shmat || (r.orig_rax == SYS_mmap && (r.r10 & MAP_SHARED) != 0);
}

// ---- files ----

constexpr int kNone = -1;
constexpr int kResult = 6;  // the descriptor is what the call gives

constexpr FileCall kFileCalls[] = {
    {SYS_read, 0, kNone},       {SYS_pread64, 0, kNone},      {SYS_readv, 0, kNone},
    {SYS_preadv, 0, kNone},     {SYS_preadv2, 0, kNone},      {SYS_lseek, 0, kNone},
    {SYS_fsync, 0, kNone},      {SYS_fdatasync, 0, kNone},    {SYS_sync_file_range, 0, kNone},
    {SYS_fstat, 0, kNone},      {SYS_mmap, 4, kNone},         {SYS_sendfile, 1, 0},
    {SYS_splice, 0, 2},         {SYS_copy_file_range, 0, 2},  {SYS_write, kNone, 0},
    {SYS_pwrite64, kNone, 0},   {SYS_writev, kNone, 0},       {SYS_pwritev, kNone, 0},
    {SYS_pwritev2, kNone, 0},   {SYS_fallocate, kNone, 0},    {SYS_ftruncate, kNone, 0},
    {SYS_open, kNone, kResult}, {SYS_openat, kNone, kResult}, {SYS_creat, kNone, kResult},
};

const FileCall* file_call(const trace::Registers& r) {
  const auto* const found = std::ranges::find(kFileCalls, r.orig_rax, &FileCall::number);
  return found == std::end(kFileCalls) ? nullptr : found;
}

// Most calls of these numbers do neither.
bool concerns_content(const trace::Registers& r) {
  switch (r.orig_rax) {
    case SYS_lseek:
      return r.rdx == SEEK_DATA || r.rdx == SEEK_HOLE;
    case SYS_mmap:
      return (r.r10 & (MAP_ANONYMOUS | MAP_SHARED)) == 0;
    case SYS_open:
      return (r.rsi & O_TRUNC) != 0;
    case SYS_openat:
      return (r.rdx & O_TRUNC) != 0;
    default:
      return true;
  }
}

// Which bytes a call changes its arguments say, or the file's position does.
bool says_bytes(uint64_t number) {
  return number == SYS_write || number == SYS_writev || number == SYS_pwrite64 ||
         number == SYS_pwritev || number == SYS_ftruncate;
}

// For its other end: it cannot keep the file to itself meanwhile.
bool may_wait(uint64_t number) {
  return number == SYS_splice || number == SYS_sendfile;
}

bool cuts(uint64_t number) {
  return number == SYS_ftruncate || number == SYS_open || number == SYS_openat ||
         number == SYS_creat;
}

struct Position {
  uint64_t at = 0;
  uint64_t flags = 0;
};

std::optional<Position> position_of(pid_t pid, uint64_t fd) {
  const auto info = sys::read_file(fmt::format("/proc/{}/fdinfo/{}", pid, fd));
  unsigned long at = 0;
  unsigned long flags = 0;
  if (!info || std::sscanf(info->c_str(), "pos: %lu flags: %lo", &at, &flags) != 2) {
    return std::nullopt;
  }
  return Position{at, flags};
}

// What a call looks at, as far as that is easily known: to compare all of a large object takes
// time. `alone`: no other thread changes the file's position meanwhile.
stub::SharedCall look_of(pid_t pid, uint64_t segment, const trace::Registers& r, bool alone) {
  if (r.orig_rax == SYS_pread64) {
    return {segment, r.r10, r.rdx};
  }
  const auto position = r.orig_rax == SYS_read && alone ? position_of(pid, r.rdi) : std::nullopt;
  return position ? stub::SharedCall{segment, position->at, r.rdx}
                  : stub::SharedCall{segment, 0, stub::kSharedAll};
}

// What a call has changed of the file. A body that has changed other bytes of the same page keeps
// those if it is known.
stub::SharedCall change_of(pid_t pid, uint64_t segment, uint64_t fd, const trace::Registers& r) {
  if (cuts(r.orig_rax)) {
    return {segment, 0, stub::kSharedLength};
  }
  const auto position = position_of(pid, fd);
  const bool positioned = r.orig_rax == SYS_pwrite64 || r.orig_rax == SYS_pwritev;
  if (position && positioned && (position->flags & O_APPEND) == 0) {
    return {segment, r.r10, r.rax};
  }
  if (position && (r.orig_rax == SYS_write || r.orig_rax == SYS_writev) && position->at >= r.rax) {
    return {segment, position->at - r.rax, r.rax};
  }
  return {segment, 0, stub::kSharedAll};
}

// A filter of the application's own sees that a call is put off (ptrace(2), PTRACE_SYSEMU).
bool is_filtered(pid_t pid) {
  const auto status = sys::ProcStatus::read(pid);
  return !status || status->number("Seccomp") != 0;
}

}  // namespace

void HomeWatch::begin() {
  if (std::exchange(watching_, true)) {
    return;
  }
  for (const pid_t pid : tracer_.processes()) {
    if (watches(pid)) {
      tracer_.begin_watch(pid);
    }
  }
  look_at_undisturbed();
}

// They may make calls between two looks.
void HomeWatch::look_at_undisturbed() {
  constexpr std::chrono::microseconds kPause(2'000);
  constexpr int kShare = 20;  // of the time goes into it at most
  const auto start = Clock::now();
  const std::vector<pid_t> pids = tracer_.look_at_undisturbed();
  late_ = {pids.begin(), pids.end()};
  if (!pids.empty()) {
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
    handlers_.look_later(std::max(kPause, took * kShare));
  }
}

// Stands until `begin` calls what it is given. False: that was at once.
bool HomeWatch::stands_until(pid_t pid, pid_t tid,
                             const std::function<void(std::function<void()>)>& begin) {
  enum class Step { kAsked, kStands, kDone };
  const auto step = std::make_shared<Step>(Step::kAsked);
  begin([this, pid, tid, step] {
    if (std::exchange(*step, Step::kDone) == Step::kStands) {
      tracer_.let_kept_go(pid, tid);
    }
  });
  if (*step == Step::kDone) {
    return false;
  }
  *step = Step::kStands;
  return true;
}

// Before a call that sees a file: what bodies have written comes home. Once: the call that follows
// is the same one.
bool HomeWatch::waits_for_content(pid_t pid, pid_t tid, const stub::SharedCall& look) {
  if (const auto had = came_.find(tid);
      had != came_.end() && had->second.of.contains(look.segment)) {
    return false;
  }
  const bool waits = stands_until(pid, tid, [&](std::function<void()> done) {
    shared_.call(tid, stub::SharedMoment::kBefore, look, std::move(done));
  });
  if (waits) {
    came_[tid].pid = pid;
    came_[tid].of.insert(look.segment);
  }
  return waits;
}

// Before a call that changes a file: from there to its end no body's page may be written over what
// it writes. If it does not say which bytes those are, bodies must have changed none besides.
bool HomeWatch::waits_for_turn(pid_t pid, pid_t tid, uint64_t segment, bool known_bytes) {
  if (!known_bytes && waits_for_content(pid, tid, {segment, 0, stub::kSharedAll})) {
    return true;
  }
  if (windows_.contains(tid)) {
    close_window(tid, std::nullopt, [] {});  // of a call whose end was not seen
  }
  bool open = false;
  const bool waits = stands_until(pid, tid, [&](const std::function<void()>& free) {
    open = shared_.try_open(segment, tid, free);
    if (open) {
      free();
    }
  });
  if (open) {
    windows_[tid] = {pid, segment};
  }
  return waits;
}

void HomeWatch::close_window(pid_t tid, const std::optional<stub::SharedCall>& change,
                             std::function<void()> done) {
  const auto window = windows_.extract(tid);
  const stub::SharedCall nothing{window.mapped().segment, 0, 0};
  shared_.call(tid, stub::SharedMoment::kClose, change.value_or(nothing), std::move(done));
}

bool HomeWatch::postpones(pid_t pid, pid_t tid, const trace::Registers& registers) {
  const FileCall* const call = file_call(registers);
  const bool waits =
      call != nullptr && concerns_content(registers) && waits_before(*call, pid, tid, registers);
  if (!waits) {
    came_.erase(tid);
  }
  return waits;
}

bool HomeWatch::waits_before(const FileCall& call, pid_t pid, pid_t tid,
                             const trace::Registers& registers) {
  const auto file_of = [&](int place) {
    return place == kNone || place == kResult
               ? 0
               : shared_.file_shared(pid, static_cast<int>(argument(registers, place)));
  };
  const uint64_t changed = file_of(call.changes);
  const uint64_t seen = file_of(call.sees);
  if ((changed == 0 && seen == 0) || is_filtered(pid)) {
    return false;
  }
  if (seen != 0 && shared_.is_elsewhere(seen)) {
    const bool alone = tracer_.threads(pid).size() == 1;
    if (waits_for_content(pid, tid, look_of(pid, seen, registers, alone))) {
      return true;
    }
  }
  return changed != 0 && !may_wait(call.number) &&
         waits_for_turn(pid, tid, changed, says_bytes(call.number));
}

bool HomeWatch::keeps(pid_t pid, pid_t tid, const trace::Registers& registers) {
  if (keeps_late_one(pid, tid)) {
    return true;
  }
  if (static_cast<int64_t>(registers.orig_rax) < 0) {
    return false;  // in no call
  }
  const FileCall* const call = file_call(registers);
  const auto window = windows_.find(tid);
  if (has_failed(registers) || call == nullptr || call->changes == kNone ||
      !concerns_content(registers)) {
    if (window != windows_.end()) {
      close_window(tid, std::nullopt, [] {});
    }
    return !has_failed(registers) && keeps_mapper(pid, tid, registers);
  }
  const uint64_t fd = call->changes == kResult ? registers.rax : argument(registers, call->changes);
  if (window != windows_.end()) {
    const auto change = change_of(pid, window->second.segment, fd, registers);
    return stands_until(
        pid, tid, [&](std::function<void()> done) { close_window(tid, change, std::move(done)); });
  }
  const uint64_t segment = shared_.file_shared(pid, static_cast<int>(fd));
  return segment != 0 && stands_until(pid, tid, [&](std::function<void()> done) {
           shared_.call(tid, stub::SharedMoment::kClose, change_of(pid, segment, fd, registers),
                        std::move(done));
         });
}

bool HomeWatch::keeps_for(pid_t pid, pid_t tid, const SharedMapping& mapping) {
  if (!shared_.is_elsewhere(mapping.key)) {
    return false;
  }
  log::debug("home", "event=kept pid={} tid={} path={}", pid, tid, mapping.path);
  mappers_[tid] = {pid, mapping.key, Clock::now() + kLongestStand};
  handlers_.settle_soon();
  return true;
}

bool HomeWatch::keeps_late_one(pid_t pid, pid_t tid) {
  return late_.contains(pid) &&
         std::ranges::any_of(shared_mappings(pid), [&](const SharedMapping& mapping) {
           return keeps_for(pid, tid, mapping);
         });
}

bool HomeWatch::keeps_mapper(pid_t pid, pid_t tid, const trace::Registers& registers) {
  return has_mapped(registers) &&
         std::ranges::any_of(shared_mappings(pid), [&](const SharedMapping& mapping) {
           return mapping.start <= registers.rax && registers.rax < mapping.end &&
                  keeps_for(pid, tid, mapping);
         });
}

void HomeWatch::settle() {
  const auto left = [this](pid_t pid, pid_t tid) {
    return !handlers_.is_at_home(pid) || !tracer_.has_thread(pid, tid);
  };
  std::erase_if(came_, [&](const auto& thread) { return left(thread.second.pid, thread.first); });
  std::vector<pid_t> unfinished;
  for (const auto& [tid, window] : windows_) {
    if (left(window.pid, tid)) {
      unfinished.push_back(tid);
    }
  }
  for (const pid_t tid : unfinished) {
    close_window(tid, stub::SharedCall{windows_.at(tid).segment, 0, stub::kSharedAll}, [] {});
  }
  watching_ = watching_ && (shared_.any_elsewhere() || !windows_.empty());
  std::map<pid_t, pid_t> free;
  std::vector<Stand> wanting;
  for (const auto& [tid, stand] : mappers_) {
    if (left(stand.pid, tid) || !shared_.is_elsewhere(stand.key) || has_stood_long(stand)) {
      free.emplace(tid, stand.pid);
    } else {
      wanting.push_back(stand);
    }
  }
  for (const auto& [tid, pid] : free) {
    mappers_.erase(tid);
    tracer_.let_kept_go(pid, tid);
  }
  for (const Stand& stand : wanting) {  // a move that fails at once comes here again
    shared_.fetch_home(stand.key, stand.pid, sys::process_name(stand.pid));
  }
}

bool HomeWatch::keeps_any(pid_t pid) const {
  return std::ranges::any_of(mappers_,
                             [&](const auto& mapper) { return mapper.second.pid == pid; });
}

bool HomeWatch::has_stood_long(const Stand& stand) const {
  if (Clock::now() < stand.until) {
    return false;
  }
  log::warn("home", "event=shared_apart pid={} reason=\"what it maps does not come home\"",
            stand.pid);
  handlers_.tell(stand.pid, fmt::format("process {} has mapped memory that others of its job write "
                                        "to on another node, and it does not come home",
                                        stand.pid));
  return true;
}

}  // namespace tess::home
