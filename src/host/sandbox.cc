#include "host/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string_view>

#include "base/log.h"
#include "host/sandbox_init.h"
#include "sys/clock.h"
#include "sys/files.h"
#include "sys/proc_status.h"
#include "sys/unix_socket.h"

namespace tess::host {
namespace {

constexpr int kReplyTimeoutMs = 10'000;
constexpr int64_t kSecond = 1'000'000'000;

// "monotonic <seconds> <nanoseconds>" of a timens_offsets file.
int64_t parse_offset(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) {
    return 0;
  }
  text.remove_prefix(at + name.size());
  int64_t values[2] = {0, 0};
  for (int64_t& value : values) {
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc()) {
      return 0;
    }
    text.remove_prefix(static_cast<size_t>(end - text.data()));
  }
  return values[0] * kSecond + values[1];
}

std::string offset_line(const char* name, int64_t offset) {
  int64_t seconds = offset / kSecond;
  int64_t rest = offset % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  return fmt::format("{} {} {}\n", name, seconds, rest);
}

}  // namespace

Result<std::unique_ptr<Sandbox>> Sandbox::create(uint32_t uid) {
  TESS_TRY_ASSIGN(sys::SocketPair requests, sys::make_socket_pair(SOCK_SEQPACKET));
  TESS_TRY_ASSIGN(sys::SocketPair exits, sys::make_socket_pair(SOCK_SEQPACKET));
  const pid_t child = ::fork();
  if (child < 0) {
    return fail_errno("fork the sandbox");
  }
  if (child == 0) {
    // Where the kernel shares CPUs among sessions, guests are not to have our part of them.
    ::setsid();
    run_sandbox(requests.second.get(), exits.second.get());
  }
  std::unique_ptr<Sandbox> sandbox(
      new Sandbox(std::move(requests.first), std::move(exits.first), child));
  requests.second.reset();
  exits.second.reset();
  if (auto done = sandbox->set_up(uid); !done) {
    return fail_with(std::move(done.error()), "make the sandbox");
  }
  return sandbox;
}

Sandbox::~Sandbox() {
  kill();
}

Result<> Sandbox::set_up(uint32_t uid) {
  TESS_TRY(wait_reply());
  const std::string proc = fmt::format("/proc/{}/", stage_);
  const std::string map = fmt::format("0 {} 1\n", uid);
  TESS_TRY(sys::write_control(proc + "uid_map", map));
  TESS_TRY(sys::write_control(proc + "gid_map", map));
  TESS_TRY(ask({InitCommand::kMapped, 0, 0, 0, 0}, -1));
  return {};
}

Result<> Sandbox::set_clocks(int64_t monotonic_ns, int64_t boottime_ns) {
  const std::string path = fmt::format("/proc/{}/timens_offsets", stage_);
  TESS_TRY_ASSIGN(const std::string own, sys::read_file(path));
  // A new namespace starts with its parent's offsets, which are relative to the machine's clocks:
  // ours if we are in one.
  const int64_t our_monotonic = parse_offset(own, "monotonic");
  const int64_t our_boottime = parse_offset(own, "boottime");
  monotonic_offset_ = home_ ? home_->monotonic_ns : monotonic_ns - sys::clock_ns(CLOCK_MONOTONIC);
  boottime_offset_ = home_ ? home_->boottime_ns : boottime_ns - sys::clock_ns(CLOCK_BOOTTIME);
  return sys::write_control(path, offset_line("monotonic", monotonic_offset_ + our_monotonic) +
                                      offset_line("boottime", boottime_offset_ + our_boottime));
}

void Sandbox::know_home(int64_t monotonic_ahead_ns, int64_t boottime_ahead_ns) {
  const std::lock_guard guard(mutex_);
  home_ = HomeAhead{monotonic_ahead_ns, boottime_ahead_ns};
}

Result<> Sandbox::start(int64_t monotonic_ns, int64_t boottime_ns) {
  {
    const std::lock_guard guard(mutex_);
    if (started_) {
      return {};
    }
    started_ = true;
    if (auto set = set_clocks(monotonic_ns, boottime_ns); !set) {
      return fail_with(std::move(set.error()), "set the clocks of the sandbox");
    }
  }
  // Two replies, in any order: the first stage's with the pidfd of pid 1 (our child by
  // CLONE_PARENT), and pid 1's own.
  TESS_TRY_ASSIGN(sys::Fd one, ask({InitCommand::kStart, 0, 0, 0, 0}, -1));
  const std::lock_guard guard(mutex_);
  if (auto two = wait_reply(); !two) {
    return fail_with(std::move(two.error()), "start the sandbox");
  } else {
    init_ = one.valid() ? std::move(one) : std::move(*two);
  }
  ::waitpid(stage_, nullptr, 0);
  stage_ = -1;
  return {};
}

int64_t Sandbox::monotonic_ns() const {
  return sys::clock_ns(CLOCK_MONOTONIC) + monotonic_offset_;
}
int64_t Sandbox::boottime_ns() const {
  return sys::clock_ns(CLOCK_BOOTTIME) + boottime_offset_;
}

