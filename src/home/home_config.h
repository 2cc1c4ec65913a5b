// What a home agent is started with (src/agent/main.cc).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace tess::home {

struct HomeConfig {
  uint64_t job = 0;
  pid_t pid = 0;
  bool run = false;    // a `tess run` job: seized at once, placed at exec
  bool place = false;  // tessd says where each program runs that it executes
  std::string node;    // where to; empty: nowhere yet
  std::string note;    // kept for tessd
  std::string state_dir;
  std::string run_dir;
};

// Exit status for main(). Call before any other thread exists.
int run(const HomeConfig& config);

}  // namespace tess::home
