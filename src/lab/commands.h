// What the subcommands of `tess lab` do; options are parsed by then. Each prints its result and
// returns why it failed.
#pragma once

#include <string>

#include "base/result.h"
#include "lab/state.h"
#include "lab/supervisor.h"

namespace tess::lab {

// spec.tessd empty: the one beside this program.
Result<> up(Spec spec, bool as_json, const MakeIdentities& make_identities);
Result<> down(const std::string& name);
Result<> status(const std::string& name, bool as_json);
Result<> list(bool as_json);

enum class NodeAction { kStart, kStop, kKill };
// kStart, kStop: its tessd, in order; returns when it answers or is gone. kKill: the whole node
// vanishes, as by a power failure.
Result<> act_on_node(const std::string& name, const std::string& node, NodeAction action);

// The state of a lab that is up. Sweeps first what dead labs have left.
Result<State> live_lab(const std::string& name);

}  // namespace tess::lab
