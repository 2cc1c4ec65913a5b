#include "home/home_agent.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <future>
#include <limits>

#include "base/log.h"
#include "home/image_builder.h"
#include "home/interrupted_call.h"
#include "home/wake_up.h"
#include "memory/cpu_features.h"
#include "migrate/eligibility.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/node.pb.h"

namespace tess::home {
namespace {

constexpr std::chrono::seconds kTick{1};
constexpr int kIdleTicksMax = 30;
// What has no news is told of this seldom: with many jobs each word costs, at home, on the host,
// and in both their tessds.
constexpr unsigned kQuietTicks = 5;
constexpr std::chrono::seconds kRestTick{5};
constexpr std::chrono::seconds kMainTimeout{60};

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

HomeAgent::HomeAgent(HomeConfig config, net::TlsContext tls, migrate::Journal journal,
                     trace::WaitHub hub)
    : config_(std::move(config)),
      tls_(std::move(tls)),
      journal_(std::move(journal)),
      faults_(environment("TESS_FAULT"), config_.run_dir + "/fault"),
      hub_(std::move(hub)),
      tracer_(hub_, *this),
      hub_watch_(
          loop_, hub_.fd(), [this] { after_events(); }, [] {}),
      tick_timer_(loop_),
      shared_({[this] {
                 for (const auto& [pid, process] : processes_) {
                   if (process->state == Managed::State::kDeputy) {
                     write_shared_table(*process);
                   }
                 }
               },
               [this] { return pids_of(Managed::State::kDeputy); },
               [this] { return pids_of(Managed::State::kNative); },
               [this](pid_t pid, const std::string& node) {
                 const Managed* const process = find(pid);
                 return process != nullptr && (process->state == Managed::State::kDeputy ||
                                               (process->busy && process->moving_to == node));
               },
               [this](pid_t pid, const std::string& node, const ObjectKey& wish) {
                 return gather(pid, node, wish);
               },
               [this](pid_t pid) { return whose(pid); }, [this] { after_events(); },
               [this] { home_watch_.begin(); }, [this] { settle_soon(); },
               [this](pid_t pid, pid_t other, const std::string& command) {
                 call_home(pid, other, command);
               },
               [this](pid_t pid, Done done) { fetch_stranger(pid, 0, std::move(done)); }}),
      home_watch_(tracer_, shared_,
                  {[this](pid_t pid) {
                     const Managed* const process = find(pid);
                     return process == nullptr ||
                            (process->stays_seized && process->state == Managed::State::kNative);
                   },
                   [this] { settle_soon(); },
                   [this](std::chrono::microseconds pause) {
                     undisturbed_timer_.start(std::chrono::ceil<std::chrono::milliseconds>(pause),
                                              [this] { home_watch_.look_at_undisturbed(); });
                   },
                   [this](pid_t pid, const std::string& text) { tessd_->log(pid, text); }}),
      undisturbed_timer_(loop_),
      next_operation_(static_cast<uint64_t>(read_clocks().boottime_ns)) {}

HomeAgent::~HomeAgent() {
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

int HomeAgent::run() {
  const net::SignalWatch signals(loop_, {SIGTERM, SIGINT}, [this](int) {
    finishing_ = true;
    bring_home([this](const Result<>&) { maybe_finish(); });
  });
  tessd_ = std::make_unique<TessdClient>(
      loop_, wire::agents_socket(), config_.job, config_.note,
      TessdClient::Handlers{[this](wire::JobStatus& status) { fill_status(status); },
                            [this](const wire::AgentDown& message) { handle_request(message); }});
  hub_watch_.want_read(true);
  loop_.post([this] { attach(); });
  tick_timer_.start(kTick, [this] { tick(); });
  loop_.run();
  tessd_->send_status(true);
  return 0;
}

void HomeAgent::attach() {
  std::shared_ptr<Managed> process = make_process(config_.pid);
  if (config_.run) {
    process->stays_seized = true;
    process->placed_on = config_.node;
    starting_ = !config_.node.empty();
    if (auto seized = tracer_.seize(config_.pid, true); !seized) {
      tessd_->log(config_.pid, seized.error().message());
      log::warn("home", "event=attach_failed pid={} reason=\"{}\"", config_.pid,
                seized.error().message());
      processes_.clear();
      loop_.stop();
      return;
    }
  } else if (!config_.node.empty()) {
    asked_ = true;
    migrate(config_.pid, config_.node, [](const Result<>&) {});
  }
  tessd_->send_status();
}

Managed* HomeAgent::find(pid_t pid) {
  const auto it = processes_.find(pid);
  return it == processes_.end() ? nullptr : it->second.get();
}

std::vector<pid_t> HomeAgent::pids_of(Managed::State state) const {
  std::vector<pid_t> pids;
  for (const auto& [pid, process] : processes_) {
    if (process->state == state) {
      pids.push_back(pid);
    }
  }
  return pids;
}

std::shared_ptr<Managed> HomeAgent::make_process(pid_t pid) {
  auto& process = processes_[pid];
  if (process == nullptr) {
    process = std::make_shared<Managed>();
    process->pid = pid;
    process->inner_pid = innermost_id(pid, pid);
  }
  return process;
}

// ---- services for the workers ----

Result<> HomeAgent::on_main(const std::function<Result<>()>& work) {
  auto promise = std::make_shared<std::promise<Result<>>>();
  auto future = promise->get_future();
  loop_.post([this, promise, &work] {
    promise->set_value(work());
    after_events();  // what happened while the work waited for its own threads
  });
  return future.get();
}

uint64_t HomeAgent::new_operation() {
  const std::lock_guard lock(operation_mutex_);
  return next_operation_++;
}

std::shared_ptr<HostLink> HomeAgent::find_link(const std::string& node) {
  const std::lock_guard lock(links_mutex_);
  const auto it = links_.find(node);
  return it != links_.end() && it->second->alive() ? it->second : nullptr;
}

Result<std::shared_ptr<HostLink>> HomeAgent::link_to(const std::string& node,
                                                     uint64_t memory_bytes) {
  // Workers come one after the other, so that a node gets one link. The main thread never takes
  // this mutex: the answer that need_host waits for comes through it.
  const std::lock_guard one_at_a_time(opening_mutex_);
  if (auto link = find_link(node); link != nullptr) {
    return link;
  }
  // The host agent that tessd names may just be ending because its last guest has left: then tessd
  // starts another.
  constexpr int kAttempts = 20;
  constexpr std::chrono::milliseconds kPause(50);  // nothing tells us when its end has been noticed
  for (int attempt = 1;; ++attempt) {
    TESS_TRY_ASSIGN(const HostAddress host, need_host(node, memory_bytes));
    auto link = open_link(node, host);
    if (link) {
      const std::lock_guard lock(links_mutex_);
      links_[node] = *link;
    }
    if (link || attempt == kAttempts) {
      return link;
    }
    std::this_thread::sleep_for(kPause);
  }
}

Result<HostAddress> HomeAgent::need_host(const std::string& node, uint64_t memory_bytes) {
  auto promise = std::make_shared<std::promise<Result<HostAddress>>>();
  auto future = promise->get_future();
  loop_.post([this, promise, node, memory_bytes] {
    tessd_->need_host(node, memory_bytes, memory::host_cpu_features(),
                      [promise](Result<HostAddress> host) { promise->set_value(std::move(host)); });
  });
  if (future.wait_for(kMainTimeout) != std::future_status::ready) {
    return fail(ErrorKind::kRetry, "this node's tessd does not answer");
  }
  return future.get();
}

Result<std::shared_ptr<HostLink>> HomeAgent::open_link(const std::string& node,
                                                       const HostAddress& host) {
  HostLink::Handlers handlers;
  handlers.unasked = [this, node](const wire::LinkMessage& message) {
    loop_.post([this, node, copy = message] { host_said(node, copy); });
  };
  handlers.lost = [this, node](const Error& error) {
    loop_.post([this, node, error] { host_lost(node, error); });
  };
  return HostLink::open(tls_, config_.job, host, std::move(handlers));
}

void HomeAgent::watch(Managed& process) {
  process.watch = std::make_unique<net::FdWatch>(
      loop_, process.session->mailbox().get(), [this, pid = process.pid] { read_mailbox(pid); },
      [] {});
  process.watch->want_read(true);
}

bool HomeAgent::ended_by_stop(const trace::Registers& registers) {
  return stopped_in_call(registers);
}

bool HomeAgent::waits_without_limit(pid_t pid, const trace::Registers& registers) {
  return home::waits_without_limit(pid, registers);
}

bool HomeAgent::cut_by_stop(const trace::Registers& registers) {
  return home::cut_by_stop(registers);
}

void HomeAgent::settle_soon() {
  loop_.post([this] { home_watch_.settle(); });
}

bool HomeAgent::watches(pid_t pid) {
  return home_watch_.watches(pid);
}

bool HomeAgent::postpones(pid_t pid, pid_t tid, const trace::Registers& registers) {
  return home_watch_.postpones(pid, tid, registers);
}

bool HomeAgent::keeps_at_call_end(pid_t pid, pid_t tid, const trace::Registers& registers) {
  return home_watch_.keeps(pid, tid, registers);
}

// ---- requests ----

void HomeAgent::handle_request(const wire::AgentDown& message) {
  const uint64_t request = message.request();
  const auto answer = [this, request](const Result<>& result) {
    tessd_->answer(request, result.has_value(), result ? "" : result.error().message());
  };
  asked_ = true;
  idle_ticks_ = 0;
  stir();
  follow_name();
  switch (message.body_case()) {
    case wire::AgentDown::kMigrate:
      if (message.migrate().fetched()) {
        fetched(message.migrate().pid(), answer);
        break;
      }
      if (Managed* const process = find(message.migrate().pid()); process != nullptr) {
        process->put_by_hand = message.migrate().by_hand() && !message.migrate().home();
        process->by_root = message.migrate().by_root();
        if (message.migrate().by_hand() && message.migrate().home() && let_go_of(*process)) {
          tessd_->answer(request, true,
                         "at home, and let go: debuggers can attach to it, and what it starts "
                         "stays at home");
          maybe_finish();
          break;
        }
      }
      migrate(message.migrate().pid(), message.migrate().home() ? "" : message.migrate().node(),
              answer);
      break;
    case wire::AgentDown::kWhyRequest:
      explain(message.why_request().pid(), message.why_request().by_root(), request);
      break;
    case wire::AgentDown::kBringHome:
      bring_home(answer);
      break;
    default:
      break;
  }
}

void HomeAgent::explain(pid_t pid, bool by_root, uint64_t request) {
  wire::AgentUp message;
  message.set_request(request);
  wire::WhyAnswer& why = *message.mutable_why();
  const Managed* const process = find(pid);
  if (process == nullptr || process->state == Managed::State::kNative) {
    std::vector<pid_t> group = look_for_companions({pid}, process, by_root).pids;
    group.insert(group.begin(), pid);
    const migrate::EligibilityOptions options{
        .own_tracer = ::getpid(), .moves_along = [&group](pid_t other) {
          return std::find(group.begin(), group.end(), other) != group.end();
        }};
    for (const pid_t member : group) {
      for (const std::string& reason : migrate::check_eligibility(member, options)) {
        why.add_reason(reason);
      }
    }
  }
  tessd_->send(message);
  maybe_finish();
}

// ---- the passage of time ----

void HomeAgent::after_events() {
  if (tracer_.handle_events()) {
    loop_.post([this] { after_events(); });
  }
}

// Every process computes away and nothing is to be watched: waking up each second for nothing costs
// a busy node more than it seems, once for each job.
bool HomeAgent::may_rest() const {
  const bool all_away = std::all_of(processes_.begin(), processes_.end(), [](const auto& item) {
    return item.second->state == Managed::State::kDeputy && !item.second->busy;
  });
  const bool all_used = std::all_of(link_idle_ticks_.begin(), link_idle_ticks_.end(),
                                    [](const auto& item) { return item.second == 0; });
  return all_away && all_used && !processes_.empty() && !news_ && !finishing_ &&
         running_workers_ == 0 && shared_.empty();
}

void HomeAgent::stir() {
  if (std::exchange(resting_, false)) {
    tick_timer_.start(kTick, [this] { tick(); });
  }
}

void HomeAgent::tick() {
  const bool rested = std::exchange(resting_, false);
  tick_timer_.start(kTick, [this] { tick(); });
  follow_name();
  bool away = false;
  for (auto it = processes_.begin(); it != processes_.end();) {
    const std::shared_ptr<Managed>& process = it->second;
    away = away || process->state == Managed::State::kDeputy || process->busy;
    // A native process that is not traced says nothing when it ends.
    if (!process->busy && !tracer_.traced(it->first) && ::kill(it->first, 0) != 0 &&
        errno == ESRCH) {
      it = processes_.erase(it);
    } else {
      ++it;
    }
  }
  const bool tell = std::exchange(news_, false) || rested || ++quiet_ticks_ >= kQuietTicks;
  if (tell) {
    quiet_ticks_ = 0;
  }
  if (away && tell) {
    const std::lock_guard lock(links_mutex_);
    for (const auto& [node, link] : links_) {
      wire::LinkMessage message;
      message.set_operation(new_operation());
      message.mutable_ask_usage();
      (void)link->send(message);
    }
  }
  // What a job that the cluster may move is made of, tessd has to know at home, too.
  if (tell && (away || (config_.run && !config_.note.empty()))) {
    tessd_->send_status();
  }
  ++idle_ticks_;
  shared_.tick();
  home_watch_.settle();
  drop_unused_links();
  if (may_rest()) {
    resting_ = true;
    tick_timer_.start(kRestTick, [this] { tick(); });
  }
  maybe_finish();
}

// Another tessd has come, which calls this node otherwise: it has another certificate, too.
void HomeAgent::follow_name() {
  if (tessd_->node().empty() || tessd_->node() == tls_.node_name() || running_workers_ != 0) {
    return;
  }
  {
    const std::lock_guard lock(links_mutex_);
    for (const auto& [node, link] : links_) {
      link_idle_ticks_[node] = std::numeric_limits<int>::max() / 2;
    }
  }
  drop_unused_links();  // what is left is in use, and uses the old one
  if (const std::lock_guard lock(links_mutex_); !links_.empty()) {
    return;
  }
  if (auto tls = net::TlsContext::load(config_.state_dir)) {
    tls_ = std::move(*tls);
  }
}

void HomeAgent::maybe_finish() {
  if (running_workers_ != 0) {
    return;
  }
  workers_.remove_if([](std::thread& worker) {
    worker.join();  // has posted its end already
    return true;
  });
  bool holding = false;
  for (const auto& [pid, process] : processes_) {
    holding = holding || process->busy || process->state == Managed::State::kDeputy ||
              (process->stays_seized && !finishing_);
  }
  const bool waiting = !asked_ && !config_.run && idle_ticks_ < kIdleTicksMax && !finishing_;
  const bool just_asked = idle_ticks_ < 2 && !finishing_ && !processes_.empty() && !config_.run;
  if (!holding && !waiting && !just_asked) {
    loop_.stop();
  }
}

int run(const HomeConfig& config) {
  auto hub = trace::WaitHub::create();
  auto tls = net::TlsContext::load(config.state_dir);
  auto journal = migrate::Journal::open(config.run_dir + "/journal", config.job);
  for (const Error* error : {hub ? nullptr : &hub.error(), tls ? nullptr : &tls.error(),
                             journal ? nullptr : &journal.error()}) {
    if (error != nullptr) {
      log::error("home", "event=start_failed job={} reason=\"{}\"", config.job, error->message());
      return 1;
    }
  }
  HomeAgent agent(config, std::move(*tls), std::move(*journal), std::move(*hub));
  return agent.run();
}

}  // namespace tess::home
