#include "lab/commands.h"

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "lab/image.h"
#include "lab/network.h"
#include "sys/credentials.h"
#include "sys/files.h"
#include "sys/namespaces.h"
#include "sys/signals.h"
#include "sys/unix_socket.h"

namespace tess::lab {
namespace {

using nlohmann::json;

constexpr auto kDownTime =
    std::chrono::seconds(75);  // both groups of nodes at their slowest, and the sweep
constexpr auto kForceTime = std::chrono::seconds(15);
constexpr auto kTessdTime = std::chrono::seconds(30);
constexpr auto kAskEvery = std::chrono::milliseconds(20);

Result<> require_root() {
  if (!sys::is_root()) {
    return fail(ErrorKind::kNotPossible,
                "needs root: a lab is made of namespaces, mounts and cgroups (try sudo)");
  }
  return {};
}

// Asks until the answer is yes.
template <typename Question>
bool becomes_true(std::chrono::milliseconds time, Question question) {
  const auto deadline = sys::after(time);
  while (!question()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return false;
    }
    const timespec pause{0, std::chrono::nanoseconds(kAskEvery).count()};
    ::nanosleep(&pause, nullptr);
  }
  return true;
}

Result<std::string> new_id() {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof(number), 0) != sizeof(number)) {
    return fail_errno("get random bytes");
  }
  return fmt::format("{:016x}", number);
}

Result<int> free_subnet() {
  std::set<int> taken;
  for (const std::string& name : lab_names()) {
    if (const auto state = read_state(name)) {
      taken.insert(state->subnet);
    }
  }
  for (int subnet = 0; subnet < kMaxSubnets; ++subnet) {
    if (!taken.contains(subnet)) {
      return subnet;
    }
  }
  return fail(ErrorKind::kNotPossible, "there are {} labs already", taken.size());
}

// The record of a new lab; its directory is the keeper's to make. Under the lock.
Result<State> new_lab(const LabsLock& lock, Spec spec) {
  sweep_dead(lock);
  const std::string name = spec.name;
  State state;
  state.spec = std::move(spec);
  TESS_TRY_ASSIGN(state.id, new_id());
  TESS_TRY_ASSIGN(state.pid_namespace, sys::namespace_id(0, sys::Namespace::kPid));
  TESS_TRY_ASSIGN(state.subnet, free_subnet());
  for (int number = 1; number <= state.spec.node_count; ++number) {
    state.nodes.push_back({node_name(number), node_address(state.subnet, number), {}, {}});
  }
  if (::access(lab_directory(name).c_str(), F_OK) == 0) {
    return fail(ErrorKind::kNotPossible,
                "lab '{}' is up already (tess lab down --name {}, or choose another --name)", name,
                name);
  }
  return state;
}

std::string optional_text(const std::optional<double>& cpus) {
  return cpus ? fmt::format("{:g}", *cpus) : "-";
}

std::string bytes_text(const std::optional<uint64_t>& bytes) {
  return bytes ? fmt::format("{}M", *bytes >> 20) : "-";
}

std::string rate_text(const std::optional<uint64_t>& bits) {
  if (!bits) {
    return "-";
  }
  return *bits >= 1'000'000 ? fmt::format("{:g}mbit", static_cast<double>(*bits) / 1e6)
                            : fmt::format("{}bit", *bits);
}

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

json status_json(const State& state) {
  json nodes = json::array();
  for (const NodeState& node : state.nodes) {
    nodes.push_back({{"name", node.name},
                     {"address", node.address},
                     {"pid", node.init.pid},
                     {"alive", node.init.open().has_value()},
                     {"tessd", tessd_answers(node)},
                     {"log", lab_directory(state.spec.name) + "/" + node.name + ".log"}});
  }
  json result = {{"name", state.spec.name}, {"ready", state.ready}, {"nodes", nodes}};
  result["cpus"] = state.spec.cpus ? json(*state.spec.cpus) : json(nullptr);
  result["memory_bytes"] = state.spec.memory_bytes ? json(*state.spec.memory_bytes) : json(nullptr);
  result["rate_bits"] = state.spec.rate_bits ? json(*state.spec.rate_bits) : json(nullptr);
  return result;
}

