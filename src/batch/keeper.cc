#include "batch/keeper.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "batch/attach.h"
#include "batch/task_record.h"
#include "sys/files.h"
#include "sys/process.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace tess::batch {
namespace {

using nlohmann::json;
using NotStarted = TaskRecord::NotStarted;

constexpr int kKillAfterSeconds = 10;
constexpr int kNotStarted = 125;  // as `tess run` says it

// A step of becoming the task that failed, in words.
struct Failure {
  NotStarted what;
};

Failure for_good(const std::string& doing, int code = kNotStarted) {
  return {{true, code, fmt::format("{}: {}", doing, ::strerror(errno))}};
}

std::optional<Failure> take_limits(const JobSpec& spec) {
  for (size_t number = 0; number < spec.limits.size(); ++number) {
    const auto resource = static_cast<__rlimit_resource>(number);
    rlimit wanted{spec.limits[number].first, spec.limits[number].second};
    rlimit now{};
    if (::getrlimit(resource, &now) != 0 || ::setrlimit(resource, &wanted) == 0) {
      continue;
    }
    // More than this node may give: as much as it can.
    wanted.rlim_max = std::min(wanted.rlim_max, now.rlim_max);
    wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
    if (::setrlimit(resource, &wanted) != 0) {
      return for_good(fmt::format("set resource limit {}", number));
    }
  }
  return std::nullopt;
}

// From root to the owner, for good; nothing of tessd's own standing is left.
std::optional<Failure> become_owner(const JobSpec& spec) {
  (void)sys::write_control("/proc/self/oom_score_adj", "0");
  const sched_param normal{};
  (void)::sched_setscheduler(0, SCHED_OTHER, &normal);
  (void)::setpriority(PRIO_PROCESS, 0, 0);
  if (auto failed = take_limits(spec)) {
    return failed;
  }
  if (::setgroups(spec.groups.size(), spec.groups.data()) != 0) {
    return for_good("take the groups of the owner");
  }
  if (::setresgid(spec.gid, spec.gid, spec.gid) != 0 ||
      ::setresuid(spec.uid, spec.uid, spec.uid) != 0) {
    return for_good(fmt::format("become user {}", spec.uid));
  }
  ::umask(static_cast<mode_t>(spec.umask) & 0777);
  if (::chdir(spec.directory.c_str()) != 0) {
    return for_good(fmt::format("change to directory {}", spec.directory));
  }
  return std::nullopt;
}

std::optional<Failure> open_as(const std::string& path, int flags, int as) {
  // Not to become this session's terminal, if it is one.
  const sys::Fd file(::open(path.c_str(), flags | O_CLOEXEC | O_NOCTTY, 0666));
  if (!file.valid() || ::dup2(file.get(), as) < 0) {
    return for_good(fmt::format("open {}", path));
  }
  return std::nullopt;
}

std::optional<Failure> open_files(const JobSpec& spec) {
  const int write = O_WRONLY | O_CREAT | O_APPEND | (spec.append ? 0 : O_TRUNC);
  const bool one = spec.error.empty() || spec.error == spec.output;
  if (auto failed = open_as(spec.input.empty() ? "/dev/null" : spec.input, O_RDONLY, 0)) {
    return failed;
  }
  if (auto failed = open_as(spec.output, write, 1)) {
    return failed;
  }
  if (one) {
    return ::dup2(1, 2) < 0 ? std::optional(for_good("join the outputs")) : std::nullopt;
  }
  return open_as(spec.error, write, 2);
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> list;
  list.reserve(words.size() + 1);
  for (const std::string& word : words) {
    list.push_back(const_cast<char*>(word.c_str()));
  }
  list.push_back(nullptr);
  return list;
}

void say(const sys::Fd& socket, const std::string& text) {
  (void)sys::send_message(socket, std::as_bytes(std::span(text)));
}

std::string text_of(const std::vector<std::byte>& data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// The child: ends as the command, or tells the keeper why not.
int be_task(const Order& order, const sys::Fd& keeper) {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::setsid();
  const auto give_up = [&](const NotStarted& what) {
    say(keeper, not_started_line(what));
    return kNotStarted;
  };
  auto failed = become_owner(order.spec);
  if (!failed) {
    failed = open_files(order.spec);
  }
  if (failed) {
    return give_up(failed->what);
  }
  if (auto attached = attach_to_tessd(order); !attached) {
    const bool later = attached.error().kind() == ErrorKind::kRetry;
    return give_up({!later, kNotStarted, attached.error().message()});
  }
  say(keeper, "ready");
  const auto answer = sys::receive_message(keeper);
  if (!answer || answer->data.empty()) {
    return kNotStarted;  // the keeper is gone: nothing may begin that nobody has written down
  }
  auto argv = pointers(order.spec.command);
  auto environment = pointers(order.spec.environment);
  environ = environment.data();
  ::execvp(argv[0], argv.data());
  const bool missing = errno == ENOENT || errno == ENOTDIR;
  return give_up(
      for_good(fmt::format("execute {}", order.spec.command[0]), missing ? 127 : 126).what);
}

class TaskKeeper final {
 public:
  TaskKeeper(sys::Fd record, Order order) : record_(std::move(record)), order_(std::move(order)) {}

  Result<> keep() {
    TESS_TRY(write(keeper_line(::getpid())));
    TESS_TRY_ASSIGN(auto signals, sys::SignalFd::block({SIGCHLD, SIGTERM, SIGINT, SIGHUP}));
    TESS_TRY_ASSIGN(auto pair, sys::make_socket_pair(SOCK_SEQPACKET));
    auto child = sys::Process::fork({}, [&] {
      pair.first.reset();
      return be_task(order_, pair.second);
    });
    if (!child) {
      return write(not_started_line(NotStarted{false, kNotStarted, child.error().message()}));
    }
    child_ = std::move(*child);
    socket_ = std::move(pair.first);
    pair.second.reset();
    while (true) {
      TESS_TRY_ASSIGN(const auto status, child_.poll_change());
      if (status && (status->kind == sys::ExitStatus::kExited ||
                     status->kind == sys::ExitStatus::kSignaled)) {
        hear();  // its last words
        return not_started_ ? Result<>() : finish(*status);
      }
      wait(signals);
    }
  }

 private:
  Result<> write(const std::string& line) {
    TESS_TRY(sys::write_all(record_, std::as_bytes(std::span(line))));
    if (::fdatasync(record_.get()) != 0) {
      return fail_errno("write the task's record to the disk");
    }
    return {};
  }

  Result<> finish(const sys::ExitStatus& status) {
    if (!running_) {
      // Ended from outside before it began.
      return write(
          not_started_line(NotStarted{false, kNotStarted, "its start was " + status.text()}));
    }
    return write(ended_line(status));
  }

  // One message of the child, if there is one.
  void hear() {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (!socket_.valid() || ::poll(&waiting, 1, 0) <= 0) {
      return;
    }
    const auto message = sys::receive_message(socket_);
    if (!message || message->data.empty()) {
      socket_.reset();  // it is the command now, or gone
      return;
    }
    const std::string text = text_of(message->data);
    if (text != "ready") {
      not_started_ = write(text).has_value();
      return;
    }
    const auto started = sys::process_start_time(child_.pid());
    running_ = started && write(running_line({child_.pid(), *started})).has_value();
    if (running_) {
      say(socket_, "go");
    } else {
      socket_.reset();  // so it does not begin
    }
  }

  void wait(sys::SignalFd& signals) {
    pollfd waiting[2] = {{signals.fd().get(), POLLIN, 0}, {socket_.get(), POLLIN, 0}};
    const int timeout = ending_ ? 1000 : -1;
    (void)::poll(waiting, socket_.valid() ? 2 : 1, timeout);
    hear();
    while (true) {
      const auto signal = signals.next();
      if (!signal || !*signal) {
        break;
      }
      if ((*signal)->number == SIGTERM && !ending_) {
        ending_ = true;
        kill_at_ = sys::after(std::chrono::seconds(kKillAfterSeconds));
        signal_all(SIGTERM);
        signal_all(SIGCONT);
      }
    }
    if (ending_ && std::chrono::steady_clock::now() >= kill_at_) {
      signal_all(SIGKILL);
    }
  }

  void signal_all(int number) {
    if (!signal_session(child_.pid(), number)) {
      (void)child_.signal(number);
    }
  }

  sys::Fd record_;
  Order order_;
  sys::Process child_;
  sys::Fd socket_;
  bool running_ = false;
  bool not_started_ = false;
  bool ending_ = false;
  sys::Deadline kill_at_{};
};

}  // namespace

std::string encode_order(const Order& order) {
  return json{{"control_socket", order.control_socket}, {"spec", encode(order.spec)}}.dump();
}

Result<Order> decode_order(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) {
    return fail(ErrorKind::kBadInput, "the order is not a JSON object");
  }
  Order order;
  order.control_socket = object.value("control_socket", "");
  TESS_TRY_ASSIGN(order.spec, decode(object.value("spec", "")));
  return order;
}

int keep_task() {
  for (const int fd : {kRecordFd, kOrderFd}) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  // Survives what ends a session; children start with their own dispositions.
  sys::Fd record(kRecordFd);
  sys::Fd order_file(kOrderFd);
  const auto text = sys::read_to_end(order_file);
  auto order = text ? decode_order(*text) : Result<Order>(tl::unexpected(text.error()));
  order_file.reset();
  if (!order) {
    const std::string line =
        not_started_line(NotStarted{true, kNotStarted, order.error().message()});
    return sys::write_all(record, std::as_bytes(std::span(line))) ? 0 : 1;
  }
  const auto kept = TaskKeeper(std::move(record), std::move(*order)).keep();
  if (!kept) {
    std::fprintf(stderr, "tess-agent task: %s\n", kept.error().message().c_str());
  }
  return kept ? 0 : 1;
}

}  // namespace tess::batch
