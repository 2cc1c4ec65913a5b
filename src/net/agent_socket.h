// An agent's connection to its node's tessd (run_dir/agents.sock). Reconnects every second; the
// agent goes on without it. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/loop.h"
#include "sys/fd.h"
#include "wire/frame.h"

namespace tess::wire {
class AgentDown;
class AgentUp;
}  // namespace tess::wire

namespace tess::net {

class AgentSocket {
 public:
  struct Handlers {
    std::function<void(bool again)> connected;  // introduce yourself; `again`: after a loss
    std::function<void(const wire::AgentDown&)> message;
    std::function<void()> lost;
  };
  // Nothing happens before start().
  AgentSocket(Loop& loop, std::string path, Handlers handlers);
  AgentSocket(const AgentSocket&) = delete;
  AgentSocket& operator=(const AgentSocket&) = delete;

  void start() { connect(); }
  bool connected() const { return socket_.valid(); }
  // Dropped without a word if tessd is not there: it is told everything anew when it comes.
  void send(const wire::AgentUp& message);

 private:
  void connect();
  void disconnect();
  void readable();

  Loop& loop_;
  const std::string path_;
  const Handlers handlers_;
  Timer retry_;
  bool was_connected_ = false;
  sys::Fd socket_;
  std::unique_ptr<FdWatch> watch_;
  wire::FrameReader reader_;
};

}  // namespace tess::net
