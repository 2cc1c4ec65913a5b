// The job's processes at home, while bodies of it write elsewhere to what those could map or read
// (docs/adr/0005). Their calls are shown: one that has mapped such memory stands at the end of its
// call until that memory is home, one that reads such a file stands before its call until what
// bodies have written is in the file, one that has written to it until they have the news. Main
// thread only.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "home/file_calls.h"
#include "home/shared_object.h"
#include "home/shared_segments.h"
#include "trace/tracer.h"

namespace tess::home {

class HomeWatch {
 public:
  struct Handlers {
    std::function<bool(pid_t)> is_at_home;  // traced and of this job, or just made
    std::function<void()> settle_soon;      // settle() is wanted, not from within
    std::function<void(std::chrono::microseconds)> look_later;  // look_at_undisturbed() is
    std::function<void(pid_t, const std::string&)> tell;        // people
  };
  HomeWatch(trace::Tracer& tracer, SharedSegments& shared, Handlers handlers)
      : tracer_(tracer), shared_(shared), handlers_(std::move(handlers)) {}
  HomeWatch(const HomeWatch&) = delete;
  HomeWatch& operator=(const HomeWatch&) = delete;

  // From now on, for as long as shared_.any_elsewhere(). Whoever has made a call by then is found
  // by his mappings.
  void begin();
  // Lets go whom nothing keeps any more. After every move, and now and then.
  void settle();
  // A thread of that process stands where it has mapped what is not here yet.
  bool keeps_any(pid_t pid) const;
  // Of whom nothing is shown yet, as a stop would spoil what they wait in.
  void look_at_undisturbed();

  // ---- trace::TraceListener ----
  bool watches(pid_t pid) const { return watching_ && handlers_.is_at_home(pid); }
  bool postpones(pid_t pid, pid_t tid, const trace::Registers& registers);
  bool keeps(pid_t pid, pid_t tid, const trace::Registers& registers);

 private:
  using Clock = std::chrono::steady_clock;
  struct Stand {
    pid_t pid;
    ObjectKey key;
    Clock::time_point until;
  };

  bool keeps_for(pid_t pid, pid_t tid, const SharedMapping& mapping);
  bool keeps_late_one(pid_t pid, pid_t tid);
  bool keeps_mapper(pid_t pid, pid_t tid, const trace::Registers& registers);
  bool stands_until(pid_t pid, pid_t tid, const std::function<void(std::function<void()>)>& begin);
  bool waits_before(const FileCall& call, pid_t pid, pid_t tid, const trace::Registers& registers);
  bool waits_for_content(pid_t pid, pid_t tid, uint64_t segment, const FileRange& range);
  bool waits_for_turn(pid_t pid, pid_t tid, uint64_t segment);
  void close_window(pid_t tid, const FileRange& change, std::function<void()> done);
  bool has_stood_long(const Stand& stand) const;

  trace::Tracer& tracer_;
  SharedSegments& shared_;
  const Handlers handlers_;
  bool watching_ = false;
  std::map<pid_t, Stand> mappers_;  // by thread
  std::set<pid_t> late_;            // processes with threads that may have mapped something unseen
  uint64_t stands_ = 0;             // so far
  std::map<pid_t, uint64_t> standing_;  // threads, and their last stands
  // For whose call, which is still to be made, content has come home, and which.
  struct Came {
    pid_t pid = 0;
    uint64_t rsp = 0;
    uint64_t rip = 0;
    uint64_t number = 0;
    std::map<uint64_t, FileRange> had;  // by segment
  };
  std::map<pid_t, Came> came_;  // by thread
  struct Window {
    pid_t pid;
    uint64_t segment;
  };
  std::map<pid_t, Window> windows_;  // threads within a call that changes a file
};

}  // namespace tess::home
