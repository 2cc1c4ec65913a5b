#include "lab/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "base/log.h"
#include "lab/lab_builder.h"
#include "lab/mesh.h"
#include "sys/files.h"
#include "sys/mounts.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace tess::lab {
namespace {

using std::chrono::milliseconds;

constexpr auto kTessdUpTime = std::chrono::seconds(30);
constexpr auto kMeshTime = std::chrono::seconds(15);
constexpr auto kStopTime = std::chrono::seconds(25);  // an init takes up to 20 s for its tessd
constexpr int kAskEveryMilliseconds = 20;

class Supervisor {
 public:
  Supervisor(State state, sys::Fd link, sys::SignalFd signals)
      : state_(std::move(state)), link_(std::move(link)), signals_(std::move(signals)) {}

  Result<> build(const MakeIdentities& make_identities);
  void hold();
  void end();

 private:
  Result<> check();
  Result<> await_tessds();
  Result<> await_mesh();
  Result<> confirm();
  Result<> handle_events(int timeout);
  void on_node_news(size_t index);
  std::string log_tail(const std::string& node) const;

  State state_;
  sys::Fd link_;  // to `up`; closed once it has confirmed
  sys::SignalFd signals_;
  std::vector<RunningNode> nodes_;
  std::vector<std::string> tessd_ended_ = {};  // by node; empty: runs
  bool end_wanted_ = false;
};

Result<> Supervisor::check() {
  while (const auto received = signals_.next().value_or(std::nullopt)) {
    end_wanted_ = end_wanted_ || received->number != SIGCHLD;
  }
  if (link_.valid()) {
    pollfd poll_fd{link_.get(), POLLIN, 0};
    // `up` says nothing before it is asked: anything to read is its end.
    end_wanted_ = end_wanted_ || ::poll(&poll_fd, 1, 0) > 0;
  }
  if (end_wanted_) {
    return fail(ErrorKind::kDisconnected, "interrupted");
  }
  return {};
}

// Waits for signals and news of nodes, handles them.
Result<> Supervisor::handle_events(int timeout) {
  std::vector<pollfd> fds{{signals_.fd().get(), POLLIN, 0}};
  if (link_.valid()) {
    fds.push_back({link_.get(), POLLIN, 0});
  }
  const size_t first_node = fds.size();
  for (const RunningNode& node : nodes_) {
    fds.push_back({node.link.get(), POLLIN, 0});  // -1 once it has ended: poll skips it
  }
  ::poll(fds.data(), fds.size(), timeout);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (fds[first_node + i].revents != 0) {
      on_node_news(i);
    }
  }
  return check();
}

void Supervisor::on_node_news(size_t index) {
  const std::string& name = state_.nodes[index].name;
  const auto received = receive_step(nodes_[index].link);
  if (!received) {
    nodes_[index].link.reset();
    const auto status = nodes_[index].init.wait(sys::after(std::chrono::seconds(10)));
    tessd_ended_[index] = "the node ended";
    log::info("lab", "event=node_ended node={} status=\"{}\"", name,
              status ? status->text() : status.error().message());
    return;
  }
  tessd_ended_[index] = received->text;
  log::info("lab", "event=tessd_ended node={} status=\"{}\"", name, received->text);
}

std::string Supervisor::log_tail(const std::string& node) const {
  const auto text = sys::read_file(fmt::format("{}/{}.log", lab_directory(state_.spec.name), node));
  if (!text || text->empty()) {
    return "it wrote nothing";
  }
  size_t begin = text->size();
  for (int line = 0; line < 12 && begin != std::string::npos && begin > 0; ++line) {
    begin = text->rfind('\n', begin - 1);
  }
  return "the end of its log:\n" + text->substr(begin == std::string::npos ? 0 : begin + 1);
}

Result<> Supervisor::await_tessds() {
  const auto deadline = std::chrono::steady_clock::now() + kTessdUpTime;
  for (size_t i = 0; i < state_.nodes.size();) {
    const NodeState& node = state_.nodes[i];
    if (tessd_answers(node)) {
      ++i;
      continue;
    }
    if (!tessd_ended_[i].empty()) {
      return fail(ErrorKind::kFailed, "tessd of {} ended ({}); {}", node.name, tessd_ended_[i],
                  log_tail(node.name));
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return fail(ErrorKind::kFailed, "tessd of {} does not answer after {} s; {}", node.name,
                  kTessdUpTime.count(), log_tail(node.name));
    }
    TESS_TRY(handle_events(kAskEveryMilliseconds));
  }
  return {};
}

