#include "agent/test_cluster_agents.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>
#include <utility>

#include "net/tcp.h"
#include "node/identity.h"
#include "sys/unix_socket.h"
#include "wire/agent_process.h"
#include "wire/frame.h"
#include "wire/node.pb.h"

namespace tess::agent {
namespace {

constexpr uint64_t kJob = 77;
constexpr const char* kHomeNode = "n1";

std::string random_token() {
  std::random_device random;
  std::string token;
  while (token.size() < wire::kTokenSize) {
    token.push_back(static_cast<char>(random()));
  }
  return token;
}

}  // namespace

TestAgents::TestAgents() {
  std::string path = "/tmp/tess-agents-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return;
  }
  directory_ = path;
  binary_ = std::filesystem::canonical("/proc/self/exe").parent_path() / "tess-agent";
  (void)node::make_cluster_ca(directory_ + "/ca");
  for (const char* name : {"n1", "n2", "n3", "n4"}) {
    const std::string node = directory_ + "/" + name;
    std::filesystem::create_directories(node + "/run");
    (void)node::issue_node_certificate(directory_ + "/ca", name, node + "/state");
  }
  listener_ = std::move(*sys::listen_unix(directory_ + "/n1/run/agents.sock"));
  wake_ = sys::Fd(::eventfd(0, EFD_CLOEXEC));
  server_ = std::thread([this] { serve(); });
}

TestAgents::~TestAgents() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
  if (server_.joinable()) {
    server_.join();
  }
  kill_home();
  for (auto& [node, host] : hosts_) {
    if (host.pid > 0) {
      ::kill(host.pid, SIGKILL);
      ::waitpid(host.pid, nullptr, 0);
    }
  }
  if (::getenv("TESS_TEST_KEEP") == nullptr) {
    std::filesystem::remove_all(directory_);
  }
}

pid_t TestAgents::spawn(const std::string& node, const std::vector<std::string>& argv,
                        std::vector<std::string> environment, int fd3) {
  const std::string base = directory_ + "/" + node;
  environment.push_back("TESS_STATE_DIR=" + base + "/state");
  environment.push_back("TESS_RUN_DIR=" + base + "/run");
  environment.push_back("TESS_CACHE_DIR=" + base + "/cache");
  environment.push_back(std::string("PATH=") + ::getenv("PATH"));
  if (const char* level = ::getenv("TESS_LOG"); level != nullptr) {
    environment.push_back(std::string("TESS_LOG=") + level);
  }
  const std::string log = base + "/agent.log";
  std::vector<char*> arguments;
  arguments.push_back(const_cast<char*>(binary_.c_str()));
  for (const std::string& argument : argv) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& variable : environment) {
    variables.push_back(const_cast<char*>(variable.c_str()));
  }
  variables.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid == 0) {
    // Lives as long as the test, not as long as the thread that happened to start it.
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ::dup2(out, 1);
    ::dup2(out, 2);
    if (fd3 >= 0 && fd3 != 3) {
      ::dup2(fd3, 3);
    } else if (fd3 == 3) {
      ::fcntl(3, F_SETFD, 0);
    }
    ::setsid();
    ::execve(arguments[0], arguments.data(), variables.data());
    ::_exit(127);
  }
  return pid;
}

Result<TestAgents::Host> TestAgents::host_for(const std::string& node) {
  Host& host = hosts_[node];
  if (host.pid > 0 && ::waitpid(host.pid, nullptr, WNOHANG) == 0) {
    return host;
  }
  TESS_TRY_ASSIGN(const sys::Fd listener, net::listen_tcp("127.0.0.1", 0));
  TESS_TRY_ASSIGN(const net::Endpoint endpoint, net::local_endpoint(listener));
  host.port = endpoint.port;
  host.token = random_token();
  host.pid = spawn(
      node, {"host", "--job", std::to_string(kJob), "--home-node", kHomeNode, "--listen-fd", "3"},
      {std::string(wire::kTokenVariable) + "=" + wire::to_hex(host.token),
       std::string(wire::kAddressVariable) + "=" + endpoint.to_string()},
      listener.get());
  return host;
}

