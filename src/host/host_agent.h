// The host agent: lends this node to the bodies of one job. Listens for the home agent (TLS link
// and streams, raw channels), keeps the sandbox, restores bodies, freezes and captures them again.
// Returns when no body is left and the home agent has said goodbye or is gone. Guarantee: no body
// outlives the agent or the link to its home agent, whatever happens; nothing of it stays behind.
#pragma once

#include <cstdint>
#include <string>

#include "sys/fd.h"

namespace tess::host {

struct HostConfig {
  uint64_t job = 0;
  std::string home_node;  // the only node (by certificate) that may open the link
  std::string token;      // 32 bytes
  sys::Fd listen_fd;      // TCP, already listening
  std::string state_dir;  // certificates
  std::string run_dir;    // agents.sock, hash cache
  std::string cache_dir;  // content store; empty: $TESS_CACHE_DIR or /var/cache/tessera
  uint32_t sandbox_uid = 65534;
  bool force_vdso_patch = false;  // test: never move the host's vDSO, always patch home's
};

// Exit status for main(). Call before any other thread exists: the sandbox's init is forked from
// here.
int run(HostConfig config);

}  // namespace tess::host