Result<> Supervisor::await_mesh() {
  if (!can_ask_nodes(state_)) {
    return {};
  }
  const auto deadline = std::chrono::steady_clock::now() + kMeshTime;
  for (size_t i = 0; i < state_.nodes.size();) {
    const auto seen = sees_all(state_, i);
    if (seen && *seen) {
      ++i;
      continue;
    }
    if (!seen || std::chrono::steady_clock::now() >= deadline) {
      // A lab all the same, and the place to find out why.
      const std::string reason = seen ? "it does not see all nodes" : seen.error().message();
      (void)send_news(
          link_, News::kWarning,
          fmt::format("{}: {}; `tess nodes` there tells more", state_.nodes[i].name, reason));
      return {};
    }
    TESS_TRY(handle_events(kAskEveryMilliseconds));
  }
  return {};
}

// The lab is there; it stays only if `up` is still there to hear of it.
Result<> Supervisor::confirm() {
  state_.ready = true;
  TESS_TRY(write_state(state_));
  TESS_TRY(send_news(link_, News::kReady));
  TESS_TRY_ASSIGN(const sys::Message answer, sys::receive_message(link_));
  if (answer.data.empty()) {
    end_wanted_ = true;
    return fail(ErrorKind::kDisconnected, "interrupted");
  }
  link_.reset();
  return {};
}

Result<> Supervisor::build(const MakeIdentities& make_identities) {
  BuildHooks hooks;
  hooks.make_identities = make_identities;
  hooks.warn = [this](const std::string& text) { (void)send_news(link_, News::kWarning, text); };
  hooks.check = [this] { return check(); };
  tessd_ended_.resize(state_.nodes.size());
  auto built = build_lab(state_, hooks, nodes_);
  if (built) {
    built = await_tessds();
  }
  if (built) {
    built = await_mesh();
  }
  if (built) {
    built = confirm();
  }
  if (!built) {
    log::error("lab", "event=up_failed reason=\"{}\"", built.error().message());
    (void)send_news(link_, News::kFailed, built.error().message());
    link_.reset();
  }
  return built;
}

void Supervisor::hold() {
  log::info("lab", "event=up lab={} nodes={}", state_.spec.name, nodes_.size());
  while (handle_events(-1)) {  // -1: a lab lives until somebody ends it
  }
}

// Hosts first, all at once; the server last, so that guests still find their homes when they are
// brought back.
void Supervisor::end() {
  log::info("lab", "event=down lab={}", state_.spec.name);
  for (RunningNode& node : nodes_) {
    node.link.reset();  // one that still waits for us while it is being made ends at this
  }
  const size_t count = nodes_.size();
  const std::array<std::pair<size_t, size_t>, 2> groups = {
      std::pair{std::min<size_t>(1, count), count},
      std::pair{size_t{0}, std::min<size_t>(1, count)}};
  for (const auto& [first, last] : groups) {
    for (size_t i = first; i < last; ++i) {
      (void)nodes_[i].init.signal(SIGTERM);
    }
    const auto deadline = sys::after(kStopTime);
    for (size_t i = first; i < last; ++i) {
      if (!nodes_[i].init.wait_gone(deadline)) {
        log::warn("lab", "event=node_killed node={}", state_.nodes[i].name);
        (void)nodes_[i].init.signal(SIGKILL);
      }
      (void)nodes_[i].init.wait();  // no deadline: it has ended or has been killed
    }
  }
}

int supervise(State state, sys::Fd link, const MakeIdentities& make_identities,
              const sys::Process& keeper) {
  sys::close_all_but({link.get(), keeper.pidfd().get()});
  ::prctl(PR_SET_NAME, "tess-lab-super");
  auto signals = sys::SignalFd::block({SIGCHLD, SIGTERM, SIGINT, SIGHUP});
  auto self = ProcessName::of(::getpid());
  if (!signals || !self) {
    return 1;
  }
  state.supervisor = *self;
  if (auto written = write_state(state); !written) {
    (void)send_news(link, News::kFailed, written.error().message());
    return 1;
  }
  const std::string name = state.spec.name;
  Supervisor supervisor(std::move(state), std::move(link), std::move(*signals));
  if (supervisor.build(make_identities)) {
    supervisor.hold();
  }
  supervisor.end();
  if (!keeper.running()) {
    (void)sys::detach_mount(lab_directory(name) + "/mnt");  // ours alone; it would be in the way
    if (const auto lock = LabsLock::take()) {
      (void)sweep(*lock, name);
    }
  }
  return 0;
}

