// One process of a job, as its home agent knows it. Owned by the main thread; a migration in
// progress (busy) uses placement, session and host from its worker thread while all threads are
// parked.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "home/host_link.h"
#include "home/injector.h"
#include "home/reaped_children.h"
#include "home/shared_object.h"
#include "net/loop.h"
#include "stub/session.h"

namespace tess::home {

struct Managed {
  enum class State { kNative, kDeputy };

  pid_t pid = 0;
  int32_t inner_pid = 0;  // as the application sees it
  State state = State::kNative;
  bool busy = false;                // a migration is in progress
  bool executed_meanwhile = false;  // another program, while busy
  std::string moving_to;            // the node it is moving to while busy; empty: home
  std::vector<std::function<void(const Result<>&)>> waiting;  // for its end
  bool stays_seized = false;    // of a `tess run` job: traced when native, too
  bool let_go = false;          // on its way home to trace or be traced: must not be ours there
  std::string placed_on;        // where a program that it executes is to run; empty: at home
  bool put_by_hand = false;     // a person has moved it: its programs run there
  bool began = false;           // has executed a program since it is ours
  std::string program;          // what it has executed, if programs are placed
  uint64_t program_cpu_ns = 0;  // what the process had used by then
  bool by_root = false;         // its last move was asked for by one who may move every process
  uint32_t moves = 0;
  uint32_t attempts = 0;        // of the move it is waiting for
  uint32_t failed_returns = 0;  // in a row, for calls that only home can make
  uint32_t gatherings = 0;      // tries in a row to bring it to what it wants to share
  bool gathers = false;         // the next one is about to begin
  // What it comes home to map, and when it last said so or came.
  std::optional<std::pair<ObjectKey, std::chrono::steady_clock::time_point>> wish;

  // While away, or on the way.
  Placement placement;
  std::shared_ptr<stub::Session> session;
  std::shared_ptr<HostLink> host;
  std::unique_ptr<net::FdWatch> watch;  // of the mailbox, while nobody else reads it
  std::function<void()> on_parked;      // called once, when kAllParked comes
  // A stop had hold of it when it was released: it has not left its rest yet.
  bool release_unanswered = false;
  std::function<void()> on_released;  // called once, when it has
  uint32_t unsupported_call = 0;      // last one reported

  // For people.
  uint64_t cpu_home_ns = 0;
  uint64_t cpu_hosts_settled_ns = 0;  // on hosts that it has left
  uint64_t cpu_host_ns = 0;           // where it is
  uint64_t memory_bytes = 0;

  // What its parent's wait would not tell of it (children_time.cc): used on hosts that it has left,
  // and counted by no clock of its own since.
  int64_t cpu_uncounted_ns = 0;
  bool ending_told = false;
  bool body_ended = false;  // its host has said so before its own end has been seen

  ReapedChildren reaped_children;  // while it is at home

  std::string where() const { return host == nullptr ? std::string() : host->host().node; }
};

}  // namespace tess::home
