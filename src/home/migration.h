// One migration, carried out: the coordinator says what is next, this does it, on a worker thread
// of its own. ptrace work and everything that belongs to the main thread is asked of it through
// MainServices.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fault.h"
#include "base/result.h"
#include "home/host_link.h"
#include "home/managed.h"
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
  // Tells the host of a process that has been stopped by a signal (main thread only).
  virtual void group_stopped_away(const Managed& process) = 0;
};

class Migration {
 public:
  // `node` empty: back home. `process` is busy for as long as this runs.
  Migration(MainServices& services, std::shared_ptr<Managed> process, std::string node);
  // An error says why it stayed. A warning says what went wrong although it moved.
  Result<> run();
  const std::string& warning() const { return warning_; }

 private:
  Result<> perform(migrate::Step step);
  Result<> insist_on_switch(Result<> first);
  Result<> reserve();
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
  Result<> become_native();
  Result<> drop_source();
  Result<> drop_target();
  Result<> thaw_source();
  Result<> release_home();

  Result<> let_go(stub::Phase phase);
  Result<> settle_earlier_release();
  void tell_of_stop();
  Result<> leave_stub();
  Result<> wait_ready(HostLink& link);
  Result<> tell(HostLink& link, const std::function<void(wire::LinkMessage&)>& fill);
  Result<> demand(HostLink& link, const char* what, int answer_case, wire::Timeout timeout,
                  const std::function<void(wire::LinkMessage&)>& fill);
  migrate::JournalEntry journal_entry(std::string state) const;

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
  struct ThreadChannel {
    uint32_t slot;
    int32_t tid;
    Channel channel;
  };
  std::vector<ThreadChannel> channels_;
  uint64_t arg_start_ = 0;
  uint64_t env_end_ = 0;
  std::string warning_;
};

}  // namespace tess::home
