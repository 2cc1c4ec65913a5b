// For tests: one home and several hosts on this machine, each a real tess-agent with its own
// certificate, and a stand-in for tessd that starts them and passes on what the test wants.
// Everything ends with the object.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::wire {
class AgentDown;
class AgentUp;
}  // namespace tess::wire

namespace tess::agent {

class TestAgents {
 public:
  TestAgents();
  ~TestAgents();
  TestAgents(const TestAgents&) = delete;
  TestAgents& operator=(const TestAgents&) = delete;

  // Starts a home agent for a process; returns when it has registered.
  Result<> start_home(pid_t pid, const std::vector<std::string>& options = {},
                      const std::vector<std::string>& environment = {});
  // To a node ("n2", "n3", …) or "home"; waits for the answer. As tessd does, it starts another
  // home agent if that has left meanwhile, since it had nothing to hold.
  Result<> migrate(pid_t pid, const std::string& node,
                   std::chrono::seconds timeout = std::chrono::seconds(60));
  Result<std::vector<std::string>> why(pid_t pid);
  // Where the last status says that the process runs; empty if it is not in it.
  std::string node_of(pid_t pid);
  std::string state_of(pid_t pid);
  std::vector<std::string> logs();
  // Waits for a line of the log with these words: what a program does may be seen before it. False
  // if none comes.
  bool logs_soon(const std::string& words);
  // Arms fault points at home or on a host (the run directory's file).
  void arm(const std::string& node, const std::string& text);
  void disarm(const std::string& node);
  bool home_running();
  Result<> wait_home_gone(std::chrono::seconds timeout);
  void kill_home();
  void kill_host(const std::string& node);
  const std::string& directory() const { return directory_; }

 private:
  struct Host {
    pid_t pid = -1;
    uint16_t port = 0;
    std::string token;
  };
  void serve();
  void handle(const wire::AgentUp& message);
  void send(const wire::AgentDown& message);
  Result<Host> host_for(const std::string& node);
  bool home_left();
  pid_t spawn(const std::string& node, const std::vector<std::string>& argv,
              std::vector<std::string> environment, int fd3);
  Result<std::unique_ptr<wire::AgentUp>> ask(wire::AgentDown& message,
                                             std::chrono::seconds timeout);

  std::string directory_;
  std::string binary_;
  sys::Fd listener_;
  sys::Fd wake_;
  std::thread server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<sys::Fd> connection_;
  std::map<uint64_t, std::unique_ptr<wire::AgentUp>> answers_;
  std::unique_ptr<wire::AgentUp> status_;
  std::vector<std::string> logs_;
  std::map<std::string, Host> hosts_;
  pid_t home_ = -1;
  std::vector<std::string> home_environment_;
  uint64_t next_request_ = 1;
  bool stopping_ = false;
};

}  // namespace tess::agent