void print_status(const State& state) {
  std::string text = fmt::format("{:<6} {:<14} {:>8}  {:<6} {:>5} {:>8} {:>12}\n", "NODE",
                                 "ADDRESS", "PID", "TESSD", "CPUS", "MEMORY", "RATE");
  for (const NodeState& node : state.nodes) {
    const bool alive = node.init.open().has_value();
    const char* tessd = !alive ? "gone" : tessd_answers(node) ? "up" : "down";
    text += fmt::format("{:<6} {:<14} {:>8}  {:<6} {:>5} {:>8} {:>12}\n", node.name, node.address,
                        alive ? std::to_string(node.init.pid) : "-", tessd,
                        optional_text(state.spec.cpus), bytes_text(state.spec.memory_bytes),
                        rate_text(state.spec.rate_bits));
  }
  print(text);
}

struct Heard {
  News kind;
  std::string text;
};

// nullopt at end of file: the keeper is gone, with everything.
Result<std::optional<Heard>> next_news(const sys::Fd& link) {
  TESS_TRY_ASSIGN(const sys::Message message, sys::receive_message(link));
  if (message.data.empty()) {
    return std::nullopt;
  }
  const std::string text(reinterpret_cast<const char*>(message.data.data()), message.data.size());
  return Heard{static_cast<News>(text[0]), text.substr(1)};
}

// Follows the birth of a lab to its end. Interrupted: hangs up, which ends the lab, and waits for
// that.
class Birth {
 public:
  Birth(sys::Fd link, sys::SignalFd signals, LabsLock lock)
      : link_(std::move(link)), signals_(std::move(signals)), lock_(std::move(lock)) {}

  Result<> follow(sys::Process keeper);

 private:
  Result<bool> handle(const Heard& news);

  sys::Fd link_;
  sys::SignalFd signals_;
  std::optional<LabsLock> lock_;
  std::string failure_ = "the lab ended while it came up";
};

// True when the lab is there.
Result<bool> Birth::handle(const Heard& news) {
  switch (news.kind) {
    case News::kRecorded:
      lock_.reset();
      return false;
    case News::kWarning:
      std::fprintf(stderr, "tess lab: %s\n", news.text.c_str());
      return false;
    case News::kFailed:
      lock_.reset();  // the keeper needs it for the sweep
      failure_ = news.text;
      return false;
    case News::kReady:
      TESS_TRY(send_news(link_, News::kReady));
      return true;
  }
  return fail(ErrorKind::kFailed, "unknown news from the keeper");
}

Result<> Birth::follow(sys::Process keeper) {
  std::optional<int> interrupted;
  while (!interrupted) {
    pollfd fds[] = {{link_.get(), POLLIN, 0}, {signals_.fd().get(), POLLIN, 0}};
    ::poll(fds, 2, -1);  // the supervisor's own deadlines end this
    if (const auto received = signals_.next().value_or(std::nullopt)) {
      interrupted = received->number;
      continue;
    }
    if (fds[0].revents == 0) {
      continue;
    }
    TESS_TRY_ASSIGN(const auto news, next_news(link_));
    if (!news) {
      break;
    }
    TESS_TRY_ASSIGN(const bool ready, handle(*news));
    if (ready) {
      return {};
    }
  }
  link_.reset();
  lock_.reset();
  (void)keeper.wait();  // no deadline: it ends when every process of the lab has
  if (interrupted) {
    return fail(ErrorKind::kFailed, "interrupted; nothing is left of the lab");
  }
  return fail(ErrorKind::kFailed, "{}", failure_);
}

}  // namespace

Result<> up(Spec spec, bool as_json, const MakeIdentities& make_identities) {
  TESS_TRY(check_spec(spec));
  TESS_TRY(require_root());
  TESS_TRY(check_network_tools());
  if (spec.tessd.empty()) {
    TESS_TRY_ASSIGN(spec.tessd, default_tessd());
  }
  char* absolute = ::realpath(spec.tessd.c_str(), nullptr);
  if (absolute == nullptr) {
    return fail_errno("find {}", spec.tessd);
  }
  spec.tessd = absolute;
  ::free(absolute);

  const std::string name = spec.name;
  TESS_TRY_ASSIGN(sys::SignalFd signals, sys::SignalFd::block({SIGINT, SIGTERM, SIGHUP}));
  TESS_TRY_ASSIGN(LabsLock lock, LabsLock::take());
  TESS_TRY_ASSIGN(sys::SocketPair pair, sys::make_socket_pair(SOCK_SEQPACKET));
  TESS_TRY_ASSIGN(const State state, new_lab(lock, std::move(spec)));
  TESS_TRY_ASSIGN(sys::Process keeper,
                  start_keeper(state, std::move(pair.second), make_identities));
  TESS_TRY(
      Birth(std::move(pair.first), std::move(signals), std::move(lock)).follow(std::move(keeper)));
  return status(name, as_json);
}

