// The objects at home that bodies of the job have mapped shared ("segments"): which host holds
// their memory, and in which order what bodies write and what is done at home meet. Each segment
// that bodies can write to is held by one host at a time, others may be had by many; its object at
// home is where content passes from host to host and to everybody else. Whatever needs a segment
// for itself (a write at home, a flush, a move) waits for its turn. Main thread only; nothing here
// blocks. docs/adr/0005.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "home/shared_object.h"
#include "stub/abi.h"
#include "sys/fd.h"

namespace tess::wire {
class LinkMessage;
class SharedOpen;
class SharedOpened;
}  // namespace tess::wire

namespace tess::home {

class HostLink;

class SharedSegments {
 public:
  using Link = std::shared_ptr<HostLink>;
  using Done = std::function<void()>;
  enum class Whose { kStranger, kHome, kMoving, kAway };  // all but the first: of this job
  struct Handlers {
    std::function<void()> table_changed;           // table() has
    std::function<std::vector<pid_t>()> deputies;  // all processes with a body elsewhere
    std::function<std::vector<pid_t>()> natives;   // those of the job at home
    // Away, or on its way to that node.
    std::function<bool(pid_t, const std::string& node)> is_away;
    // Brings the process to where what it wants to share is (a node, or home if that is empty); it
    // will ask again. False: it cannot go.
    std::function<bool(pid_t, const std::string& node, const ObjectKey& wish)> gather;
    std::function<Whose(pid_t)> whose;
    // So that whose() tells of what has happened by now.
    std::function<void()> catch_up;
    // From now on, for as long as any_elsewhere(), the job's processes at home are watched for what
    // they map.
    std::function<void()> watch_home;
    // Something that bodies had has come home.
    std::function<void()> came_home;
    // A process at home, or of another job, has mapped what this one with a body elsewhere writes
    // to: that one comes home.
    std::function<void(pid_t body, pid_t other, const std::string& command)> call_home;
    // Has a stranger come home, if it is of another job; `done` when it is there. kRetry: nobody
    // could be asked now.
    std::function<void(pid_t, std::function<void(const Result<>&)> done)> fetch;
  };
  explicit SharedSegments(Handlers handlers) : handlers_(std::move(handlers)) {}

  bool empty() const { return segments_.empty(); }
  // What deputies have to know.
  const std::vector<stub::SharedFile>& table() const { return table_; }

  // ---- from hosts ----
  // `pid` is the process at home, 0 if the host means one that is not known.
  void open(const Link& link, pid_t pid, const wire::LinkMessage& message);
  void handle(const Link& link, const wire::LinkMessage& message);  // the other shared_ messages
  void host_lost(const Link& link);

  // ---- from deputies ----
  void call(pid_t pid, stub::SharedMoment moment, const stub::SharedCall& call, Done done);
  // Processes that have ended or executed another program.
  void left(pid_t pid);
  // Brings home what bodies have written to files, for whoever looks at those from outside.
  void tick();

  // ---- moves of processes ----
  // All threads of these processes rest. When `done` is called everything they share is at home,
  // and stays as it is there until end_move; `target` (null: home) may open it meanwhile. Gives the
  // move's number.
  uint64_t begin_move(const std::vector<pid_t>& pids, const Link& target, Done done);
  // Committed: the target holds it from now on. Else: who held it before.
  void end_move(uint64_t move, bool committed);
  // The objects that this process, which is moving, must map with the others: its clean pages do
  // not suffice.
  std::set<ObjectKey> live_objects() const;

