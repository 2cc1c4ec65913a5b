// For tests: whole nodes on this machine, each with its own directories and loopback address, in a
// network namespace of the test's own: real tessd and tess, and a fake agent. Everything that was
// started is ended with the object.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sys/process.h"

namespace tess::cli {

// Moves this process into a new network namespace with loopback up. False (and a message) if that
// is not possible.
bool enter_test_network();

constexpr std::chrono::seconds kPatience{60};
// Waits until `condition` holds, looking often; false after `patience`.
bool eventually(const std::function<bool()>& condition, std::chrono::seconds patience = kPatience);
bool contains(const std::string& text, const std::string& part);

struct Output {
  sys::ExitStatus status;
  std::string out;
  std::string err;
  int code() const { return status.kind == sys::ExitStatus::kExited ? status.value : -1; }
};

// A program of this build, or any other by name.
Output run_program(std::vector<std::string> argv,
                   const std::vector<std::string>& more_environment = {});
std::string build_program(const std::string& name);

class TestCa {
 public:
  TestCa();
  ~TestCa();
  const std::string& dir() const { return dir_; }

 private:
  std::string dir_;
};

class TestNode {
 public:
  TestNode(const TestCa& ca, std::string name, std::string address,
           std::map<std::string, std::string> others);
  // A machine that is no node yet.
  TestNode(std::string name, std::string address);
  ~TestNode();
  TestNode(const TestNode&) = delete;
  TestNode& operator=(const TestNode&) = delete;

  // Starts tessd and waits until it answers. `more_environment` reaches the agents too.
  void start(const std::vector<std::string>& more_environment = {});
  void write_config(const std::map<std::string, std::string>& others);
  // Starts tessd and expects it to fail.
  Output start_expecting_failure();
  sys::Process& daemon() { return daemon_; }
  // Ends tessd at once, not its agents.
  void kill_daemon();
  std::string log() const;

  Output tess(std::vector<std::string> arguments, bool as_nobody = false) const;
  nlohmann::json tess_json(std::vector<std::string> arguments) const;
  std::vector<std::string> environment() const;
  const std::string& dir() const { return dir_; }

  // Processes that this node's tessd has started: fake agents of the role ("home", "host").
  std::vector<pid_t> agents(const std::string& role) const;
  bool sees(const std::string& other) const;

 private:
  std::vector<pid_t> processes_of_this_node() const;
  std::string name_;
  std::string address_;
  std::string dir_;
  sys::Process daemon_;
};

}  // namespace tess::cli
