#include "node/agent_hub.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "node/agent_hub_parts.h"
#include "node/job_id.h"
#include "sys/credentials.h"
#include "sys/files.h"
#include "sys/unix_socket.h"
#include "wire/agent_process.h"

namespace tess::node {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kExitFollows{500};

// A variable of a running process's environment.
std::string environment_of(pid_t pid, const std::string& variable) {
  const auto environment = sys::read_file(fmt::format("/proc/{}/environ", pid));
  if (!environment) {
    return {};
  }
  const std::string wanted = variable + "=";
  size_t at = 0;
  while (at < environment->size()) {
    const size_t end = std::min(environment->find('\0', at), environment->size());
    if (environment->compare(at, wanted.size(), wanted) == 0) {
      return environment->substr(at + wanted.size(), end - at - wanted.size());
    }
    at = end + 1;
  }
  return {};
}

}  // namespace

AgentHub::AgentHub(net::Loop& loop, Options options, Events events)
    : loop_(loop), options_(std::move(options)), events_(std::move(events)) {}

AgentHub::~AgentHub() {
  for (auto& [raw, session] : sessions_) {
    session->connection->close();
  }
}

Result<> AgentHub::listen() {
  TESS_TRY_ASSIGN(listener_, sys::listen_unix(options_.run_dir + "/agents.sock", 0600));
  ::fcntl(listener_.get(), F_SETFL, ::fcntl(listener_.get(), F_GETFL) | O_NONBLOCK);
  listen_watch_ = std::make_unique<net::FdWatch>(
      loop_, listener_.get(), [this] { accept(); }, nullptr);
  listen_watch_->want_read(true);
  return {};
}

// False: nobody waits.
bool AgentHub::accept() {
  sys::Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd.valid()) {
    return false;
  }
  const auto peer = sys::peer_credentials(fd);
  if (!peer || peer->uid != 0) {
    return true;  // the socket's mode says so too
  }
  auto session = std::make_shared<Session>();
  session->peer_pid = peer->pid;
  const std::weak_ptr<Session> weak = session;
  session->connection = net::Connection::plain(loop_, std::move(fd),
                                               {nullptr,
                                                [this, weak](std::span<const std::byte> bytes) {
                                                  if (const auto alive = weak.lock()) {
                                                    on_data(alive, bytes);
                                                  }
                                                },
                                                [this, weak](const Error& error) {
                                                  if (const auto alive = weak.lock()) {
                                                    on_closed(alive, error.message());
                                                  }
                                                }});
  sessions_[session->connection.get()] = session;
  return true;
}

void AgentHub::on_data(const std::shared_ptr<Session>& session, std::span<const std::byte> bytes) {
  session->reader.feed(bytes);
  while (sessions_.contains(session->connection.get())) {
    auto payload = session->reader.next();
    if (payload && !*payload) {
      return;
    }
    wire::AgentUp message;
    const Result<> decoded =
        payload ? wire::decode_payload(std::as_bytes(std::span(**payload)), message)
                : Result<>(tl::unexpected(payload.error()));
    if (!decoded) {
      drop_session(session, decoded.error().message());
      return;
    }
    on_message(session, std::move(message));
  }
}

void AgentHub::drop_session(const std::shared_ptr<Session>& session, const std::string& reason) {
  log::warn("node", "event=agent_dropped pid={} reason=\"{}\"", session->peer_pid, reason);
  session->connection->close();
  on_closed(session, reason);
}

void AgentHub::on_closed(const std::shared_ptr<Session>& session, const std::string& reason) {
  sessions_.erase(session->connection.get());
  const auto agent = std::move(session->agent);
  if (agent == nullptr || agent->connection != session->connection) {
    return;
  }
  agent->connection = nullptr;
  std::vector<uint64_t> lost;
  for (const auto& [request, pending] : pending_) {
    if (pending.agent.lock() == agent) {
      lost.push_back(request);
    }
  }
  if (lost.empty()) {
    return;
  }
  // If it has died, how it died says more than the end of its connection, which may be seen a
  // moment earlier.
  when([agent] { return !agent->ending.empty(); }, kExitFollows,
       [this, agent, lost, reason](bool) {
         const std::string& words = !agent->ending.empty()       ? agent->ending
                                    : !agent->last_words.empty() ? agent->last_words
                                                                 : reason;
         for (const uint64_t request : lost) {
           answer(request, fail(ErrorKind::kDisconnected, "the {} agent of job {} is gone: {}",
                                role_name(agent->role), job_text(agent->job), words));
         }
       });
}