// Standard input and output to nowhere, errors to lab.log: whoever started the lab must be able to
// see end of file.
Result<> detach_from_caller(const std::string& name) {
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::string log_path = lab_directory(name) + "/lab.log";
  const sys::Fd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!null.valid() || !log.valid() || ::dup2(null.get(), 0) < 0 || ::dup2(null.get(), 1) < 0 ||
      ::dup2(log.get(), 2) < 0) {
    return fail_errno("open {}", log_path);
  }
  ::setsid();
  if (::chdir("/") != 0) {
    return fail_errno("change to /");
  }
  return {};
}

// Starts the supervisor and outlives it and all that it leaves. The keeper's own hold on `link` is
// the last: `up` sees end of file when everything is gone.
Result<> start_and_await(State state, const sys::Fd& link, const MakeIdentities& make_identities) {
  TESS_TRY(detach_from_caller(state.spec.name));
  log::start("tess-lab");
  // Orphaned inits become ours: the supervisor's death must not hide whether they are really gone.
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) {
    return fail_errno("become a subreaper");
  }
  TESS_TRY_ASSIGN(const sys::Process self, sys::Process::self());
  TESS_TRY_ASSIGN(state.keeper, ProcessName::of(self.pid()));
  TESS_TRY(write_state(state));
  TESS_TRY(send_news(link, News::kRecorded));
  TESS_TRY_ASSIGN(const sys::Process supervisor,
                  sys::Process::fork({.parent_death_signal = SIGTERM}, [&] {
                    return supervise(std::move(state), sys::Fd(link.get()), make_identities, self);
                  }));
  while (sys::reap_any(true)) {  // until there are no children: no supervisor and no init
  }
  return {};
}

// errno says why not. Another lab's end may take the empty directory of all labs away meanwhile.
bool make_lab_directory(const std::string& name) {
  while (::mkdir(lab_directory(name).c_str(), 0755) != 0) {
    if (errno != ENOENT || !sys::make_directories(kLabsDirectory)) {
      return false;
    }
  }
  return true;
}

int keep(const State& state, const sys::Fd& link, const MakeIdentities& make_identities) {
  sys::close_all_but({link.get()});
  ::prctl(PR_SET_NAME, "tess-lab-keeper");
  // Whoever means to end the lab signals the supervisor; the keeper only goes when all is done.
  const auto signals = sys::SignalFd::block({SIGTERM, SIGINT, SIGHUP});
  const std::string name = state.spec.name;
  if (!make_lab_directory(name)) {
    (void)send_news(link, News::kFailed,
                    fmt::format("make {}: {}", lab_directory(name), ::strerror(errno)));
    return 1;
  }
  auto kept = start_and_await(state, link, make_identities);
  if (!kept) {
    (void)send_news(link, News::kFailed, kept.error().message());
  }
  const auto lock = LabsLock::take();
  const auto swept = lock ? sweep(*lock, name) : Result<>();
  if (!lock || !swept) {
    log::error("lab", "event=sweep_failed reason=\"{}\"",
               lock ? swept.error().message() : lock.error().message());
    return 1;
  }
  return kept ? 0 : 1;
}

}  // namespace

Result<> send_news(const sys::Fd& link, News news, const std::string& text) {
  const std::string message = fmt::format("{}{}", static_cast<char>(news), text);
  return sys::send_message(link, std::as_bytes(std::span(message)));
}

Result<sys::Process> start_keeper(const State& state, sys::Fd link,
                                  const MakeIdentities& make_identities) {
  return sys::Process::fork({}, [&] { return keep(state, link, make_identities); });
}

bool tessd_answers(const NodeState& node) {
  if (!node.init.open()) {
    return false;
  }
  // Through the init's root: the socket is in the node's own mount namespace.
  return sys::connect_unix(fmt::format("/proc/{}/root/run/tessera/control.sock", node.init.pid))
      .has_value();
}

}  // namespace tess::lab