Result<State> live_lab(const std::string& name) {
  TESS_TRY(require_root());
  TESS_TRY_ASSIGN(const LabsLock lock, LabsLock::take());
  sweep_dead(lock);
  auto state = read_state(name);
  if (lab_names().empty()) {
    ::rmdir(kLabsDirectory);  // made by taking the lock
  }
  return state;
}

Result<> down(const std::string& name) {
  TESS_TRY_ASSIGN(const State state, live_lab(name));
  const auto keeper = state.keeper.open();
  const auto supervisor = state.supervisor.open();
  if (supervisor) {
    (void)supervisor->signal(SIGTERM);
  }
  const auto gone = [](const std::optional<sys::Process>& process, std::chrono::milliseconds time) {
    return !process || process->wait_gone(sys::after(time)).has_value();
  };
  if (!gone(supervisor, kDownTime)) {
    std::fprintf(stderr, "tess lab: the supervisor does not end, killing it\n");
    (void)supervisor->signal(SIGKILL);
  }
  if (!gone(supervisor, kForceTime) || !gone(keeper, kForceTime)) {
    return fail(ErrorKind::kFailed, "lab '{}' does not end; see {}/lab.log", name,
                lab_directory(name));
  }
  // Normally the keeper has swept; if it was killed this does.
  TESS_TRY_ASSIGN(const LabsLock lock, LabsLock::take());
  sweep_dead(lock);
  if (lab_names().empty()) {
    ::rmdir(kLabsDirectory);
  }
  return {};
}

Result<> status(const std::string& name, bool as_json) {
  TESS_TRY_ASSIGN(const State state, live_lab(name));
  if (as_json) {
    print(status_json(state).dump(2) + "\n");
  } else {
    print_status(state);
  }
  return {};
}

Result<> list(bool as_json) {
  TESS_TRY(require_root());
  TESS_TRY_ASSIGN(const LabsLock lock, LabsLock::take());
  sweep_dead(lock);
  const auto names = lab_names();
  if (names.empty()) {
    ::rmdir(kLabsDirectory);
  }
  if (as_json) {
    print(json(names).dump() + "\n");
    return {};
  }
  for (const std::string& name : names) {
    print(name + "\n");
  }
  return {};
}

Result<> act_on_node(const std::string& name, const std::string& node_name, NodeAction action) {
  TESS_TRY_ASSIGN(const State state, live_lab(name));
  const NodeState* node = state.node(node_name);
  if (node == nullptr) {
    return fail(ErrorKind::kBadInput, "lab '{}' has no node '{}'", name, node_name);
  }
  const auto init = node->init.open();
  if (!init) {
    return fail(ErrorKind::kNotPossible, "node {} is not running", node_name);
  }
  switch (action) {
    case NodeAction::kKill:
      TESS_TRY(init->signal(SIGKILL));
      return init->wait_gone(sys::after(kForceTime));
    case NodeAction::kStart:
      TESS_TRY(init->signal(SIGUSR1));
      if (!becomes_true(kTessdTime, [&] {
            if (tessd_answers(*node)) {
              return true;
            }
            (void)init->signal(SIGUSR1);  // the one before it may have been ending still
            return false;
          })) {
        return fail(ErrorKind::kFailed, "tessd of {} does not answer; see {}/{}.log", node_name,
                    lab_directory(name), node_name);
      }
      return {};
    case NodeAction::kStop:
      TESS_TRY(init->signal(SIGUSR2));
      if (!becomes_true(kTessdTime, [&] { return !tessd_answers(*node); })) {
        return fail(ErrorKind::kFailed, "tessd of {} does not stop; see {}/{}.log", node_name,
                    lab_directory(name), node_name);
      }
      return {};
  }
  return {};
}

}  // namespace tess::lab
