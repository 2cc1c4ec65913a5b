// The steps of one process's migration, carried out on a worker thread; group_migration.h says
// which one is next. ptrace work and everything that belongs to the main thread is asked of it
// through MainServices.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/result.h"
#include "home/host_link.h"
#include "home/managed.h"
#include "home/memory_room.h"
#include "home/shared_object.h"
#include "memory/image_stream.h"
#include "migrate/coordinator.h"
#include "migrate/journal.h"
#include "trace/tracer.h"

namespace tess::home {

// What a worker may ask for. An interface, so that the order of things can be tested without a
// cluster.
class MainServices {
 public:
  virtual ~MainServices() = default;
  // Runs the work on the main thread and waits for it.
  virtual Result<> on_main(const std::function<Result<>()>& work) = 0;
  // The link to the job's host agent on that node, made if need be.
  virtual Result<std::shared_ptr<HostLink>> link_to(const std::string& node,
                                                    uint64_t memory_bytes) = 0;
  virtual trace::Tracer& tracer() = 0;  // main thread only
  virtual const net::TlsContext& tls() = 0;
  virtual Faults& faults() = 0;
  virtual migrate::Journal& journal() = 0;
  virtual std::string run_dir() = 0;
  virtual uint64_t job() = 0;
  virtual uint64_t new_operation() = 0;
  // Starts and stops reading the mailbox on the main thread (main thread only).
  virtual void watch(Managed& process) = 0;
  // SIGSTOP or SIGCONT for the body, wherever that is; none if it is at home (main thread only).
  virtual void signal_body(const Managed& process, int signal) = 0;
  // What bodies share (SharedSegments). All threads of these processes rest. Either there are
  // others by now that must move with them, which are busy with it from now on; or bodies where
  // they are end, and it has to be asked again (bodies_are_ending), unless it is not `patient`; or
  // waits until everything that they share is at home, and gives the number for end_share. `target`
  // null: home.
  using Group = std::vector<std::shared_ptr<Managed>>;
  struct Share {
    Group more;
    bool bodies_end = false;
    uint64_t number = 0;
  };
  virtual Result<Share> begin_share(const Group& group, const std::string& node,
                                    const std::shared_ptr<HostLink>& target, bool patient) = 0;
  virtual void end_share(uint64_t move, bool committed) = 0;
  virtual Result<std::set<ObjectKey>> shared_objects() = 0;
  // Tells a deputy which files are shared (main thread only).
  virtual void write_shared_table(const Managed& process) = 0;
  // True if it has ended or executes another program now: it has no part in the group any more.
  virtual bool has_left(const Managed& process) = 0;
  // Whether the bodies of processes that have ended or executed another program are still on their
  // way out on that node. Not for long: one that does not tell of its end is given up.
  virtual bool bodies_are_ending(const std::string& node) = 0;
  // The body that it had there is no more, and nobody will tell of its end.
  virtual void body_dropped(const std::string& node, const Managed& process) = 0;
  // Whether a process that shares with this one may move with it.
  virtual bool may_join(const Managed& process, pid_t sharer) = 0;
  // Tells tessd how a process's memory got to that node or came from it.
  virtual void note_transfer(const Managed& process, const std::string& node, bool sent,
                             const memory::Flow& flow) = 0;
};

migrate::Kind kind_of(const Managed& process, const std::string& node);

class Migration {
 public:
  // `node` empty: back home. `process` is busy for as long as this runs.
  Migration(MainServices& services, std::shared_ptr<Managed> process, std::string node);

  const std::shared_ptr<Managed>& process() const { return process_; }
  const std::string& from() const { return from_; }                    // a node; empty: home
  const std::shared_ptr<HostLink>& target() const { return target_; }  // after kReserve; null: home
  // `group`: with whom it moves. kJournal is not a step of a process.
  Result<> perform(migrate::Step step, const std::set<pid_t>& group);
  // The first half of kSwitch, which does it if this has not been called: the process belongs to
  // where it goes, but does not go on yet.
  Result<> arrive();
  // kSwitch has failed: once more, then the process is ended.
  Result<> insist_on_switch(Result<> first);
  // Is it where a migration of that kind begins?
  bool can_begin(migrate::Kind kind) const;
  // True if there is something for this step to undo.
  bool undoes(migrate::Step step) const;
  migrate::JournalEntry journal_entry(std::string state) const;
  // Nothing more will be asked of the hosts.
  void forget();

 private:
  Result<> perform_step(migrate::Step step, const std::set<pid_t>& group);
  Result<> reserve(const std::set<pid_t>& group);
  Result<> freeze();
  Result<> freeze_native();
  Result<> freeze_deputy();
  Result<> transfer();
  Result<> transfer_out();
  Result<> transfer_hop();
  Result<> transfer_back();
  Result<> connect();
  Result<> run_target();
  Result<> switch_over();
  Result<> place_channels();
  Result<> become_deputy();
  Result<> belongs_to_target();
  Result<> become_native();
  Result<> go_on_natively();
  Result<> drop_source();
  Result<> drop_target();
  Result<> thaw_source();
  Result<> release_home();

  Result<> let_go(stub::Phase phase);
  Result<bool> settle_earlier_release();
  Result<> wait_until_born();
  void tell_of_stop();
  Result<> leave_stub();
  Result<> let_go_at_home(bool keep);
  Result<> wait_ready(HostLink& link);
  Result<> tell(HostLink& link, const std::function<void(wire::LinkMessage&)>& fill);
  Result<> demand(HostLink& link, const char* what, int answer_case, wire::Timeout timeout,
                  const std::function<void(wire::LinkMessage&)>& fill);
  MainServices& services_;
  const std::shared_ptr<Managed> process_;
  const std::string node_;
  const migrate::Kind kind_;
  const uint64_t operation_;
  const std::string from_;
  std::shared_ptr<HostLink> source_;
  std::shared_ptr<HostLink> target_;
  bool parked_ = false;    // all threads at home are in the stub and wait for us
  bool injected_ = false;  // the stub is in the process
  bool body_began_stopped_ = false;
  bool is_stopped_ = false;         // as of let_go()
  std::optional<MemoryRoom> room_;  // while its memory comes home
  bool arrived_ = false;
  bool froze_ = false;  // these two steps have been begun
  bool transferred_ = false;
  struct ThreadChannel {
    uint32_t slot;
    int32_t tid;
    Channel channel;
  };
  std::vector<ThreadChannel> channels_;
  uint64_t process_cpu_ns_ = 0;  // by the image that has come home
  uint64_t arg_start_ = 0;
  uint64_t env_end_ = 0;
};

}  // namespace tess::home
