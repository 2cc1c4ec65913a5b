// The sandbox of one job on this host, from the agent's side: user, pid, mount (empty root), net,
// ipc, uts and time namespaces with an init of ours as pid 1, in which bodies have their home pids.
// Dies with the agent, and all bodies with it. spawn, open and start may be called by any thread;
// create only while the caller has no other thread.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tess::host {

struct InitRequest;

class Sandbox {
 public:
  // Makes all but the pid namespace, which waits for the clocks. `uid` is who the bodies are for
  // the host's kernel.
  static Result<std::unique_ptr<Sandbox>> create(uint32_t uid);
  ~Sandbox();
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;

  // Sets the clocks so that CLOCK_MONOTONIC and BOOTTIME of the bodies go on from these values now,
  // and starts pid 1. Only the first call does anything: clocks of a time namespace cannot be set
  // again.
  Result<> start(int64_t monotonic_ns, int64_t boottime_ns);
  // What home's clocks are ahead of this node's by: start() goes by this then, since readings that
  // come with an image have been under way for a while.
  void know_home(int64_t monotonic_ahead_ns, int64_t boottime_ahead_ns);
  // What the bodies read at this moment. Only after start().
  int64_t monotonic_ns() const;
  int64_t boottime_ns() const;

  struct BodyProcess {
    sys::Fd pidfd;
    pid_t outer_pid = -1;  // in the agent's pid namespace
  };
  // A blank body that will be `pid` inside, its leader in `slot`; its stub answers on the other end
  // of `mailbox`.
  Result<BodyProcess> spawn(int32_t pid, uint64_t region_base, uint32_t slot, uint64_t job,
                            const sys::Fd& mailbox);
  // A process that is there already (a child that a body made). kDisconnected if there is none.
  Result<BodyProcess> open(int32_t pid);

  // All processes that pid 1 is the parent of, with the socket that stands at kBodyFdBase in each
  // (0: none).
  struct Child {
    int32_t pid;
    BodyProcess process;
    uint64_t mailbox_inode;
  };
  std::vector<Child> children();

  // Readable when bodies have ended; then call next_exit until nullopt.
  const sys::Fd& exits() const { return exits_; }
  struct Exit {
    int32_t pid;
    int wait_status;
    bool spawned;  // by spawn(); else a body has made it
  };
  Result<std::optional<Exit>> next_exit();

  // Kills everything inside and waits for the end of it.
  void kill();

 private:
  Sandbox(sys::Fd requests, sys::Fd exits, pid_t stage)
      : requests_(std::move(requests)), exits_(std::move(exits)), stage_(stage) {}
  Result<> set_up(uint32_t uid);
  Result<> set_clocks(int64_t monotonic_ns, int64_t boottime_ns);
  // Sends one request (with a descriptor, or -1) and waits for its reply and the descriptor in it.
  Result<sys::Fd> ask(const InitRequest& request, int fd);
  Result<sys::Fd> ask_locked(const InitRequest& request, int fd);
  Result<sys::Fd> wait_reply();
  Result<BodyProcess> process_of(sys::Fd pidfd);

  std::mutex mutex_;  // one request at a time; workers of several bodies ask
  sys::Fd requests_;
  sys::Fd exits_;
  pid_t stage_ = -1;  // first stage, then -1
  sys::Fd init_;      // pidfd of pid 1
  bool started_ = false;
  std::set<int32_t> spawned_;  // living pids that spawn() has made
  struct HomeAhead {
    int64_t monotonic_ns;
    int64_t boottime_ns;
  };
  std::optional<HomeAhead> home_;
  int64_t monotonic_offset_ = 0;  // body clock - our clock
  int64_t boottime_offset_ = 0;
};

}  // namespace tess::host
