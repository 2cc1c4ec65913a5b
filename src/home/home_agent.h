// The home agent of one job: only tracer of its processes at home, coordinator of all their
// migrations. The main thread runs the loop, makes every ptrace call and owns everything here but
// what the members say; each migration has a worker thread.
#pragma once

#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/fault.h"
#include "home/home_config.h"
#include "home/home_watch.h"
#include "home/managed.h"
#include "home/migration.h"
#include "home/program_book.h"
#include "home/shared_segments.h"
#include "home/tessd_client.h"
#include "migrate/journal.h"
#include "net/loop.h"
#include "net/tls_stream.h"
#include "trace/tracer.h"

namespace tess::home {

class HomeAgent final : public trace::TraceListener, public MainServices {
 public:
  HomeAgent(HomeConfig config, net::TlsContext tls, migrate::Journal journal, trace::WaitHub hub);
  ~HomeAgent() override;
  int run();

  // trace::TraceListener
  void forked(pid_t parent, pid_t thread, pid_t child) override;
  bool executed(pid_t pid) override;
  void group_stopped(pid_t pid, int signal) override;
  void group_continued(pid_t pid) override;
  bool ended_by_stop(const trace::Registers& registers) override;
  bool waits_without_limit(pid_t pid, const trace::Registers& registers) override;
  bool cut_by_stop(const trace::Registers& registers) override;
  bool watches(pid_t pid) override;
  bool postpones(pid_t pid, pid_t tid, const trace::Registers& registers) override;
  bool keeps_at_call_end(pid_t pid, pid_t tid, const trace::Registers& registers) override;
  void exited(pid_t pid, int wait_status) override;
  void ending(pid_t pid, int wait_status) override;

  // MainServices (workers)
  Result<> on_main(const std::function<Result<>()>& work) override;
  std::shared_ptr<HostLink> find_link(const std::string& node);
  Result<std::shared_ptr<HostLink>> link_to(const std::string& node,
                                            uint64_t memory_bytes) override;
  trace::Tracer& tracer() override { return tracer_; }
  const net::TlsContext& tls() override { return tls_; }
  Faults& faults() override { return faults_; }
  migrate::Journal& journal() override { return journal_; }
  std::string run_dir() override { return config_.run_dir; }
  uint64_t job() override { return config_.job; }
  uint64_t new_operation() override;
  void watch(Managed& process) override;
  void signal_body(const Managed& process, int signal) override;
  Result<Share> begin_share(const Group& group, const std::string& node,
                            const std::shared_ptr<HostLink>& target, bool patient) override;
  void end_share(uint64_t move, bool committed) override;
  Result<std::set<ObjectKey>> shared_objects() override;
  void write_shared_table(const Managed& process) override;
  bool has_left(const Managed& process) override;
  bool bodies_are_ending(const std::string& node) override;
  void body_dropped(const std::string& node, const Managed& process) override;
  bool may_join(const Managed& process, pid_t sharer) override;
  void note_transfer(const Managed& process, const std::string& node, bool sent,
                     const memory::Flow& flow) override;

 private:
  // Workers. What tessd says of a host agent for this job there, and a link to it.
  Result<HostAddress> need_host(const std::string& node, uint64_t memory_bytes);
  Result<std::shared_ptr<HostLink>> open_link(const std::string& node, const HostAddress& host);

  using Done = std::function<void(const Result<>&)>;
  using Processes = std::map<pid_t, std::shared_ptr<Managed>>;

  // what tessd asks (home_agent.cc)
  void attach();
  void handle_request(const wire::AgentDown& message);
  void migrate(pid_t pid, const std::string& node, Done done);
  void start_migration(std::shared_ptr<Managed> process, const std::string& node, Done done);
  void migration_ended(const std::vector<std::shared_ptr<Managed>>& group, const std::string& node,
                       const Result<>& ended, const std::string& warning, const Done& done);
  bool try_again(const std::vector<std::shared_ptr<Managed>>& group, const std::string& node,
                 const Done& done);
  void go_on_after_exec(const std::shared_ptr<Managed>& process, const std::string& node);
  void go_on_at_home(Managed& process);
  void settle(const std::shared_ptr<Managed>& process, const std::string& node,
              const Result<>& result);
  Result<Group> find_companions(const Group& group, const std::string& node);
  bool gather(pid_t pid, const std::string& node, const ObjectKey& wish);
  void begin_gathering(pid_t pid, const std::string& node);
  void settle_soon();
  // with those who share from outside (strangers.cc)
  SharedSegments::Whose whose(pid_t pid);
  void fetch_stranger(pid_t pid, uint32_t attempts, Done done);
  void fetched(pid_t pid, Done done);
  void call_home(pid_t pid, pid_t other, const std::string& command);
  struct Companions {
    std::vector<pid_t> pids;
    std::optional<pid_t> elsewhere;  // one that shares with a group at home but is away
  };
  void add_those_who_wish(std::vector<pid_t>& all, Companions& found);
  Companions look_for_companions(const std::vector<pid_t>& group, const Managed* first,
                                 bool by_root);
  void explain(pid_t pid, bool by_root, uint64_t request);
  void bring_home(Done done);
  void after_events();
  void maybe_finish();
  void follow_name();
  void tick();
  bool may_rest() const;
  void stir();  // something has happened: the next tick is not to be a late one
  void fill_status(wire::JobStatus& status);

