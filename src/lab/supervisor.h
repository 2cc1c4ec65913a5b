// The two processes behind a running lab.
//
//   keeper      ends last: waits for the supervisor and (as their subreaper) for every init, then
//   sweeps cgroups and the lab's directory supervisor  holds the lab: lives in the switch's network
//   namespace, has the node inits as children, stops them in order
//
// Who dies how: supervisor killed: inits get SIGKILL by their parent death signal, the keeper
// sweeps. Keeper killed: the supervisor gets SIGTERM, ends the lab in order and sweeps itself. Both
// killed: the next `tess lab` command sweeps. `tess lab up` killed before it has confirmed: the
// supervisor sees the end of file and ends the lab.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "lab/state.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace tess::lab {

// Makes the cluster's CA and one certificate (ca.crt, node.crt, node.key) for each node name in
// base_directory/<node name>/.
using MakeIdentities = std::function<Result<>(const std::string& base_directory,
                                              const std::vector<std::string>& node_names)>;

// Messages from keeper and supervisor to `up`, one byte and text; `up` answers kReady with one
// byte, the confirmation.
enum class News : char {
  kRecorded = 'k',  // the state is written: the lock over the labs may go
  kWarning = 'w',
  kReady = 'r',
  kFailed = 'f',
};
Result<> send_news(const sys::Fd& link, News news, const std::string& text = {});

// Starts the keeper of a new lab, which makes the lab's directory: whatever happens to the caller,
// what exists has somebody to remove it. `link`: the lab's end of a SOCK_SEQPACKET pair.
Result<sys::Process> start_keeper(const State& state, sys::Fd link,
                                  const MakeIdentities& make_identities);

// Does the tessd of this node answer on its control socket?
bool tessd_answers(const NodeState& node);

}  // namespace tess::lab