Result<sys::Fd> Sandbox::wait_reply() {
  pollfd wait{requests_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&wait, 1, kReplyTimeoutMs);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    return fail(ErrorKind::kFailed, "the sandbox does not answer");
  }
  TESS_TRY_ASSIGN(sys::Message message, sys::receive_message(requests_, sizeof(InitReply), 1));
  if (message.data.size() != sizeof(InitReply)) {
    return fail(ErrorKind::kDisconnected, "the sandbox has ended");
  }
  InitReply reply;
  std::memcpy(&reply, message.data.data(), sizeof(reply));
  if (reply.result < 0) {
    errno = -reply.result;
    return fail_errno("{}", init_step_name(reply.step));
  }
  return message.fds.empty() ? sys::Fd() : std::move(message.fds.front());
}

Result<sys::Fd> Sandbox::ask(const InitRequest& request, int fd) {
  const std::lock_guard guard(mutex_);
  return ask_locked(request, fd);
}

Result<sys::Fd> Sandbox::ask_locked(const InitRequest& request, int fd) {
  const std::span<const int> fds(&fd, fd >= 0 ? 1 : 0);
  TESS_TRY(sys::send_message(requests_, std::as_bytes(std::span(&request, 1)), fds));
  return wait_reply();
}

Result<Sandbox::BodyProcess> Sandbox::process_of(sys::Fd pidfd) {
  TESS_TRY_ASSIGN(const std::string info,
                  sys::read_file(fmt::format("/proc/self/fdinfo/{}", pidfd.get())));
  BodyProcess body;
  const size_t at = info.find("Pid:\t");
  if (at != std::string::npos) {
    std::from_chars(info.data() + at + 5, info.data() + info.size(), body.outer_pid);
  }
  if (body.outer_pid <= 0) {
    return fail(ErrorKind::kDisconnected, "the body has ended");
  }
  body.pidfd = std::move(pidfd);
  return body;
}

Result<Sandbox::BodyProcess> Sandbox::spawn(int32_t pid, uint64_t region_base, uint32_t slot,
                                            uint64_t job, const sys::Fd& mailbox) {
  auto pidfd = [&] {
    const std::lock_guard guard(mutex_);
    auto answer = ask_locked({InitCommand::kSpawn, pid, region_base, job, slot}, mailbox.get());
    if (answer) {
      spawned_.insert(pid);
    }
    return answer;
  }();
  if (!pidfd && pidfd.error().sys_errno() == EEXIST) {
    return tl::unexpected(Error(ErrorKind::kNotPossible,
                                fmt::format("pid {} is taken in the sandbox of this job", pid),
                                EEXIST));
  }
  if (!pidfd && pidfd.error().sys_errno() == EINVAL) {
    return fail(ErrorKind::kNotPossible,
                "this node's kernel.pid_max is too small for pid {}: raise it with sysctl", pid);
  }
  if (!pidfd) {
    return fail_with(std::move(pidfd.error()), "spawn a body as pid {}", pid);
  }
  return process_of(std::move(*pidfd));
}

Result<Sandbox::BodyProcess> Sandbox::open(int32_t pid) {
  auto pidfd = ask({InitCommand::kOpen, pid, 0, 0, 0}, -1);
  if (!pidfd && pidfd.error().sys_errno() == ESRCH) {
    return fail(ErrorKind::kDisconnected, "no process {} in the sandbox", pid);
  }
  if (!pidfd) {
    return fail_with(std::move(pidfd.error()), "find process {} in the sandbox", pid);
  }
  return process_of(std::move(*pidfd));
}

std::vector<Sandbox::Child> Sandbox::children() {
  std::vector<Child> found;
  const std::lock_guard guard(mutex_);
  if (!init_.valid()) {
    return found;
  }
  const auto init = process_of(sys::Fd(::fcntl(init_.get(), F_DUPFD_CLOEXEC, 0)));
  const auto list =
      init ? sys::read_file(fmt::format("/proc/{0}/task/{0}/children", init->outer_pid))
           : Result<std::string>(std::string());
  std::istringstream pids(list ? *list : std::string());
  pid_t outer;
  while (pids >> outer) {
    const auto status = sys::ProcStatus::read(outer);
    struct stat mailbox {};
    const std::string fd = fmt::format("/proc/{}/fd/{}", outer, kBodyFdBase);
    sys::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, outer, 0)));
    const int32_t inside = status ? status->innermost_id() : 0;
    if (inside == 0 || !pidfd.valid() || ::stat(fd.c_str(), &mailbox) != 0) {
      continue;
    }
    found.push_back({inside, {std::move(pidfd), outer}, mailbox.st_ino});
  }
  return found;
}

Result<std::optional<Sandbox::Exit>> Sandbox::next_exit() {
  InitExit event;
  const ssize_t n = ::recv(exits_.get(), &event, sizeof(event), MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
    return std::nullopt;
  }
  if (n != static_cast<ssize_t>(sizeof(event))) {
    return fail(ErrorKind::kDisconnected, "the sandbox has ended");
  }
  const std::lock_guard guard(mutex_);
  return Exit{event.pid, event.wait_status, spawned_.erase(event.pid) != 0};
}

void Sandbox::kill() {
  if (stage_ > 0) {
    ::kill(stage_, SIGKILL);
    ::waitpid(stage_, nullptr, 0);
    stage_ = -1;
  }
  if (init_.valid()) {
    ::syscall(SYS_pidfd_send_signal, init_.get(), SIGKILL, nullptr, 0);
    siginfo_t info;
    ::waitid(static_cast<idtype_t>(3 /* P_PIDFD */), static_cast<id_t>(init_.get()), &info,
             WEXITED);
    init_.reset();
  }
}

}  // namespace tess::host
