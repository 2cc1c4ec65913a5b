#include "host/host_agent.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <thread>

#include "base/fault.h"
#include "base/log.h"
#include "host/capture.h"
#include "host/channel_pool.h"
#include "host/door.h"
#include "host/file_content.h"
#include "host/guest.h"
#include "host/home_link.h"
#include "host/sandbox.h"
#include "host/shared_memory.h"
#include "host/tessd_client.h"
#include "net/loop.h"
#include "sys/clock.h"
#include "sys/files.h"
#include "sys/priority.h"
#include "wire/agent.pb.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/node.pb.h"
#include "wire/version.h"

namespace tess::host {
namespace {

constexpr std::chrono::seconds kFirstLinkTime{60};
constexpr std::chrono::seconds kStatusInterval{1};
constexpr unsigned kQuietIntervals = 5;  // as long as the guests are the same
constexpr std::chrono::milliseconds kAdoptFirst{2};
constexpr std::chrono::milliseconds kAdoptLast{500};
constexpr std::chrono::seconds kExpectTime{5};

bool same_token(const std::string& a, const std::string& b) {
  return a.size() == b.size() && !a.empty() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string cache_dir(const HostConfig& config) {
  if (!config.cache_dir.empty()) {
    return config.cache_dir;
  }
  const char* named = std::getenv("TESS_CACHE_DIR");
  return named != nullptr ? named : "/var/cache/tessera";
}

// Owned by the loop's thread, but for what the members say.
class HostAgent {
 public:
  HostAgent(HostConfig config, net::TlsContext tls, std::unique_ptr<Sandbox> sandbox);
  int run();

 private:
  struct Expected {
    std::string token;
    bool nothing_cached = false;
  };
  struct Waiting {  // a stream whose Expect is still on its way
    std::unique_ptr<net::TlsStream> stream;
    wire::AgentHello hello;
  };

  void on_tls(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello);
  void on_link(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello);
  void on_stream(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello);
  void read_link(std::shared_ptr<net::TlsStream> stream);  // on its own thread
  void on_link_message(std::shared_ptr<const wire::LinkMessage> message);
  void on_link_lost();
  void start_restore(std::unique_ptr<net::TlsStream> stream, uint64_t operation,
                     const Expected& expected);
  void to_guest(std::shared_ptr<const wire::LinkMessage> message, int attempt);
  void send_usage(uint64_t operation);
  void recall();

  void take_newborn();
  void on_ended(Guest* guest);
  void on_exits();
  void adopt_children();
  std::shared_ptr<Guest> find(int32_t pid) const;
  std::shared_ptr<Guest> find_latest(int32_t pid) const;
  void fill_status(wire::JobStatus& status) const;
  void maybe_quit();
  void quit();

  HostConfig config_;
  net::TlsContext tls_;
  std::unique_ptr<Sandbox> sandbox_;
  net::Loop loop_;
  Faults faults_;
  FileContent content_;
  ChannelPool channels_;
  HomeLink link_;
  SharedMemory shared_{link_};
  GuestServices services_;
  std::mutex newborn_mutex_;
  std::list<std::shared_ptr<Guest>> newborn_;  // guarded; from the guests' threads
  std::list<std::shared_ptr<Guest>> guests_;
  std::map<uint64_t, Expected> expected_;
  std::map<uint64_t, Waiting> waiting_;
  std::thread link_reader_;
  std::unique_ptr<net::FdWatch> exits_watch_;
  std::unique_ptr<TessdClient> tessd_;
  std::unique_ptr<Door> door_;
  net::Timer status_timer_, adopt_timer_, link_timer_;
  std::chrono::milliseconds adopt_delay_ = kAdoptFirst;
  std::vector<int32_t> told_;  // whom tessd knows to be here
  unsigned quiet_ = 0;         // intervals since it was told
  bool goodbye_ = false;       // home has said that it needs nothing any more, or is gone
  bool quitting_ = false;
};

HostAgent::HostAgent(HostConfig config, net::TlsContext tls, std::unique_ptr<Sandbox> sandbox)
    : config_(std::move(config)),
      tls_(std::move(tls)),
      sandbox_(std::move(sandbox)),
      faults_(std::getenv("TESS_FAULT") != nullptr ? std::getenv("TESS_FAULT") : "",
              config_.run_dir + "/fault"),
      content_(ContentStore(cache_dir(config_) + "/content")),
      services_{
          *sandbox_,
          content_,
          shared_,
          channels_,
          link_,
          tls_,
          faults_,
          config_.job,
          config_.force_vdso_patch,
          [this](std::shared_ptr<Guest> guest) {
            const std::lock_guard guard(newborn_mutex_);
            newborn_.push_back(std::move(guest));
            loop_.post([this] { take_newborn(); });
          },
          [this](Guest* guest) { loop_.post([this, guest] { on_ended(guest); }); },
          [this](const wire::AgentUp& note) { loop_.post([this, note] { tessd_->send(note); }); }},
      status_timer_(loop_),
      adopt_timer_(loop_),
      link_timer_(loop_) {}

int HostAgent::run() {
  const net::SignalWatch signals(loop_, {SIGTERM, SIGINT}, [this](int) { recall(); });
  door_ = std::make_unique<Door>(
      loop_, std::move(config_.listen_fd), tls_, config_.job, config_.token,
      Door::Handlers{
          [this](uint64_t id, sys::Fd socket) { channels_.add_socket(id, std::move(socket)); },
          [this](std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello) {
            on_tls(std::move(stream), hello);
          }});
  tessd_ = std::make_unique<TessdClient>(
      loop_, config_.run_dir + "/agents.sock", config_.job, config_.home_node,
      TessdClient::Handlers{[this](wire::JobStatus& status) { fill_status(status); },
                            [this] { recall(); }});
  exits_watch_ = std::make_unique<net::FdWatch>(
      loop_, sandbox_->exits().get(), [this] { on_exits(); }, [] {});
  exits_watch_->want_read(true);
  link_timer_.start(kFirstLinkTime, [this] {
    log::warn("host", "event=no_link reason=\"the home agent has not connected in time\"");
    goodbye_ = true;
    maybe_quit();
  });
  std::function<void()> tick = [this, &tick] {
    std::vector<int32_t> pids;
    for (const auto& guest : guests_) {
      pids.push_back(guest->pid());
    }
    if (!pids.empty() && (pids != told_ || ++quiet_ >= kQuietIntervals)) {
      tessd_->send_status();
      told_ = std::move(pids);
      quiet_ = 0;
    }
    status_timer_.start(kStatusInterval, tick);
  };
  status_timer_.start(kStatusInterval, tick);
  loop_.run();
  tessd_->send_status(true);
  return 0;
}

// ---- connections ----

void HostAgent::on_tls(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello) {
  if (!wire::common_version(wire::protocol_version(), hello.protocol_version())) {
    log::warn("host", "event=connection_refused from={} reason=\"protocol {}, here {}\"",
              hello.node(), hello.protocol_version(), wire::protocol_version());
    return;
  }
  if (hello.kind() == wire::AgentHello::LINK) {
    on_link(std::move(stream), hello);
  } else {
    on_stream(std::move(stream), hello);
  }
}

void HostAgent::on_link(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello) {
  if (!same_token(hello.token(), config_.token) || stream->peer_name() != config_.home_node) {
    log::warn("host", "event=link_refused from={} reason=\"not the home agent of this job\"",
              stream->peer_name());
    return;
  }
  const std::shared_ptr<net::TlsStream> shared = std::move(stream);
  if (auto attached = link_.attach(shared); !attached) {
    log::warn("host", "event=link_refused reason=\"{}\"", attached.error().message());
    return;
  }
  link_timer_.stop();
  log::info("host", "event=linked home={}", config_.home_node);
  link_reader_ = sys::priority_thread([this, shared] { read_link(shared); });
}

void HostAgent::read_link(std::shared_ptr<net::TlsStream> stream) {
  while (true) {
    auto message = std::make_shared<wire::LinkMessage>();
    if (auto read = wire::read_frame(*stream, *message, wire::kNoTimeout); !read) {
      log::info("host", "event=link_lost reason=\"{}\"", read.error().message());
      loop_.post([this] { on_link_lost(); });
      return;
    }
    if (SharedMemory::is_meant(*message)) {
      shared_.post(message);  // a call waits for it: no detour
    } else {
      loop_.post([this, message] { on_link_message(message); });
    }
  }
}

void HostAgent::on_stream(std::unique_ptr<net::TlsStream> stream, const wire::AgentHello& hello) {
  const auto expected = expected_.find(hello.operation());
  if (expected != expected_.end()) {
    if (!same_token(hello.token(), config_.token) &&
        !same_token(hello.token(), expected->second.token)) {
      log::warn("host", "event=stream_refused from={} reason=\"wrong token\"", hello.node());
      return;
    }
    const Expected how = expected->second;
    expected_.erase(expected);
    start_restore(std::move(stream), hello.operation(), how);
    return;
  }
  // The link and the stream are two connections: the word about it may come later.
  if (waiting_.size() >= 64) {
    return;
  }
  const uint64_t operation = hello.operation();
  waiting_[operation] = {std::move(stream), hello};
  auto timer = std::make_shared<net::Timer>(loop_);
  timer->start(kExpectTime, [this, operation, timer] { waiting_.erase(operation); });
}

void HostAgent::start_restore(std::unique_ptr<net::TlsStream> stream, uint64_t operation,
                              const Expected& expected) {
  auto guest = std::make_shared<Guest>(services_);
  guests_.push_back(guest);
  guest->start_restore(std::move(stream), operation, expected.nothing_cached);
}

// ---- the link ----

void HostAgent::on_link_message(std::shared_ptr<const wire::LinkMessage> message) {
  switch (message->body_case()) {
    case wire::LinkMessage::kExpect: {
      const uint64_t operation = message->operation();
      expected_[operation] = {message->expect().token(), message->expect().nothing_cached()};
      if (message->expect().has_clocks()) {
        const wire::HomeClocks& clocks = message->expect().clocks();
        sandbox_->know_home(clocks.monotonic_ahead_ns(), clocks.boottime_ahead_ns());
      }
      if (auto waiting = waiting_.extract(operation); !waiting.empty()) {
        on_stream(std::move(waiting.mapped().stream), waiting.mapped().hello);
      }
      break;
    }
    case wire::LinkMessage::kChannel: {
      const wire::ChannelOffer& offer = message->channel();
      auto added = channels_.add_offer(offer.id(), !offer.reserved(), offer.key_to_host(),
                                       offer.key_to_home(), offer.encrypted());
      if (!added) {
        link_.send_failed(message->operation(), 0, added.error().message());
      }
      break;
    }
    case wire::LinkMessage::kAskUsage:
      send_usage(message->operation());
      break;
    case wire::LinkMessage::kShutdown:
      goodbye_ = true;
      maybe_quit();
      break;
    default:
      to_guest(std::move(message), 0);
  }
}

void HostAgent::to_guest(std::shared_ptr<const wire::LinkMessage> message, int attempt) {
  // A discard may be for an image that is still arriving: then only the operation names it.
  if (message->has_discard()) {
    expected_.erase(message->operation());
    for (const auto& guest : guests_) {
      if (guest->pid() == 0 && guest->operation() == message->operation() &&
          guest->mailbox_inode() == 0 && guest->post(message)) {
        guest->stop();
        return;
      }
    }
  }
  if (const auto guest = find_latest(message->pid()); guest != nullptr && guest->post(message)) {
    return;
  }
  take_newborn();
  adopt_children();
  if (const auto guest = find_latest(message->pid()); guest != nullptr && guest->post(message)) {
    return;
  }
  const bool unborn = std::any_of(guests_.begin(), guests_.end(),
                                  [](const auto& guest) { return guest->mailbox_inode() != 0; });
  if (unborn && attempt < 200) {
    // A child that its parent's stub is just making.
    auto timer = std::make_shared<net::Timer>(loop_);
    timer->start(std::chrono::milliseconds(10),
                 [this, timer, message, attempt] { to_guest(message, attempt + 1); });
    return;
  }
  if (message->has_discard()) {
    wire::LinkMessage reply;
    reply.set_operation(message->operation());
    reply.set_pid(message->pid());
    reply.mutable_done();
    link_.send(reply);  // nothing of it is here, which is what was wanted
  } else if (message->operation() != 0) {
    link_.send_failed(message->operation(), message->pid(), "no such process is here");
  }
}

void HostAgent::send_usage(uint64_t operation) {
  adopt_children();
  wire::LinkMessage message;
  message.set_operation(operation);
  wire::Usage& usage = *message.mutable_usage();
  for (const auto& guest : guests_) {
    const auto used = guest->pid() != 0 ? usage_of(guest->outer_pid())
                                        : Result<ProcessUsage>(fail(ErrorKind::kRetry, "unborn"));
    if (used) {
      wire::ProcessUsage& process = *usage.add_process();
      process.set_pid(guest->pid());
      process.set_cpu_ns(used->cpu_ns);
      process.set_resident_bytes(used->resident_bytes);
    }
  }
  usage.set_monotonic_ns(sys::clock_ns(CLOCK_MONOTONIC));
  usage.set_boottime_ns(sys::clock_ns(CLOCK_BOOTTIME));
  link_.send(message);
}

// Whatever is here is nobody's any more: two copies must never live.
void HostAgent::on_link_lost() {
  goodbye_ = true;
  quit();
}

void HostAgent::recall() {
  if (guests_.empty()) {
    tessd_->recall_done();
    goodbye_ = true;
    maybe_quit();
    return;
  }
  log::info("host", "event=recall guests={}", guests_.size());
  goodbye_ = true;  // leave when the last one has
  wire::LinkMessage message;
  message.mutable_recall();
  link_.send(message);
}

// ---- guests ----

std::shared_ptr<Guest> HostAgent::find(int32_t pid) const {
  for (const auto& guest : guests_) {
    if (pid != 0 && guest->pid() == pid) {
      return guest;
    }
  }
  return nullptr;
}

// One that has executed a program at home and come back finds the guest of the body that it had
// before still here, for the moment until its thread has told of that one's end.
std::shared_ptr<Guest> HostAgent::find_latest(int32_t pid) const {
  for (auto it = guests_.rbegin(); it != guests_.rend(); ++it) {
    if (pid != 0 && (*it)->pid() == pid) {
      return *it;
    }
  }
  return nullptr;
}

void HostAgent::take_newborn() {
  {
    const std::lock_guard guard(newborn_mutex_);
    guests_.splice(guests_.end(), newborn_);
  }
  adopt_delay_ = kAdoptFirst;
  adopt_timer_.start(adopt_delay_, [this] { adopt_children(); });
}

// Children that bodies have made are found among pid 1's by the mailbox that they hold.
void HostAgent::adopt_children() {
  std::map<uint64_t, Guest*> unborn;
  for (const auto& guest : guests_) {
    if (const uint64_t inode = guest->mailbox_inode(); inode != 0) {
      unborn[inode] = guest.get();
    }
  }
  if (unborn.empty()) {
    return;
  }
  for (auto& child : sandbox_->children()) {
    const auto wanted = unborn.find(child.mailbox_inode);
    if (wanted != unborn.end()) {
      wanted->second->adopt(child.pid, std::move(child.process));
      unborn.erase(wanted);
    }
  }
  if (!unborn.empty()) {
    adopt_delay_ = std::min(adopt_delay_ * 2, kAdoptLast);
    adopt_timer_.start(adopt_delay_, [this] { adopt_children(); });
  }
}

void HostAgent::on_exits() {
  while (true) {
    auto exit = sandbox_->next_exit();
    if (!exit) {
      log::error("host", "event=sandbox_lost reason=\"{}\"", exit.error().message());
      exits_watch_.reset();
      goodbye_ = true;
      quit();
      return;
    }
    if (!*exit) {
      return;
    }
    if (const auto guest = find((*exit)->pid); guest != nullptr) {
      guest->exited((*exit)->wait_status);
      continue;
    }
    if ((*exit)->spawned) {
      continue;  // of a restore that failed: home has not lost anything
    }
    // A child that ended before it was adopted. Its guest sees the end of its mailbox.
    wire::LinkMessage message;
    message.set_pid((*exit)->pid);
    message.mutable_exited()->set_wait_status((*exit)->wait_status);
    link_.send(message);
  }
}

void HostAgent::on_ended(Guest* guest) {
  guests_.remove_if([guest](const auto& other) { return other.get() == guest; });
  tessd_->send_status();
  maybe_quit();
}

void HostAgent::fill_status(wire::JobStatus& status) const {
  for (const auto& guest : guests_) {
    if (guest->pid() == 0) {
      continue;
    }
    wire::JobProcess& process = *status.add_process();
    process.set_pid(guest->outer_pid());
    process.set_inner_pid(guest->pid());
    process.set_home_node(config_.home_node);
    process.set_node(tls_.node_name());
    process.set_state("guest");
    if (const auto comm = sys::read_file(fmt::format("/proc/{}/comm", guest->outer_pid())); comm) {
      process.set_command(comm->substr(0, comm->find('\n')));
    }
    if (const auto used = usage_of(guest->outer_pid()); used) {
      process.set_cpu_hosts_ns(used->cpu_ns);
      process.set_memory_bytes(used->resident_bytes);
    }
  }
}

void HostAgent::maybe_quit() {
  if (goodbye_ && guests_.empty()) {
    quit();
  }
}

void HostAgent::quit() {
  if (quitting_) {
    return;
  }
  quitting_ = true;
  tessd_->recall_done();
  sandbox_->kill();  // first: no body may run while the rest is taken down
  door_->close();
  channels_.close();
  shared_.close();
  link_.close();
  take_newborn();
  while (!guests_.empty()) {
    for (const auto& guest : guests_) {
      guest->stop();
    }
    guests_.clear();  // joins their threads; what they have posted is not run any more
    take_newborn();   // made while they came to their end
  }
  adopt_timer_.stop();
  if (link_reader_.joinable()) {
    link_reader_.join();
  }
  loop_.stop();
}

}  // namespace

int run(HostConfig config) {
  auto tls = net::TlsContext::load(config.state_dir);
  if (!tls) {
    log::error("host", "event=start_failed reason=\"{}\"", tls.error().message());
    return 1;
  }
  if (config.token.size() != wire::kTokenSize || !config.listen_fd.valid()) {
    log::error("host", "event=start_failed reason=\"no token or no listening socket\"");
    return 1;
  }
  const int flags = ::fcntl(config.listen_fd.get(), F_GETFL);
  ::fcntl(config.listen_fd.get(), F_SETFL, flags | O_NONBLOCK);
  ::fcntl(config.listen_fd.get(), F_SETFD, FD_CLOEXEC);
  auto sandbox = Sandbox::create(config.sandbox_uid);
  if (!sandbox) {
    log::error("host", "event=start_failed reason=\"{}\"", sandbox.error().message());
    return 1;
  }
  log::info("host", "event=start job={} home={} node={}", config.job, config.home_node,
            tls->node_name());
  return HostAgent(std::move(config), std::move(*tls), std::move(*sandbox)).run();
}

}  // namespace tess::host
