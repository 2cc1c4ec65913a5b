// What an AgentHub keeps for each connection, question and start. For agent_hub*.cc only.
#pragma once

#include "node/agent_hub.h"

namespace tess::node {

constexpr uint32_t kFrameLimit = 4 << 20;

inline const char* role_name(wire::Register::Role role) {
  return role == wire::Register::HOME ? "home" : "host";
}

struct AgentHub::Session {
  std::shared_ptr<net::Connection> connection;
  wire::FrameReader reader{kFrameLimit};
  std::shared_ptr<Agent> agent;  // after Register
  pid_t peer_pid = 0;
};

struct AgentHub::Pending {
  std::weak_ptr<Agent> agent;
  Answered answered;
  std::unique_ptr<net::Timer> timer;
};

struct AgentHub::Waiter {
  std::function<bool()> ready;
  std::function<void(bool)> done;
  std::unique_ptr<net::Timer> timer;
};

struct AgentHub::Starting {
  pid_t pid = 0;
  bool run = false;
  Started started;
  std::unique_ptr<net::Timer> timer;
};

}  // namespace tess::node
