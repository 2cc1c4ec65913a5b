// Makes a lab's nodes, step by step, in the supervisor. What is made is held by processes, so that
// a failure anywhere is cleaned up by ending.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "lab/node_init.h"
#include "lab/state.h"
#include "lab/supervisor.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace tess::lab {

struct RunningNode {
  sys::Process init;
  sys::Fd link;
};

struct BuildHooks {
  MakeIdentities make_identities;
  std::function<void(const std::string&)> warn;
  // Called between steps: an error (somebody wants the lab to end) stops the building.
  std::function<Result<>()> check;
};

// Furnishes and connects all nodes of `state` and starts tessd in them. Fills in and records the
// inits and cgroups. On failure `nodes` holds those already started. Changes the caller's mount and
// network namespaces.
Result<> build_lab(State& state, const BuildHooks& hooks, std::vector<RunningNode>& nodes);

}  // namespace tess::lab