  // what bodies and deputies say (home_events.cc)
  void read_mailbox(pid_t pid);
  void handle_note(Managed& process, const stub::MailboxNote& note, const stub::SharedCall& shared);
  void shared_call(pid_t pid, const stub::MailboxNote& note, const stub::SharedCall& call);
  void shared_open(const std::string& node, const wire::LinkMessage& message);
  std::shared_ptr<HostLink> link_of(const std::string& node);
  void answer_channel(Managed& process, const stub::MailboxNote& note);
  void asked_to_go_home(Managed& process, uint32_t number, int64_t target);
  void bring_home_for(Managed& process, uint32_t number, int64_t target);
  bool let_go_of(Managed& process);
  bool leave_alone(Managed& process);
  void fetch(Managed& target, bool let_go, std::function<void()> then);
  void tell_whether_away(const Managed& process, int64_t target);
  void tell_call_state(const Managed& process, const stub::MailboxNote& note);
  bool is_gone(const Managed& process);
  void note_ending_body(const Managed& process);
  void note_dying(const std::string& node);
  bool any_ending_body(const std::string& node);
  void settle_children_time(Managed& process, const stub::MailboxNote& note);
  void tell_ending(Managed& process, const ReapedChildren::Child& child);
  bool tell_parent(const Managed& process, const ReapedChildren::Child& child);
  void adopt_fork(Managed& parent, pid_t thread, pid_t child);
  void host_said(const std::string& node, const wire::LinkMessage& message);
  void host_lost(const std::string& node, const Error& error);
  void hear_last_words(Managed& process);
  void tell_lost(const Managed& process, const std::string& reason);
  void body_gone(Managed& process);
  // where programs run (program_placing.cc)
  enum class ProgramPlace { kAsBefore, kHome, kAsked };
  ProgramPlace place_program(Managed& process);
  void program_placed(pid_t pid, const std::string& node);
  bool loads_at_home(const Managed& process) const;
  void load_at_home(const Managed& process);
  void look_whether_loaded();
  void begun();
  void program_ended(Managed& process);
  void drop_unused_links();
  pid_t outer_tid(pid_t pid, int32_t inner_tid) const;

  Managed* find(pid_t pid);
  std::vector<pid_t> pids_of(Managed::State state) const;
  std::shared_ptr<Managed> make_process(pid_t pid);

  const HomeConfig config_;
  net::TlsContext tls_;
  migrate::Journal journal_;
  Faults faults_;
  net::Loop loop_;
  trace::WaitHub hub_;
  trace::Tracer tracer_;
  net::FdWatch hub_watch_;
  net::Timer tick_timer_;
  std::unique_ptr<TessdClient> tessd_;
  Processes processes_;
  // By node and pid: the bodies of processes that have ended or executed another program, and since
  // when, until their host tells that they are gone.
  std::map<std::pair<std::string, int32_t>, std::chrono::steady_clock::time_point> ending_bodies_;
  SharedSegments shared_;
  HomeWatch home_watch_;
  net::Timer undisturbed_timer_;
  ProgramBook programs_;
  std::map<pid_t, sys::Fd> newborn_mailboxes_;  // by the thread that is forking
  std::list<std::thread> workers_;
  int running_workers_ = 0;
  bool finishing_ = false;  // SIGTERM: everybody home, then the end
  bool asked_ = false;      // tessd has wanted something already
  bool starting_ = false;   // the job's first program is to run elsewhere, and is not there yet
  std::unique_ptr<net::Timer> loading_timer_;            // it loads at home meanwhile
  std::chrono::steady_clock::time_point loading_since_;  // while the timer is there
  uint64_t waited_before_loading_ns_ = 0;                // for a CPU
  int idle_ticks_ = 0;
  bool news_ = false;  // that tessd is to hear at the next tick
  unsigned quiet_ticks_ = 0;
  bool resting_ = false;      // until the next tick, which is a late one
  std::mutex opening_mutex_;  // held by a worker while a link is being made
  std::mutex links_mutex_;    // of links_ only
  std::map<std::string, std::shared_ptr<HostLink>> links_;  // guarded
  std::map<std::string, int> link_idle_ticks_;              // main thread
  std::mutex operation_mutex_;
  uint64_t next_operation_;
};

}  // namespace tess::home
