// This agent's connection to its node's tessd: registers, tells who is here, passes on a recall. On
// the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "net/agent_socket.h"

namespace tess::wire {
class AgentDown;
class AgentUp;
class JobStatus;
}  // namespace tess::wire

namespace tess::host {

class TessdClient {
 public:
  struct Handlers {
    std::function<void(wire::JobStatus&)> fill_status;
    std::function<void()> recall;  // tessd stops: everybody goes home
  };
  TessdClient(net::Loop& loop, std::string socket_path, uint64_t job, std::string home_node,
              Handlers handlers);

  void send_status(bool finished = false);
  void send(const wire::AgentUp& message) { tessd_.send(message); }
  // Answers a recall that is pending, if any.
  void recall_done();

 private:
  void introduce();
  void handle(const wire::AgentDown& message);

  const uint64_t job_;
  const std::string home_node_;
  const Handlers handlers_;
  net::AgentSocket tessd_;
  uint64_t recall_request_ = 0;
};

}  // namespace tess::host
