// AgentHub: the agents as processes: how they are started, and how their end is noticed and told.
#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "net/tcp.h"
#include "node/agent_hub_parts.h"
#include "node/job_id.h"
#include "sys/files.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kStartTimeout{15000};
constexpr int kListenFd = 3;  // where a host agent finds its listening socket

std::string new_token() {
  std::string token(wire::kTokenSize, '\0');
  const ssize_t got = ::getrandom(token.data(), token.size(), 0);
  TESS_CHECK(got == static_cast<ssize_t>(token.size()), "no random bytes");
  return token;
}

// The last line that says something, of an agent's log.
std::string last_line(const std::string& path) {
  auto text = sys::read_file(path);
  if (!text) {
    return {};
  }
  while (!text->empty() && (text->back() == '\n' || text->back() == ' ')) {
    text->pop_back();
  }
  const size_t at = text->rfind('\n');
  return at == std::string::npos ? *text : text->substr(at + 1);
}

std::vector<std::string> environment_with(const std::vector<std::string>& more) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    environment.emplace_back(*entry);
  }
  environment.insert(environment.end(), more.begin(), more.end());
  return environment;
}

}  // namespace

Result<std::shared_ptr<Agent>> AgentHub::spawn(Agent agent, std::vector<std::string> arguments,
                                               const sys::Fd* listener) {
  agent.log_path = fmt::format("{}/agent-{}-{}.log", options_.run_dir, job_text(agent.job),
                               role_name(agent.role));
  const sys::Fd log(
      ::open(agent.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const sys::Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!log.valid() || !null.valid()) {
    return fail_errno("open {}", log.valid() ? "/dev/null" : agent.log_path);
  }
  sys::SpawnOptions options;
  options.argv = std::move(arguments);
  options.argv.insert(options.argv.begin(), options_.agent_binary);
  options.fds = {{null.get(), 0}, {log.get(), 1}, {log.get(), 2}};
  options.directory = std::string("/");  // g++ 12 warns wrongly about the literal
  options.new_session = true;
  options.priority = true;  // a node that is to be relieved is a busy one
  if (listener != nullptr) {
    options.fds.emplace_back(listener->get(), kListenFd);
    options.env = environment_with(
        {fmt::format("{}={}", wire::kTokenVariable, wire::to_hex(agent.host.token)),
         fmt::format("{}={}", wire::kAddressVariable, agent.host.endpoint.to_string())});
  }
  TESS_TRY_ASSIGN(agent.process, sys::Process::spawn(options));
  agent.our_child = true;
  const auto shared = std::make_shared<Agent>(std::move(agent));
  agents_[key_of(*shared)] = shared;
  watch_exit(shared);
  log::info("node", "event=agent_started role={} job={} pid={}", role_name(shared->role),
            job_text(shared->job), shared->process.pid());
  return shared;
}

void AgentHub::start_home(uint64_t job, pid_t pid, bool run, const std::string& node,
                          const std::string& note, Started started, bool place) {
  Agent agent;
  agent.job = job;
  agent.role = wire::Register::HOME;
  agent.home_node = options_.node_name;
  agent.first_pid = pid;
  agent.note = note;
  std::vector<std::string> arguments = {"home", "--job", std::to_string(job), "--pid",
                                        std::to_string(pid)};
  if (run) {
    arguments.emplace_back("--run");
  }
  if (place) {
    arguments.emplace_back("--place");
  }
  if (!node.empty()) {
    arguments.insert(arguments.end(), {"--node", node});
  }
  if (!note.empty()) {
    arguments.insert(arguments.end(), {"--note", wire::to_hex(note)});
  }
  auto spawned = spawn(std::move(agent), std::move(arguments), nullptr);
  if (!spawned) {
    started(fail_with(std::move(spawned.error()), "start a home agent"));
    return;
  }
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(kStartTimeout, [this, job] {
    finish_start(job, fail(ErrorKind::kRetry, "the home agent has not answered within {} s",
                           kStartTimeout.count() / 1000));
  });
  starting_[job] = Starting{pid, run, std::move(started), std::move(timer)};
}

void AgentHub::finish_start(uint64_t job, Result<std::shared_ptr<Agent>> result) {
  const auto found = starting_.find(job);
  if (found == starting_.end()) {
    return;
  }
  const Started started = std::move(found->second.started);
  starting_.erase(found);
  started(std::move(result));
}

Result<HostAddress> AgentHub::host_for(uint64_t job, const std::string& home_node,
                                       const std::string& listen_address) {
  const auto found = agents_.find({wire::Register::HOST, job});
  if (found != agents_.end() && found->second->process.running()) {
    if (found->second->host.token.size() != wire::kTokenSize) {
      return fail(ErrorKind::kNotPossible,
                  "the host agent of job {} (process {}) does not tell its address; end it first",
                  job_text(job), found->second->process.pid());
    }
    return found->second->host;
  }
  Agent agent;
  agent.job = job;
  agent.role = wire::Register::HOST;
  agent.home_node = home_node;
  agent.host.token = new_token();
  TESS_TRY_ASSIGN(const sys::Fd listener, net::listen_tcp(listen_address, 0));
  TESS_TRY_ASSIGN(agent.host.endpoint, net::local_endpoint(listener));
  auto spawned = spawn(std::move(agent),
                       {"host", "--job", std::to_string(job), "--home-node", home_node,
                        "--listen-fd", std::to_string(kListenFd)},
                       &listener);
  if (!spawned) {
    return fail_with(std::move(spawned.error()), "start a host agent");
  }
  return (*spawned)->host;
}

void AgentHub::watch_exit(const std::shared_ptr<Agent>& agent) {
  const std::weak_ptr<Agent> weak = agent;
  auto watch = std::make_unique<net::FdWatch>(
      loop_, agent->process.pidfd().get(),
      [this, weak] {
        if (const auto alive = weak.lock()) {
          on_exit(alive);
        }
      },
      nullptr);
  watch->want_read(true);
  exit_watches_[key_of(*agent)] = std::move(watch);
}

// Says how it ended, takes its exit status and tidies up its log.
std::string AgentHub::ending_of(Agent& agent) {
  std::string how = "ended";
  bool clean = false;
  if (agent.our_child) {
    if (auto status = agent.process.wait(sys::after(milliseconds(0)))) {
      how = status->text();
      clean = status->success();
      agent.ended_well = clean;
    }
  }
  std::string words = agent.last_words;
  if (!agent.log_path.empty()) {
    if (words.empty() && !clean) {
      words = last_line(agent.log_path);
    }
    if (clean && ::getenv("TESS_KEEP_LOGS") == nullptr) {
      ::unlink(agent.log_path.c_str());
    }
  }
  return words.empty() ? how : how + ": " + words;
}

void AgentHub::on_exit(const std::shared_ptr<Agent>& agent) {
  hear_last_words(agent->process.pid());
  agent->ending = ending_of(*agent);
  const std::string& ending = agent->ending;
  log::info("node", "event=agent_ended role={} job={} how=\"{}\"", role_name(agent->role),
            job_text(agent->job), ending);
  agents_.erase(key_of(*agent));
  exit_watches_.erase(key_of(*agent));
  // Not left to end of file: a child of the agent may still have its socket.
  close_session_of(*agent, ending);
  events_.status(*agent);
  if (agent->role == wire::Register::HOME) {
    finish_start(agent->job, fail(ErrorKind::kFailed, "the home agent {}", ending));
  }
  check_waiters();
}

}  // namespace tess::node