  // ---- of processes at home ----
  // Bodies write, or are about to, what a process at home could come to map.
  bool any_elsewhere() const;
  bool is_elsewhere(const ObjectKey& key) const;
  bool is_elsewhere(uint64_t number) const;
  // The segment that a descriptor of that process is of; 0: none.
  uint64_t file_shared(pid_t pid, int fd) const;
  // Keeps the segment for a change by that thread, until its kClose. False: it is kept already;
  // `free` is called when it no longer is.
  bool try_open(uint64_t number, pid_t tid, Done free);
  // Has it come home, unless it is moving.
  void fetch_home(const ObjectKey& key, pid_t pid, const std::string& command);

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kFlushInterval{1'000};
  // At most that part of the time goes into flushes and updates that nobody asked for.
  static constexpr int kUnaskedShare = 30;
  struct Stamp {
    int64_t modified_ns = 0;
    int64_t changed_ns = 0;
    int64_t size = 0;
    std::string content;  // its hash, if it is looked at so closely
    bool operator==(const Stamp&) const = default;
  };
  struct Segment {
    uint64_t number = 0;
    ObjectKey key;
    sys::Fd fd;
    stub::SharedFile identity{};
    bool writable = false;
    bool anonymous = false;
    bool inherited = false;
    Link holder;  // null while it is only being opened by the target of a move, or not writable
    std::set<Link> readers;  // hosts that have a copy which nobody there can write to
    bool locked = false;
    std::deque<Done> waiting;
    pid_t window = 0;  // whose write it is locked for: a deputy, or a watched thread
    uint64_t move = 0;
    pid_t mapper = 0;  // one that has it mapped
    Clock::time_point next_flush{};
    // What is known of the object at home: it has been changed by somebody else if it differs.
    Stamp stamp;
    bool changed_by_others = false;
    Clock::time_point next_look{};
    // Those at home do not have what is in it, and could come to map it.
    bool elsewhere() const;
  };
  struct Move {
    std::set<pid_t> pids;
    Link target;
    std::set<ObjectKey> keys;  // what the processes share
    std::set<uint64_t> segments;
    std::set<uint64_t> opened;  // by the target
  };
  // Strangers that have mapped for writing what a body wants to map so.
  struct Fetch {
    ObjectKey key;
    enum class State { kAsked, kHome, kRefused } state = State::kAsked;
    std::string reason;            // of the refusal
    Clock::time_point believed{};  // until then, once answered
  };
  static constexpr std::chrono::seconds kBelieved{2};
  struct Pending {
    Link link;
    uint64_t segment;
    Done done;
  };

  Segment* find(uint64_t number);
  Segment* find(const ObjectKey& key);
  Result<Segment*> find_or_make(pid_t pid, const SharedMapping& mapping, const Link& link);
  Result<> refuse_if_written_at_home(pid_t pid, const SharedMapping& mapping, const Link& link);
  Result<> join_those_at_home(pid_t pid, const SharedMapping& mapping);
  Result<> fetch_stranger(pid_t stranger, const ObjectKey& key);
  bool is_fetched(const ObjectKey& key) const;
  Result<> admit(Segment& segment, pid_t pid, const Link& link);
  Result<> make_writable(Segment& segment, pid_t pid, const SharedMapping& mapping,
                         const Link& link);
  void give_to(Segment& segment, pid_t pid, const Link& link);
  Result<> describe(const Link& link, pid_t pid, const wire::SharedOpen& wish,
                    wire::SharedOpened& answer);
  void read(const Link& link, const wire::LinkMessage& message);
  void dirty(const wire::LinkMessage& message);
  void lock(uint64_t number, Done then);
  void unlock(uint64_t number);
  // Locked by the caller.
  void flush(uint64_t number, Done done, uint64_t offset = 0, uint64_t size = stub::kSharedAll);
  void flush_all(bool anonymous_too, Done done);
  void update(uint64_t number, uint64_t offset, uint64_t size, Done done);
  void send_update(const Link& link, uint64_t number, wire::LinkMessage& message, Done done);
  void pass_on(const Segment& segment, const wire::LinkMessage& dirty);
  void flush_due();
  // Changes by others than bodies and deputies (shared_watch.cc).
  static Stamp stamp_of(const Segment& segment, uint64_t* budget);
  void note_others(Segment& segment);
  void note_own(Segment& segment);
  void look_at_others();
  void look_for_writers();
  void look_for_relatives();
  void open_window(uint64_t number, pid_t pid);
  void close_window(uint64_t number, pid_t pid, uint64_t offset, uint64_t size, Done done);
  bool still_mapped(Segment& segment);
  void prune();
  void erase(uint64_t number);
  void drop_at(const Link& link, uint64_t number);
  void drop_everywhere(const Segment& segment);
  void publish();
  Move* move_of(pid_t pid);

  const Handlers handlers_;
  std::map<uint64_t, Segment> segments_;
  std::map<uint64_t, Move> moves_;
  std::map<uint64_t, Pending> pending_;
  std::map<pid_t, Fetch> fetches_;
  Clock::time_point next_writers_look_{};
  Clock::time_point next_relatives_look_{};
  std::vector<stub::SharedFile> table_;
  uint64_t next_number_ = 1;
  uint64_t next_id_ = 1;
};

}  // namespace tess::home