// Answers a question of the agent, if it is still there.
std::function<void(wire::AgentDown)> AgentHub::answer_to(const Agent& agent, uint64_t request) {
  return [connection = std::weak_ptr<net::Connection>(agent.connection),
          request](wire::AgentDown down) {
    down.set_request(request);
    const auto alive = connection.lock();
    const auto frame = wire::encode_frame(down);
    if (alive != nullptr && frame) {
      alive->send(*frame);
    }
  };
}

void AgentHub::on_message(const std::shared_ptr<Session>& session, wire::AgentUp message) {
  if (message.has_register_()) {
    if (auto done = on_register(session, message.register_()); !done) {
      drop_session(session, done.error().message());
    }
    return;
  }
  if (session->agent == nullptr) {
    drop_session(session, "an agent must register first");
    return;
  }
  Agent& agent = *session->agent;
  if (message.has_job_status()) {
    on_status(agent, message.job_status());
  } else if (message.has_job_log()) {
    agent.last_words = message.job_log().text();
    events_.job_log(agent, message.job_log());
  } else if (message.has_transfer()) {
    events_.transfer(agent, message.transfer());
  } else if (message.has_need_host()) {
    events_.need_host(agent, message.need_host(),
                      [send = answer_to(agent, message.request())](const wire::HostPrepared& host) {
                        wire::AgentDown down;
                        *down.mutable_host_prepared() = host;
                        send(std::move(down));
                      });
  } else if (message.has_place_program()) {
    events_.place_program(agent, message.place_program(),
                          [send = answer_to(agent, message.request())](const std::string& node) {
                            wire::AgentDown down;
                            down.mutable_program_placed()->set_node(node);
                            send(std::move(down));
                          });
  } else if (message.has_fetch_home()) {
    events_.fetch_home(
        agent, message.fetch_home(),
        [send = answer_to(agent, message.request())](const Result<>& fetched) {
          wire::AgentDown down;
          down.mutable_home_fetched()->set_ok(fetched.has_value());
          down.mutable_home_fetched()->set_message(fetched ? "" : fetched.error().message());
          send(std::move(down));
        });
  } else {
    const uint64_t request = message.request();  // before the move: arguments have no order
    answer(request, std::move(message));
  }
}

Result<> AgentHub::on_register(const std::shared_ptr<Session>& session,
                               const wire::Register& message) {
  const Key key{message.role(), message.job()};
  auto found = agents_.find(key);
  if (found == agents_.end()) {
    // One that an earlier tessd has started.
    Agent agent;
    agent.job = message.job();
    agent.role = message.role();
    agent.home_node =
        message.role() == wire::Register::HOME ? options_.node_name : message.home_node();
    agent.note = message.note();
    TESS_TRY_ASSIGN(agent.process, sys::Process::open(session->peer_pid));
    if (agent.role == wire::Register::HOST) {
      auto endpoint =
          net::Endpoint::parse(environment_of(session->peer_pid, wire::kAddressVariable), 0);
      if (endpoint) {
        agent.host.endpoint = *endpoint;
        agent.host.token = wire::from_hex(environment_of(session->peer_pid, wire::kTokenVariable));
      }
    }
    const auto shared = std::make_shared<Agent>(std::move(agent));
    found = agents_.emplace(key, shared).first;
    watch_exit(shared);
    log::info("node", "event=agent_back role={} job={} pid={}", role_name(shared->role),
              job_text(shared->job), session->peer_pid);
  } else if (found->second->process.pid() != session->peer_pid) {
    return fail(ErrorKind::kBadInput, "process {} registers as agent of job {}, which is {}",
                session->peer_pid, job_text(message.job()), found->second->process.pid());
  }
  const auto agent = found->second;
  close_session_of(*agent, "it has connected anew");
  session->agent = agent;
  agent->connection = session->connection;
  wire::AgentDown down;
  down.mutable_registered()->set_node(options_.node_name);
  down.mutable_registered()->set_fetches_home(true);
  TESS_TRY_ASSIGN(const std::string frame, wire::encode_frame(down));
  agent->connection->send(frame);
  const auto starting = starting_.find(agent->job);
  if (agent->role == wire::Register::HOME && starting != starting_.end() && !starting->second.run) {
    finish_start(agent->job, agent);
  }
  check_waiters();
  return {};
}

void AgentHub::on_status(Agent& agent, const wire::JobStatus& status) {
  agent.status = status;
  agent.has_status = true;
  events_.status(agent);
  check_waiters();
  const auto starting = starting_.find(agent.job);
  if (starting == starting_.end() || agent.role != wire::Register::HOME) {
    return;
  }
  const bool has_pid = std::any_of(
      status.process().begin(), status.process().end(),
      [&](const wire::JobProcess& process) { return process.pid() == starting->second.pid; });
  if (has_pid) {
    finish_start(agent.job, agents_.at(key_of(agent)));
  } else if (status.finished()) {
    finish_start(agent.job, fail(ErrorKind::kFailed, "{}",
                                 agent.last_words.empty() ? "the agent could not take hold of it"
                                                          : agent.last_words));
  }
}

