// AgentHub: the agents of this node. Starts them, answers them on agents.sock (wire/node.proto),
// keeps what each last said about its job, and notices when one ends. An agent outlives tessd:
// after a restart it connects again, and everything known here is learnt again (a host agent's
// address and token from its environment, wire/agent_process.h). Loop thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/connection.h"
#include "net/loop.h"
#include "sys/fd.h"
#include "sys/process.h"
#include "wire/frame.h"
#include "wire/node.pb.h"

namespace tess::node {

struct HostAddress {
  net::Endpoint endpoint;
  std::string token;
};

struct Agent {
  uint64_t job = 0;
  wire::Register::Role role = wire::Register::HOME;
  std::string home_node;
  sys::Process process;
  bool our_child = false;
  pid_t first_pid = 0;  // home: --pid, until the first status
  HostAddress host;     // host agents only
  std::string note;     // home agents: theirs to keep for us
  std::string log_path;
  std::string last_words;  // of its last JobLog
  std::string ending;      // how it ended, once it has
  bool ended_well = false;

  std::shared_ptr<net::Connection> connection;  // null while it is not connected
  wire::JobStatus status;
  bool has_status = false;

  bool connected() const { return connection != nullptr; }
};

class AgentHub {
 public:
  using AgentRef = std::weak_ptr<Agent>;
  using Started = std::function<void(Result<std::shared_ptr<Agent>>)>;
  using Answered = std::function<void(Result<wire::AgentUp>)>;

  struct Options {
    std::string run_dir;
    std::string agent_binary;
    std::string node_name;
  };
  struct Events {
    // The hub owes the agent an answer: call `reply` once, any time.
    std::function<void(const Agent&, const wire::NeedHost&,
                       std::function<void(const wire::HostPrepared&)> reply)>
        need_host;
    std::function<void(const Agent&, const wire::JobLog&)> job_log;
    std::function<void(const Agent&, const wire::Transfer&)> transfer;
    // The same, about a program that was just executed: `reply` with a node, empty for home.
    std::function<void(const Agent&, const wire::PlaceProgram&,
                       std::function<void(const std::string& node)> reply)>
        place_program;
    // `reply` when that process is at home, or cannot be brought there.
    std::function<void(const Agent&, const wire::FetchHome&,
                       std::function<void(const Result<>&)> reply)>
        fetch_home;
    std::function<void(const Agent&)> status;  // a new one, or it has ended
  };

  AgentHub(net::Loop& loop, Options options, Events events);
  ~AgentHub();
  Result<> listen();

  // Starts a home agent. `started` comes when it has registered, with `run` only when it holds
  // `pid` (its status lists it).
  void start_home(uint64_t job, pid_t pid, bool run, const std::string& node,
                  const std::string& note, Started started, bool place = false);

  // A host agent for the job: the one that runs, or a new one that listens on `listen_address`.
  Result<HostAddress> host_for(uint64_t job, const std::string& home_node,
                               const std::string& listen_address);

  // null if there is none.
  std::shared_ptr<Agent> home_agent(uint64_t job) const;
  // The home agent that has this process in its job; null if none.
  std::shared_ptr<Agent> home_of(pid_t pid) const;
  // Any agent process of ours with that pid.
  std::shared_ptr<Agent> by_process(pid_t pid) const;
  std::vector<std::shared_ptr<Agent>> all() const;

  // Sends a request; `answered` comes once: the answer, or why there is none (agent gone, or
  // `timeout`).
  void ask(const std::shared_ptr<Agent>& agent, wire::AgentDown request,
           std::chrono::milliseconds timeout, Answered answered);

  // Calls `done(true)` as soon as `ready` holds (looked at whenever an agent registers, tells its
  // status or ends), or `done(false)` when the time is over.
  void when(std::function<bool()> ready, std::chrono::milliseconds timeout,
            std::function<void(bool)> done);

 private:
  struct Session;
  struct Pending;
  struct Starting;
  struct Waiter;

  bool accept();
  void on_data(const std::shared_ptr<Session>& session, std::span<const std::byte> bytes);
  void on_closed(const std::shared_ptr<Session>& session, const std::string& reason);
  void on_message(const std::shared_ptr<Session>& session, wire::AgentUp message);
  static std::function<void(wire::AgentDown)> answer_to(const Agent& agent, uint64_t request);
  Result<> on_register(const std::shared_ptr<Session>& session, const wire::Register& message);
  void on_status(Agent& agent, const wire::JobStatus& status);
  void answer(uint64_t request, Result<wire::AgentUp> result);
  void close_session_of(Agent& agent, const std::string& reason);
  void drop_session(const std::shared_ptr<Session>& session, const std::string& reason);
  Result<std::shared_ptr<Agent>> spawn(Agent agent, std::vector<std::string> arguments,
                                       const sys::Fd* listener);
  void watch_exit(const std::shared_ptr<Agent>& agent);
  void on_exit(const std::shared_ptr<Agent>& agent);
  void finish_start(uint64_t job, Result<std::shared_ptr<Agent>> result);
  std::string ending_of(Agent& agent);
  void hear_last_words(pid_t pid);
  void check_waiters();
  void finish_waiter(uint64_t number, bool came);

  using Key = std::pair<int, uint64_t>;  // role, job
  static Key key_of(const Agent& agent) { return {agent.role, agent.job}; }

  net::Loop& loop_;
  Options options_;
  Events events_;
  sys::Fd listener_;
  std::unique_ptr<net::FdWatch> listen_watch_;
  std::map<Key, std::shared_ptr<Agent>> agents_;
  std::map<Key, std::unique_ptr<net::FdWatch>> exit_watches_;
  std::map<net::Connection*, std::shared_ptr<Session>> sessions_;
  std::map<uint64_t, Pending> pending_;
  std::map<uint64_t, Starting> starting_;  // by job
  std::map<uint64_t, Waiter> waiters_;
  uint64_t next_request_ = 1;
};

}  // namespace tess::node
