#include "home/home_watch.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "base/log.h"
#include "sys/proc_status.h"
#include "sys/process.h"

namespace tess::home {
namespace {

// A host that does not answer is lost by then, or keeps the bodies: no process stands for ever.
constexpr std::chrono::seconds kLongestStand{60};
constexpr FileRange kNothing{0, 0};
constexpr FileRange kSomewhere{0, stub::kSharedAll};

bool has_failed(const trace::Registers& r) {
  constexpr auto kErrorsFrom = static_cast<uint64_t>(-4095);
  return r.rax >= kErrorsFrom;
}

// The call, which has not failed, has mapped something shared: also who only reads that has to see
// what the others write.
bool has_mapped(const trace::Registers& r) {
  return r.orig_rax == SYS_shmat || (r.orig_rax == SYS_mmap && (r.r10 & MAP_SHARED) != 0);
}

// A filter of the application's own sees that a call is put off (ptrace(2), PTRACE_SYSEMU).
bool is_filtered(pid_t tid) {
  const auto status = sys::ProcStatus::read(tid);
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
  const uint64_t stand = ++stands_;
  const auto over = std::make_shared<bool>(false);
  standing_[tid] = stand;
  begin([this, pid, tid, stand, over] {
    *over = true;
    // Unless it has gone on by itself, and may stand for something else.
    if (const auto found = standing_.find(tid);
        found != standing_.end() && found->second == stand) {
      standing_.erase(found);
      tracer_.let_kept_go(pid, tid);  // if it does already
    }
  });
  return !*over;
}

// Before a call that sees a file: what bodies have written comes home. Once, if the call that
// follows is the same one.
bool HomeWatch::waits_for_content(pid_t pid, pid_t tid, uint64_t segment, const FileRange& range) {
  const bool all = range.size == stub::kSharedAll;
  const uint64_t end = all ? stub::kSharedAll : range.offset + range.size;
  std::map<uint64_t, FileRange>& had = came_[tid].had;
  if (const auto it = had.find(segment);
      it != had.end() &&
      (it->second.size == stub::kSharedAll ||
       (!all && it->second.offset <= range.offset && end <= it->second.offset + it->second.size))) {
    return false;
  }
  const bool waits = stands_until(pid, tid, [&](std::function<void()> done) {
    shared_.call(tid, stub::SharedMoment::kBefore, {segment, range.offset, range.size},
                 std::move(done));
  });
  if (waits) {
    had[segment] = range;
  }
  return waits;
}

// Before a call that changes a file: from there to its end no body's page may be written over what
// it writes.
bool HomeWatch::waits_for_turn(pid_t pid, pid_t tid, uint64_t segment) {
  if (windows_.contains(tid)) {
    close_window(tid, kNothing, [] {});  // of a call whose end was not seen
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

void HomeWatch::close_window(pid_t tid, const FileRange& change, std::function<void()> done) {
  const auto window = windows_.extract(tid);
  shared_.call(tid, stub::SharedMoment::kClose,
               {window.mapped().segment, change.offset, change.size}, std::move(done));
}

bool HomeWatch::postpones(pid_t pid, pid_t tid, const trace::Registers& registers) {
  const auto is_that = [&](const Came& came) {
    return came.rsp == registers.rsp && came.rip == registers.rip &&
           came.number == registers.orig_rax;
  };
  if (const auto came = came_.find(tid); came != came_.end() && !is_that(came->second)) {
    came_.erase(came);  // a handler's, which comes before
  }
  const FileCall* const call = file_call(registers);
  if (call != nullptr && waits_before(*call, pid, tid, registers)) {
    Came& came = came_[tid];
    came.pid = pid;
    came.rsp = registers.rsp;
    came.rip = registers.rip;
    came.number = registers.orig_rax;
    return true;
  }
  came_.erase(tid);
  return false;
}

bool HomeWatch::waits_before(const FileCall& call, pid_t pid, pid_t tid,
                             const trace::Registers& registers) {
  const auto file_of = [&](int place) {
    return place == FileCall::kNone || place == FileCall::kResult
               ? 0
               : shared_.file_shared(tid, descriptor(registers, place));
  };
  const uint64_t changed = file_of(call.changes);
  const uint64_t seen = file_of(call.sees);
  if ((changed == 0 && seen == 0) || is_filtered(tid)) {
    return false;
  }
  if (seen != 0 && shared_.is_elsewhere(seen)) {
    const bool alone = tracer_.threads(pid).size() == 1;
    if (waits_for_content(pid, tid, seen, range_seen(tid, registers, alone))) {
      return true;
    }
  }
  if (changed == 0) {
    return false;
  }
  return may_wait(pid, registers) ? waits_for_content(pid, tid, changed, kSomewhere)
                                  : waits_for_turn(pid, tid, changed);
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
  if (has_failed(registers) || call == nullptr || call->changes == FileCall::kNone) {
    if (window != windows_.end()) {
      close_window(tid, kNothing, [] {});
    }
    return !has_failed(registers) && keeps_mapper(pid, tid, registers);
  }
  const int fd = descriptor(registers, call->changes);
  if (window != windows_.end()) {
    const FileRange change = range_changed(tid, fd, registers);
    return stands_until(
        pid, tid, [&](std::function<void()> done) { close_window(tid, change, std::move(done)); });
  }
  const uint64_t segment = shared_.file_shared(tid, fd);
  return segment != 0 && stands_until(pid, tid, [&](std::function<void()> done) {
           const FileRange change = range_changed(tid, fd, registers);
           shared_.call(tid, stub::SharedMoment::kClose, {segment, change.offset, change.size},
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
         std::ranges::any_of(shared_mappings(tid), [&](const SharedMapping& mapping) {
           return keeps_for(pid, tid, mapping);
         });
}

bool HomeWatch::keeps_mapper(pid_t pid, pid_t tid, const trace::Registers& registers) {
  return has_mapped(registers) &&
         std::ranges::any_of(shared_mappings(tid), [&](const SharedMapping& mapping) {
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
    close_window(tid, kSomewhere, [] {});
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
