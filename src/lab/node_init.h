// Pid 1 of a node: makes the node's world, starts tessd, reaps whatever is orphaned in the node,
// and ends the node.
//
// Signals: SIGTERM: stop tessd (20 s, then by force) and end, and the kernel ends every other
// process of the node with it. SIGUSR1: start tessd if it does not run. SIGUSR2: stop it. It dies
// with the supervisor (parent death signal), so that no node outlives its lab.
#pragma once

#include <string>

#include "base/result.h"
#include "lab/node_root.h"
#include "sys/cgroup.h"
#include "sys/fd.h"

namespace tess::lab {

// Steps the init and the supervisor agree on, one byte each as a message on the link. Init: kBorn
// (namespaces made, network may be put in), kFurnished (files are there), kTessdEnded + text,
// kFailed + text. Supervisor: kFurnish, kStart.
enum class Step : char {
  kBorn = 'b',
  kFurnished = 'f',
  kTessdEnded = 'e',
  kFailed = 'x',
  kFurnish = 'm',
  kStart = 's',
};

struct NodePlan {
  bool server = false;
  NodeFiles files;
  std::vector<std::string> cgroups;
  std::string tessd;  // path as seen inside the node
  std::vector<std::string> environment;
};

Result<> send_step(const sys::Fd& link, Step step, const std::string& text = {});
struct ReceivedStep {
  Step step;
  std::string text;
};
// kDisconnected at end of file.
Result<ReceivedStep> receive_step(const sys::Fd& link);

// The body of the init, in a child just forked into a new pid namespace. `log`: where tessd's
// output goes. Returns its exit status.
int node_init(const NodePlan& plan, sys::Fd link, sys::Fd log);

}  // namespace tess::lab
