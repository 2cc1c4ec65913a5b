// The home agent's connection to its node's tessd: what tessd asks of the job, and what the job
// asks of tessd. Main thread only.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "home/host_link.h"
#include "net/agent_socket.h"
#include "net/loop.h"

namespace tess::wire {
class AgentDown;
class AgentUp;
class JobStatus;
}  // namespace tess::wire

namespace tess::home {

class TessdClient {
 public:
  struct Handlers {
    std::function<void(wire::JobStatus&)> fill_status;
    std::function<void(const wire::AgentDown&)> request;  // Migrate, Why, BringHome
  };
  // `note`: what tessd gave this agent to keep; told at each registration.
  TessdClient(net::Loop& loop, std::string socket_path, uint64_t job, std::string note,
              Handlers handlers);

  const std::string& node() const { return node_; }  // our own; empty until tessd has said it
  void send_status(bool finished = false);
  void answer(uint64_t request, bool ok, const std::string& message);
  void send(const wire::AgentUp& message) { tessd_.send(message); }
  void log(pid_t pid, const std::string& text);
  // A host agent for this job on a node. `done` is called once.
  void need_host(const std::string& node, uint64_t memory_bytes, const std::string& cpu_features,
                 std::function<void(Result<HostAddress>)> done);
  // Where a program runs that `pid` has just executed; empty: at home, also if tessd does not say.
  void place_program(pid_t pid, uint64_t work_ns, std::function<void(const std::string&)> done);
  // That process of whichever job comes home. kRetry: tessd is not there, too old, or went away.
  void fetch_home(pid_t pid, std::function<void(const Result<>&)> done);

 private:
  struct Question {
    std::function<void(Result<HostAddress>)> done;
    std::unique_ptr<net::Timer> timer;
  };
  void introduce(bool again);
  void lost();
  void handle(const wire::AgentDown& message);
  void finish_question(uint64_t request, Result<HostAddress> result);

  net::Loop& loop_;
  const uint64_t job_;
  const std::string note_;
  const Handlers handlers_;
  net::AgentSocket tessd_;
  std::string node_;
  bool fetches_home_ = false;  // whether this tessd knows that question
  uint64_t next_question_ = uint64_t{1} << 63;
  std::map<uint64_t, Question> questions_;
  struct Placing {
    std::function<void(const std::string&)> done;
    std::unique_ptr<net::Timer> timer;
  };
  void finish_placing(uint64_t request, const std::string& node);
  std::map<uint64_t, Placing> placings_;
  struct Fetching {
    std::function<void(const Result<>&)> done;
    std::unique_ptr<net::Timer> timer;
  };
  void finish_fetching(uint64_t request, const Result<>& result);
  std::map<uint64_t, Fetching> fetchings_;
};

}  // namespace tess::home