void TestAgents::serve() {
  wire::FrameReader reader;
  while (true) {
    std::shared_ptr<sys::Fd> connection;
    {
      const std::lock_guard lock(mutex_);
      connection = connection_;
    }
    pollfd fds[3] = {{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                     {.fd = listener_.get(), .events = POLLIN, .revents = 0},
                     {.fd = connection ? connection->get() : -1, .events = POLLIN, .revents = 0}};
    if (::poll(fds, 3, -1) < 0 || (fds[0].revents & POLLIN) != 0) {
      return;
    }
    if ((fds[1].revents & POLLIN) != 0) {
      const int accepted = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      const std::lock_guard lock(mutex_);
      connection_ = std::make_shared<sys::Fd>(accepted);
      reader = wire::FrameReader();
      continue;
    }
    if (fds[2].revents == 0) {
      continue;
    }
    std::byte buffer[16384];
    const ssize_t n = ::read(connection->get(), buffer, sizeof(buffer));
    if (n <= 0) {
      const std::lock_guard lock(mutex_);
      connection_.reset();
      changed_.notify_all();
      continue;
    }
    reader.feed(std::span(buffer).first(static_cast<size_t>(n)));
    while (true) {
      auto payload = reader.next();
      wire::AgentUp message;
      if (!payload || !*payload ||
          !wire::decode_payload(std::as_bytes(std::span(**payload)), message)) {
        break;
      }
      handle(message);
    }
  }
}

void TestAgents::handle(const wire::AgentUp& message) {
  wire::AgentDown reply;
  switch (message.body_case()) {
    case wire::AgentUp::kRegister:
      reply.mutable_registered()->set_node(kHomeNode);
      reply.mutable_registered()->set_fetches_home(true);
      send(reply);
      break;
    case wire::AgentUp::kNeedHost: {
      reply.set_request(message.request());
      wire::HostPrepared& prepared = *reply.mutable_host_prepared();
      const std::string& node = message.need_host().node();
      auto host = node == "n2" || node == "n3" || node == "n4"
                      ? host_for(node)
                      : Result<Host>(fail(ErrorKind::kNotPossible, "there is no node {}", node));
      prepared.set_ok(host.has_value());
      if (host) {
        prepared.set_node(node);
        prepared.set_address("127.0.0.1");
        prepared.set_port(host->port);
        prepared.set_token(host->token);
        prepared.set_encrypt_channels(true);
      } else {
        prepared.set_message(host.error().message());
      }
      send(reply);
      break;
    }
    case wire::AgentUp::kAnswer:
    case wire::AgentUp::kWhy: {
      const std::lock_guard lock(mutex_);
      answers_[message.request()] = std::make_unique<wire::AgentUp>(message);
      changed_.notify_all();
      break;
    }
    case wire::AgentUp::kJobStatus: {
      const std::lock_guard lock(mutex_);
      status_ = std::make_unique<wire::AgentUp>(message);
      changed_.notify_all();
      break;
    }
    case wire::AgentUp::kJobLog: {
      const std::lock_guard lock(mutex_);
      logs_.push_back(message.job_log().text());
      changed_.notify_all();
      break;
    }
    case wire::AgentUp::kFetchHome:  // there is no other job
      reply.set_request(message.request());
      reply.mutable_home_fetched()->set_ok(true);
      send(reply);
      break;
    case wire::AgentUp::kPlaceProgram:  // no agent of theirs asks
    case wire::AgentUp::kTransfer:
    case wire::AgentUp::BODY_NOT_SET:
      break;
  }
}

void TestAgents::send(const wire::AgentDown& message) {
  const auto frame = wire::encode_frame(message);
  const std::lock_guard lock(mutex_);
  if (connection_ != nullptr && frame) {
    // It may just be leaving.
    (void)!::send(connection_->get(), frame->data(), frame->size(), MSG_NOSIGNAL);
  }
}

Result<> TestAgents::start_home(pid_t pid, const std::vector<std::string>& options,
                                const std::vector<std::string>& environment) {
  std::vector<std::string> argv = {"home", "--job", std::to_string(kJob), "--pid",
                                   std::to_string(pid)};
  argv.insert(argv.end(), options.begin(), options.end());
  {
    const std::lock_guard lock(mutex_);
    status_.reset();
  }
  home_environment_ = environment;
  home_ = spawn("n1", argv, environment, -1);
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, std::chrono::seconds(60), [&] { return status_ != nullptr; })) {
    return fail(ErrorKind::kFailed, "the home agent did not say anything");
  }
  return {};
}

