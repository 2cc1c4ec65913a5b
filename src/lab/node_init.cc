#include "lab/node_init.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>

#include "sys/namespaces.h"
#include "sys/process.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace tess::lab {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kStopTime = std::chrono::seconds(20);

class Init {
 public:
  Init(const NodePlan& plan, sys::Fd link, sys::Fd log, sys::SignalFd signals)
      : plan_(plan), link_(std::move(link)), log_(std::move(log)), signals_(std::move(signals)) {}

  Result<> make_world();
  int run();

 private:
  Result<> await(Step wanted);
  void start_tessd();
  void stop_tessd();
  void on_signal(int number);
  void reap();
  int poll_timeout() const;

  const NodePlan& plan_;
  sys::Fd link_;
  sys::Fd log_;
  sys::SignalFd signals_;
  std::optional<sys::Process> tessd_;
  std::optional<Clock::time_point> kill_tessd_at_;
  bool ending_ = false;
};

Result<> Init::await(Step wanted) {
  TESS_TRY_ASSIGN(const ReceivedStep received, receive_step(link_));
  if (received.step != wanted) {
    return fail(ErrorKind::kFailed, "the supervisor sent an unexpected step");
  }
  return {};
}

Result<> Init::make_world() {
  TESS_TRY(sys::Cgroup(plan_.cgroups).join());
  TESS_TRY(sys::unshare_namespaces(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                                   CLONE_NEWCGROUP));
  const std::string& name = plan_.files.host_name;
  if (::sethostname(name.c_str(), name.size()) != 0) {
    return fail_errno("set the host name");
  }
  TESS_TRY(send_step(link_, Step::kBorn));
  TESS_TRY(await(Step::kFurnish));
  TESS_TRY(plan_.server ? make_server_root(plan_.files) : make_bare_root(plan_.files));
  TESS_TRY(send_step(link_, Step::kFurnished));
  return await(Step::kStart);
}

void Init::start_tessd() {
  if (tessd_) {
    return;
  }
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  sys::SpawnOptions options;
  options.argv = {plan_.tessd};
  options.env = plan_.environment;
  options.fds = {{null.get(), 0}, {log_.get(), 1}, {log_.get(), 2}};
  options.new_session = true;
  auto started = sys::Process::spawn(options);
  if (!started) {
    (void)send_step(link_, Step::kTessdEnded, started.error().message());
    return;
  }
  tessd_ = std::move(*started);
}

void Init::stop_tessd() {
  if (tessd_ && !kill_tessd_at_) {
    (void)tessd_->signal(SIGTERM);
    kill_tessd_at_ = Clock::now() + kStopTime;
  }
}

void Init::on_signal(int number) {
  switch (number) {
    case SIGTERM:
    case SIGINT:
      ending_ = true;
      stop_tessd();
      break;
    case SIGUSR1:
      start_tessd();
      break;
    case SIGUSR2:
      stop_tessd();
      break;
    default:
      break;  // SIGCHLD: reaped in every turn
  }
}

void Init::reap() {
  while (true) {
    const auto reaped = sys::reap_any(false);
    if (!reaped || !*reaped) {
      return;
    }
    if (tessd_ && (*reaped)->first == tessd_->pid()) {
      (void)send_step(link_, Step::kTessdEnded, (*reaped)->second.text());
      tessd_.reset();
      kill_tessd_at_.reset();
    }
  }
}

int Init::poll_timeout() const {
  if (!kill_tessd_at_) {
    return -1;  // nothing to be done until a signal comes
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(*kill_tessd_at_ - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

int Init::run() {
  start_tessd();
  while (!ending_ || tessd_) {
    (void)sys::wait_readable(signals_.fd(), poll_timeout());
    while (const auto received = signals_.next().value_or(std::nullopt)) {
      on_signal(received->number);
    }
    reap();
    if (tessd_ && kill_tessd_at_ && Clock::now() >= *kill_tessd_at_) {
      (void)tessd_->signal(SIGKILL);
      kill_tessd_at_ = Clock::now() + kStopTime;
    }
  }
  return 0;
}

}  // namespace

Result<> send_step(const sys::Fd& link, Step step, const std::string& text) {
  const std::string message = fmt::format("{}{}", static_cast<char>(step), text);
  return sys::send_message(link, std::as_bytes(std::span(message)));
}

Result<ReceivedStep> receive_step(const sys::Fd& link) {
  TESS_TRY_ASSIGN(const sys::Message message, sys::receive_message(link));
  if (message.data.empty()) {
    return fail(ErrorKind::kDisconnected, "the other side is gone");
  }
  const std::string text(reinterpret_cast<const char*>(message.data.data()), message.data.size());
  return ReceivedStep{static_cast<Step>(text[0]), text.substr(1)};
}

int node_init(const NodePlan& plan, sys::Fd link, sys::Fd log) {
  sys::close_all_but({link.get(), log.get()});
  ::setsid();
  ::prctl(PR_SET_NAME, "tess-lab-init");
  auto signals = sys::SignalFd::block({SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2});
  if (!signals) {
    (void)send_step(link, Step::kFailed, signals.error().message());
    return 1;
  }
  const sys::Fd failure_link(::fcntl(link.get(), F_DUPFD_CLOEXEC, 3));
  Init init(plan, std::move(link), std::move(log), std::move(*signals));
  if (const auto made = init.make_world(); !made) {
    (void)send_step(failure_link, Step::kFailed, made.error().message());
    return 1;
  }
  return init.run();
}

}  // namespace tess::lab