void AgentHub::answer(uint64_t request, Result<wire::AgentUp> result) {
  const auto found = pending_.find(request);
  if (found == pending_.end()) {
    return;  // too late, or unasked
  }
  const Answered answered = std::move(found->second.answered);
  pending_.erase(found);
  answered(std::move(result));
  check_waiters();
}

void AgentHub::ask(const std::shared_ptr<Agent>& agent, wire::AgentDown request,
                   milliseconds timeout, Answered answered) {
  if (!agent->connected()) {
    answered(fail(ErrorKind::kRetry, "the agent of job {} is not connected now; try again",
                  job_text(agent->job)));
    return;
  }
  const uint64_t number = next_request_++;
  request.set_request(number);
  auto frame = wire::encode_frame(request);
  if (!frame) {
    answered(tl::unexpected(std::move(frame.error())));
    return;
  }
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(timeout, [this, number, timeout] {
    answer(number, fail(ErrorKind::kRetry, "the agent has not answered within {} s",
                        timeout.count() / 1000));
  });
  pending_[number] = Pending{agent, std::move(answered), std::move(timer)};
  agent->connection->send(*frame);
}

void AgentHub::close_session_of(Agent& agent, const std::string& reason) {
  if (agent.connection == nullptr) {
    return;
  }
  const auto session = sessions_.at(agent.connection.get());
  session->connection->close();
  on_closed(session, reason);
}

// Its end may be seen before what it said, even before its connection.
void AgentHub::hear_last_words(pid_t pid) {
  while (accept()) {
  }
  std::vector<std::shared_ptr<net::Connection>> connections;
  for (const auto& [raw, session] : sessions_) {
    if (session->peer_pid == pid) {
      connections.push_back(session->connection);
    }
  }
  for (const auto& connection : connections) {
    connection->receive_now();
  }
}

void AgentHub::when(std::function<bool()> ready, milliseconds timeout,
                    std::function<void(bool)> done) {
  if (ready()) {
    done(true);
    return;
  }
  const uint64_t number = next_request_++;
  auto timer = std::make_unique<net::Timer>(loop_);
  timer->start(timeout, [this, number] { finish_waiter(number, false); });
  waiters_[number] = Waiter{std::move(ready), std::move(done), std::move(timer)};
}

void AgentHub::finish_waiter(uint64_t number, bool came) {
  const auto found = waiters_.find(number);
  if (found != waiters_.end()) {
    const auto done = std::move(found->second.done);
    waiters_.erase(found);
    done(came);
  }
}

void AgentHub::check_waiters() {
  std::vector<uint64_t> came;
  for (const auto& [number, waiter] : waiters_) {
    if (waiter.ready()) {
      came.push_back(number);
    }
  }
  for (const uint64_t number : came) {
    finish_waiter(number, true);
  }
}

// A job lists a process that has come home as its own until it ends, though another one may have
// taken it along since: whoever has it away, or moves it, is meant.
std::shared_ptr<Agent> AgentHub::home_of(pid_t pid) const {
  std::shared_ptr<Agent> native;
  for (const auto& [key, agent] : agents_) {
    if (agent->role != wire::Register::HOME) {
      continue;
    }
    if (!agent->has_status) {
      native = agent->first_pid == pid ? agent : native;
      continue;
    }
    const auto& processes = agent->status.process();
    const auto listed = std::find_if(processes.begin(), processes.end(),
                                     [pid](const auto& one) { return one.pid() == pid; });
    if (listed != processes.end() && listed->state() != "native") {
      return agent;
    }
    native = listed != processes.end() ? agent : native;
  }
  return native;
}

std::shared_ptr<Agent> AgentHub::home_agent(uint64_t job) const {
  const auto found = agents_.find({wire::Register::HOME, job});
  return found == agents_.end() ? nullptr : found->second;
}

std::shared_ptr<Agent> AgentHub::by_process(pid_t pid) const {
  for (const auto& [key, agent] : agents_) {
    if (agent->process.pid() == pid) {
      return agent;
    }
  }
  return nullptr;
}

std::vector<std::shared_ptr<Agent>> AgentHub::all() const {
  std::vector<std::shared_ptr<Agent>> list;
  for (const auto& [key, agent] : agents_) {
    list.push_back(agent);
  }
  return list;
}

}  // namespace tess::node