Result<std::unique_ptr<wire::AgentUp>> TestAgents::ask(wire::AgentDown& message,
                                                       std::chrono::seconds timeout) {
  const uint64_t request = next_request_++;
  message.set_request(request);
  send(message);
  std::unique_lock lock(mutex_);
  const bool came = changed_.wait_for(
      lock, timeout, [&] { return answers_.contains(request) || connection_ == nullptr; });
  if (!came || !answers_.contains(request)) {
    return fail(ErrorKind::kFailed, "no answer from the home agent");
  }
  auto answer = std::move(answers_[request]);
  answers_.erase(request);
  return answer;
}

Result<> TestAgents::migrate(pid_t pid, const std::string& node, std::chrono::seconds timeout) {
  wire::AgentDown message;
  message.mutable_migrate()->set_pid(pid);
  message.mutable_migrate()->set_node(node == "home" ? "" : node);
  message.mutable_migrate()->set_home(node == "home");
  auto answer = ask(message, timeout);
  if (!answer && home_left()) {
    TESS_TRY(start_home(pid, {}, home_environment_));
    answer = ask(message, timeout);
  }
  if (!answer) {
    return tl::unexpected(std::move(answer.error()));
  }
  return (*answer)->answer().ok() ? Result<>()
                                  : fail(ErrorKind::kFailed, "{}", (*answer)->answer().message());
}

// In order, that is: it has not crashed.
bool TestAgents::home_left() {
  {
    const std::lock_guard lock(mutex_);
    if (connection_ != nullptr) {
      return false;
    }
  }
  int status = -1;
  return home_ > 0 && ::waitpid(std::exchange(home_, -1), &status, 0) > 0 && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

Result<std::vector<std::string>> TestAgents::why(pid_t pid) {
  wire::AgentDown message;
  message.mutable_why_request()->set_pid(pid);
  TESS_TRY_ASSIGN(const auto answer, ask(message, std::chrono::seconds(60)));
  return std::vector<std::string>(answer->why().reason().begin(), answer->why().reason().end());
}

std::string TestAgents::node_of(pid_t pid) {
  const std::lock_guard lock(mutex_);
  if (status_ != nullptr) {
    for (const wire::JobProcess& process : status_->job_status().process()) {
      if (process.pid() == pid) {
        return process.node();
      }
    }
  }
  return {};
}

std::string TestAgents::state_of(pid_t pid) {
  const std::lock_guard lock(mutex_);
  if (status_ != nullptr) {
    for (const wire::JobProcess& process : status_->job_status().process()) {
      if (process.pid() == pid) {
        return process.state();
      }
    }
  }
  return {};
}

std::vector<std::string> TestAgents::logs() {
  const std::lock_guard lock(mutex_);
  return logs_;
}

bool TestAgents::logs_soon(const std::string& words) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(60), [&] {
    return std::any_of(logs_.begin(), logs_.end(), [&](const std::string& line) {
      return line.find(words) != std::string::npos;
    });
  });
}

void TestAgents::arm(const std::string& node, const std::string& text) {
  std::ofstream(directory_ + "/" + node + "/run/fault") << text << "\n";
}

void TestAgents::disarm(const std::string& node) {
  std::filesystem::remove(directory_ + "/" + node + "/run/fault");
}

bool TestAgents::home_running() {
  return home_ > 0 && ::kill(home_, 0) == 0 && ::waitpid(home_, nullptr, WNOHANG) == 0;
}

Result<> TestAgents::wait_home_gone(std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (::waitpid(home_, nullptr, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      return fail(ErrorKind::kRetry, "the home agent still runs");
    }
    ::usleep(2'000);
  }
  home_ = -1;
  return {};
}

void TestAgents::kill_home() {
  if (home_ > 0) {
    ::kill(home_, SIGKILL);
    ::waitpid(home_, nullptr, 0);
    home_ = -1;
  }
}

void TestAgents::kill_host(const std::string& node) {
  const auto it = hosts_.find(node);
  if (it != hosts_.end() && it->second.pid > 0) {
    ::kill(it->second.pid, SIGKILL);
    ::waitpid(it->second.pid, nullptr, 0);
    it->second.pid = -1;
  }
}

}  // namespace tess::agent
