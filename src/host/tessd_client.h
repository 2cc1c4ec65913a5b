// This agent's connection to its node's tessd (run_dir/agents.sock): registers, tells who is here,
// passes on a recall. Reconnects every second; the agent goes on without it. On the loop's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "net/loop.h"
#include "sys/fd.h"
#include "wire/frame.h"

namespace tess::wire {
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
  ~TessdClient();

  void send_status(bool finished = false);
  // Answers a recall that is pending, if any.
  void recall_done();

 private:
  void connect();
  void lost();
  void readable();
  void send(const wire::AgentUp& message);

  net::Loop& loop_;
  const std::string path_;
  const uint64_t job_;
  const std::string home_node_;
  const Handlers handlers_;
  net::Timer retry_;
  sys::Fd socket_;
  std::unique_ptr<net::FdWatch> watch_;
  wire::FrameReader reader_;
  uint64_t recall_request_ = 0;
};

}  // namespace tess::host
